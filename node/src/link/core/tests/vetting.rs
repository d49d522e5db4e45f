//! What LND offers although it has ended it.

use super::*;
use mux_raft::machine::command::FinalOutcome;
use mux_raft::machine::model::InvoiceState;

fn channel_is_gone(rig: &mut Rig) {
    rig.tell(|core, state, now| core.channels(BTreeSet::new(), state, now));
}

#[test]
fn what_lnd_has_ended_is_not_offered_to_the_log_though_lnd_offers_it() {
    let mut rig = Rig::new();
    channel_is_gone(&mut rig);
    rig.looked_up.insert(0, LookedUp::Ended(FinalOutcome::Failed));
    rig.open();
    rig.offer(request(1, 0, AMOUNT));
    rig.offer(request(2, 1, AMOUNT));
    rig.pass(2_000);
    assert_eq!(rig.sent, [(htlc(1), "settle")], "the other is alive");
    assert_eq!((rig.offers_proposed(), rig.verdict(0)), (1, None));
}

#[test]
fn a_part_that_ended_between_two_streams_leaves_its_set() {
    let mut rig = Rig::up();
    rig.no_auto_settle();
    rig.offer(request(1, 0, AMOUNT));
    rig.close();
    channel_is_gone(&mut rig);
    rig.looked_up.insert(0, LookedUp::Ended(FinalOutcome::Failed));
    rig.open();
    let before = rig.offers_proposed();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!(rig.offers_proposed(), before);
    let state = rig.log.state().find_invoice(&hash(1)).unwrap().map(|found| found.invoice.state);
    assert_eq!(state, Some(InvoiceState::Open), "its set is not complete any more");
    rig.settle(1);
    rig.pass(2_000);
    assert_eq!(rig.sent, [], "LND has no HTLC to answer");
}

#[test]
fn an_htlc_of_which_lnd_says_nothing_waits_and_lnd_is_asked_again() {
    let mut rig = Rig::up();
    channel_is_gone(&mut rig);
    rig.looked_up.insert(0, LookedUp::Failed);
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!((rig.look_ups, rig.offers_proposed()), (1, 0));
    rig.pass(1);
    assert_eq!(rig.look_ups, 1, "not at once");
    rig.looked_up.clear();
    rig.pass(super::super::REJECTED_RETRY_MS);
    assert_eq!((rig.look_ups, rig.sent.as_slice()), (2, [(htlc(0), "settle")].as_slice()));
}

#[test]
fn nobody_is_asked_about_htlcs_of_active_channels() {
    let mut rig = Rig::up();
    rig.offer(request(1, 0, AMOUNT));
    assert_eq!((rig.look_ups, rig.sent.as_slice()), (0, [(htlc(0), "settle")].as_slice()));
}

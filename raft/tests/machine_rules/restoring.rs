//! A restored state asks LND before it decides.

use crate::support::*;
use mux_raft::machine::State;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::machine::restoring::{DifferenceKind, Restored};
use mux_raft::types::*;

/// The world goes on from its own backup as a new cluster, an hour later; links are not up yet.
fn restore(world: &mut World) {
    let before = world.state.chain_hash();
    world.state.begin_anew();
    assert_ne!(world.state.chain_hash(), before, "never taken for the old cluster");
    world.term += 1;
    world.time_ms += 3_600_000 / 2;
    world.next_term();
    world.run(Command::Tick);
}

fn connect(world: &mut World, number: u8) {
    world.assign(number, 1);
    world.up(number, 1, number + 100);
    world.report(number, HEIGHT);
}

fn restored(world: &World) -> &Restored {
    world.state.restored().unwrap()
}

fn raised(nodes: u8) -> World {
    let mut world = World::auto(nodes);
    world.run(Command::raise_feature_level());
    world
}

#[test]
fn nothing_in_doubt_means_nothing_to_wait_for() {
    let mut world = raised(1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    world.end(1, 1, FinalOutcome::Settled);
    restore(&mut world);
    assert!(!world.state.is_reconciling());
    connect(&mut world, 1);
    assert_eq!(world.judge(1, offer(2, 2)), Verdict::Settle);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle, "what was paid stays paid");
}

#[test]
fn while_an_htlc_is_in_doubt_nothing_is_decided_and_nothing_fails() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    assert!(world.state.is_reconciling());
    connect(&mut world, 2);
    world.hold(2, offer(2, 1));
    let report = world.state.gate_report(&hash(2)).unwrap();
    assert_eq!(report.obstacles[0].cause, mux_raft::machine::ObstacleCause::Reconciling);
    let cancel = world.cancel(1, CancelScope::Invoice);
    assert!(matches!(cancel, Reply::Rejected(Rejection::Invalid(_))), "another part may have been settled");
    world.pass(200_000);
    assert_eq!(world.verdict(1, 1), None, "its set is far beyond its time");
    assert_eq!(world.verdict(2, 1), None);
}

#[test]
fn an_htlc_that_is_offered_again_was_not_answered() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    connect(&mut world, 2);
    assert!(world.state.is_reconciling());
    world.hold(1, part(1, 1, 400, 1000));
    assert!(!world.state.is_reconciling());
    assert!(restored(&world).differences.is_empty());
    assert_eq!(world.judge(2, part(1, 1, 600, 1000)), Verdict::Settle);
}

#[test]
fn a_part_that_lnd_settled_proves_the_decision_for_the_rest() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    world.down(2);
    world.hold(1, part(1, 2, 300, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    assert_eq!(world.offer(1, part(1, 2, 300, 1000)), OfferReply::Held);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.verdict(1, 2), Some(Verdict::Settle), "its preimage is out");
    assert_eq!(restored(&world).differences.len(), 1);
    assert_eq!(restored(&world).differences[0].kind, DifferenceKind::SettledSince);
    assert!(world.alarms.is_empty(), "the decision was taken, only the backup does not know it");
    // The third part came after the backup.
    connect(&mut world, 2);
    assert_eq!(world.judge(2, part(1, 7, 300, 1000)), Verdict::Settle);
    world.end(1, 2, FinalOutcome::Settled);
    world.end(2, 7, FinalOutcome::Settled);
    let found = world.find(1);
    assert_eq!((found.state, found.received_msat), (InvoiceState::Settled, Msat(1000)));
}

#[test]
fn a_proved_payment_whose_other_parts_nobody_knows_is_partial() {
    let mut world = raised(1);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settling, "parts that came after the backup may follow");
    world.pass(11_000);
    let found = world.find(1);
    assert_eq!((found.state, found.received_msat), (InvoiceState::Partial, Msat(400)));
}

#[test]
fn a_proved_set_waits_for_parts_at_nodes_that_were_not_heard_from_yet() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    world.pass(60_000);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
    connect(&mut world, 2);
    assert_eq!(world.judge(2, part(1, 7, 600, 1000)), Verdict::Settle, "the preimage is out");
    world.end(2, 7, FinalOutcome::Settled);
    assert_eq!(world.find(1).state, InvoiceState::Settled);
}

#[test]
fn an_operator_does_not_have_to_wait_for_a_node_that_never_comes_back() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    world.pass(60_000);
    assert_eq!(world.state_of(1), InvoiceState::Settling, "node 2 may hold the rest");
    assert_eq!(world.run(Command::AcceptRestoration), Reply::Done);
    world.pass(11_000);
    assert_eq!(world.find(1).state, InvoiceState::Partial);
}

#[test]
fn no_deadline_fails_a_set_in_doubt_and_a_late_proof_still_settles_it() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    let mut late = part(1, 1, 300, 1000);
    late.incoming_expiry += 1_000;
    world.hold(2, late.clone());
    restore(&mut world);
    connect(&mut world, 2);
    assert_eq!(world.offer(2, late), OfferReply::Held);
    // Far beyond the first part's time, and beyond what is remembered of failures.
    world.report(2, EXPIRY + 200);
    world.pass(20_000);
    assert_eq!((world.verdict(1, 1), world.verdict(2, 1)), (None, None));
    assert!(world.state.is_reconciling());
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.verdict(2, 1), Some(Verdict::Settle));
    assert_eq!(restored(&world).differences[0].kind, DifferenceKind::SettledSince);
}

#[test]
fn a_set_in_doubt_that_goes_on_chain_waits_for_the_word_on_its_other_parts() {
    for settled in [true, false] {
        let mut world = raised(2);
        world.hold(1, part(1, 1, 400, 1000));
        world.hold(2, part(1, 1, 300, 1000));
        restore(&mut world);
        connect(&mut world, 1);
        connect(&mut world, 2);
        world.offer(2, on_chain(part(1, 1, 300, 1000)));
        assert_eq!(world.verdict(2, 1), None);
        let outcome = if settled { FinalOutcome::Settled } else { FinalOutcome::Failed };
        world.end(1, 1, outcome);
        match world.verdict(2, 1) {
            Some(Verdict::Settle) => assert!(settled),
            Some(verdict) => assert_eq!((settled, details(verdict)), (false, DetailsCause::OnChain)),
            None => panic!("decided either way"),
        }
    }
}

#[test]
fn a_part_that_came_after_the_backup_is_not_refused_before_the_proof() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 2);
    // Its invoice has expired meanwhile, and its blocks are nearly over.
    world.pass(3_600_000);
    world.report(2, EXPIRY - 20);
    world.hold(2, part(1, 7, 600, 1000));
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.verdict(2, 7), Some(Verdict::Settle));
}

#[test]
fn a_proof_that_comes_after_an_operator_ended_the_waiting_still_counts() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    world.hold(2, part(1, 1, 300, 1000));
    restore(&mut world);
    connect(&mut world, 2);
    assert_eq!(world.offer(2, part(1, 1, 300, 1000)), OfferReply::Held);
    world.run(Command::AcceptRestoration);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.verdict(2, 1), Some(Verdict::Settle));
}

#[test]
fn what_nobody_can_tell_any_more_keeps_nobody_waiting() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    world.run(Command::RemoveFrontNode { node: node(1), force: true });
    assert_eq!(world.judge(2, offer(2, 1)), Verdict::Settle);
    world.end(2, 1, FinalOutcome::Unconfirmed);
    restore(&mut world);
    assert!(!world.state.is_reconciling(), "{:?}", restored(&world).in_doubt);
}

#[test]
fn a_removal_does_not_fail_a_set_whose_other_parts_may_have_been_settled() {
    let mut world = raised(3);
    world.hold(1, part(1, 1, 400, 1000));
    world.hold(2, part(1, 1, 300, 1000));
    world.hold(3, part(1, 1, 100, 1000));
    restore(&mut world);
    connect(&mut world, 3);
    assert_eq!(world.offer(3, part(1, 1, 100, 1000)), OfferReply::Held);
    world.run(Command::RemoveFrontNode { node: node(1), force: true });
    assert_eq!(world.verdict(3, 1), None, "node 2 has not said how its part ended");
    let mut proved = world.clone();
    connect(&mut proved, 2);
    proved.end(2, 1, FinalOutcome::Settled);
    assert_eq!(proved.verdict(3, 1), Some(Verdict::Settle));
    connect(&mut world, 2);
    world.offer(2, part(1, 1, 300, 1000));
    let removed = Verdict::Fail(FailReason::Temporary { cause: TemporaryCause::FrontNodeRemoved });
    assert_eq!(
        (world.verdict(2, 1), world.verdict(3, 1)),
        (Some(removed), Some(removed)),
        "no answer took effect"
    );
}

#[test]
fn a_proved_hold_invoice_takes_its_preimage_from_the_application() {
    let mut world = raised(2);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, part(1, 1, 400, 1000)));
    world.hold(2, of_kind(InvoiceKind::Hold, part(1, 1, 600, 1000)));
    restore(&mut world);
    connect(&mut world, 1);
    connect(&mut world, 2);
    world.offer(2, of_kind(InvoiceKind::Hold, part(1, 1, 600, 1000)));
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.invoice(1).preimage, None);
    assert_eq!(world.settle_with(1, None, Some(preimage(1)), true), decided(1));
    assert_eq!(world.invoice(1).preimage, Some(preimage(1)));
}

#[test]
fn a_backup_does_not_show_what_an_application_asked_for_and_nothing_decided() {
    let mut world = raised(2);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, part(1, 1, 400, 1000)));
    world.hold(2, of_kind(InvoiceKind::Hold, part(1, 1, 600, 1000)));
    world.down(2);
    assert_eq!(world.settle_with(1, None, Some(preimage(1)), true), GATE_CLOSED);
    let shows = |bytes: Vec<u8>| bytes.windows(32).any(|window| window == preimage(1).0);
    assert!(shows(world.state.encode_snapshot()));
    assert!(!shows(world.state.for_backup().encode_snapshot()));
}

#[test]
fn what_lnd_failed_meanwhile_leaves_its_set_and_is_told() {
    let mut world = raised(1);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Failed);
    assert!(!world.state.is_reconciling());
    assert_eq!(restored(&world).differences[0].kind, DifferenceKind::FailedSince);
    assert_eq!(world.judge(1, offer(1, 2)), Verdict::Settle, "the invoice is payable");
}

#[test]
fn a_decided_htlc_is_settled_when_it_is_offered_again() {
    let mut world = raised(1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    restore(&mut world);
    assert!(world.state.is_reconciling());
    connect(&mut world, 1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    assert!(!world.state.is_reconciling());
    world.end(1, 1, FinalOutcome::Settled);
    assert!(restored(&world).differences.is_empty());
}

#[test]
fn ends_that_contradict_the_backup_are_told() {
    let mut world = raised(1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    assert_eq!(details(world.judge(1, part(1, 2, 1000, 1000))), DetailsCause::AlreadyPaid);
    restore(&mut world);
    connect(&mut world, 1);
    world.end(1, 1, FinalOutcome::Failed);
    world.end(1, 2, FinalOutcome::Settled);
    let kinds: Vec<_> = restored(&world).differences.iter().map(|difference| difference.kind).collect();
    assert_eq!(kinds, vec![DifferenceKind::LostSince, DifferenceKind::SettledAgainstVerdict]);
    assert_eq!(world.alarms.len(), 2, "{:?}", world.alarms);
}

#[test]
fn an_operator_may_end_the_waiting() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    restore(&mut world);
    connect(&mut world, 2);
    assert_eq!(world.run(Command::AcceptRestoration), Reply::Done);
    assert_eq!(restored(&world).given_up.len(), 1);
    assert!(matches!(world.run(Command::AcceptRestoration), Reply::Rejected(Rejection::Invalid(_))));
    assert_eq!(world.judge(2, offer(2, 1)), Verdict::Settle);
    world.pass(200_000);
    assert_eq!(world.verdict(1, 1), Some(Verdict::Fail(FailReason::MppTimeout)));
}

#[test]
fn what_goes_on_chain_unknown_to_the_backup_is_told_until_its_end_is_known() {
    let keys = |world: &World| -> Vec<u64> {
        world.state.refused_on_chain_since_restoration().map(|htlc| htlc.key.htlc_id).collect()
    };
    let mut world = raised(1);
    assert_eq!(details(world.judge(1, on_chain(offer(4, 4)))), DetailsCause::OnChain);
    assert!(keys(&world).is_empty(), "only of a restored cluster");
    restore(&mut world);
    connect(&mut world, 1);
    assert_eq!(details(world.judge(1, on_chain(offer(5, 5)))), DetailsCause::OnChain);
    let mut expired = offer(6, 6);
    expired.terms.expires_at_ms = 1;
    assert_eq!(details(world.judge(1, expired)), DetailsCause::Expired, "refused, but not on chain");
    assert_eq!(keys(&world), [5], "what the backup knew as refused was so before");
    world.end(1, 5, FinalOutcome::Failed);
    assert!(keys(&world).is_empty());
}

#[test]
fn what_was_open_can_be_voided_and_says_so() {
    let mut world = raised(1);
    for invoice in [1, 2, 3, 4] {
        world.add(invoice, InvoiceKind::Stored, 1000);
    }
    let stored =
        |invoice, htlc_id, amount| of_kind(InvoiceKind::Stored, part(invoice, htlc_id, amount, 1000));
    world.hold(1, stored(2, 2, 400));
    assert_eq!(world.judge(1, stored(3, 3, 1000)), Verdict::Settle);
    let before = world.state.clone();
    world.state.begin_anew();
    let hash_before = world.state.chain_hash();
    assert_eq!(world.state.void_open(), 2);
    assert_ne!(world.state.chain_hash(), hash_before);
    assert_eq!(world.last_events(2), [EventKind::Voided, EventKind::Voided]);
    let states = |world: &World| [1, 2, 3, 4].map(|invoice| world.find(invoice).state);
    let expected =
        [InvoiceState::Canceled, InvoiceState::Open, InvoiceState::Settling, InvoiceState::Canceled];
    assert_eq!(states(&world), expected, "what HTLCs pay is left to LND's word");
    assert_eq!(State::decode_snapshot(&world.state.encode_snapshot()).unwrap(), world.state);
    world.term += 1;
    world.next_term();
    world.run(Command::Tick);
    assert_eq!(states(&world), expected, "also from the archive");
    connect(&mut world, 1);
    world.end(1, 2, FinalOutcome::Failed);
    assert_eq!(details(world.judge(1, stored(1, 7, 1000))), DetailsCause::Canceled, "nobody pays it again");
    let mut kept = World { state: before, ..world.clone() };
    kept.state.begin_anew();
    assert_eq!(kept.state.feature_level(), COMMAND_FORMAT);
    assert_eq!(kept.invoice(1).state, InvoiceState::Open, "only if it is asked for");
}

#[test]
fn voiding_needs_the_level_whose_event_it_leaves() {
    let mut world = World::auto(1);
    world.add(1, InvoiceKind::Stored, 1000);
    world.state.begin_anew();
    assert_eq!(world.state.feature_level(), 2);
    assert_eq!((world.state.void_open(), world.state.feature_level()), (1, 3));
    let mut empty = World::auto(1);
    empty.state.begin_anew();
    assert_eq!((empty.state.void_open(), empty.state.feature_level()), (0, 2), "nothing to say");
}

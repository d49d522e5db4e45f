//! How HTLCs end.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::types::*;

/// A decided set of 400 at node 1 and 600 at node 2.
fn settling() -> World {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 400, 1000));
    world.judge(2, part(1, 0, 600, 1000));
    world
}

/// An accepted set of the same parts.
fn accepted() -> World {
    let mut world = World::new(2);
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(2, part(1, 0, 600, 1000));
    world
}

const FAILED_BY_LND: Option<Verdict> =
    Some(Verdict::Fail(FailReason::Temporary { cause: TemporaryCause::FailedByLnd }));

#[test]
fn a_lost_decided_part_makes_the_invoice_partial() {
    let mut world = settling();
    world.end(1, 0, FinalOutcome::Settled);
    world.end(2, 0, FinalOutcome::Failed);
    let invoice = world.invoice(1);
    assert_eq!((invoice.state, invoice.settle_index), (InvoiceState::Partial, 1));
    assert_eq!(invoice.received_msat, Msat(400));
    assert_eq!(world.verdict(2, 0), Some(Verdict::Settle), "the verdict stands");
    assert_eq!(world.alarms, [Alarm::DecidedPartLost(key(2, 0))]);
    assert_eq!(world.last_events(1), [EventKind::Partial { received_msat: Msat(400) }]);
    assert_eq!(details(world.judge(1, part(1, 9, 1000, 1000))), DetailsCause::AlreadyPaid);
}

#[test]
fn a_lost_part_makes_it_partial_even_if_the_rest_covers_the_amount() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 999, 1000));
    world.judge(2, part(1, 0, 1001, 1000));
    world.end(2, 0, FinalOutcome::Settled);
    world.end(1, 0, FinalOutcome::Failed);
    assert_eq!(world.state_of(1), InvoiceState::Partial);
    assert_eq!(world.invoice(1).received_msat, Msat(1001));
}

#[test]
fn repeated_finals_count_once() {
    let mut world = settling();
    world.end(1, 0, FinalOutcome::Settled);
    let sequence = world.state.event_sequence();
    world.end(1, 0, FinalOutcome::Settled);
    world.end(1, 0, FinalOutcome::Unconfirmed);
    assert_eq!(world.invoice(1).received_msat, Msat(400));
    assert_eq!(world.state.event_sequence(), sequence);
    world.end(1, 0, FinalOutcome::Failed);
    assert_eq!(world.alarms, [Alarm::ContradictingFinal(key(1, 0))]);
    assert_eq!(world.state.htlc(&key(1, 0)).unwrap().final_state, FinalState::Settled);
}

#[test]
fn an_undecided_part_that_lnd_failed_leaves_its_set() {
    for outcome in [FinalOutcome::FailedByLnd, FinalOutcome::Failed, FinalOutcome::Unconfirmed] {
        let mut world = accepted();
        world.end(1, 0, outcome);
        let invoice = world.invoice(1);
        let set = invoice.set.as_ref().unwrap();
        assert_eq!((invoice.state, set.sum_msat, set.id), (InvoiceState::Open, Msat(600), None));
        assert_eq!(world.verdict(1, 0), FAILED_BY_LND);
        assert_eq!(world.verdict(2, 0), None);
        assert_eq!(world.settle(1), rejected(Rejection::WrongState(InvoiceState::Open)));
        world.hold(1, part(1, 1, 400, 1000));
        assert_eq!(world.settle(1), decided(1), "another part completes it");
        assert_eq!(world.verdict(1, 0), FAILED_BY_LND);
    }
}

#[test]
fn a_set_without_parts_left_is_gone() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.end(1, 0, FinalOutcome::FailedByLnd);
    let invoice = world.invoice(1);
    assert_eq!((invoice.state, &invoice.set, invoice.attempt), (InvoiceState::Open, &None, 1));
    world.hold(1, offer(1, 1));
    assert_eq!(world.invoice(1).attempt, 2);
}

#[test]
fn a_lost_part_takes_the_settle_intent_with_it() {
    let mut world = accepted();
    world.down(1);
    assert_eq!(world.settle_with(1, None, None, true), GATE_CLOSED);
    world.up(1, 1, 50);
    world.end(1, 0, FinalOutcome::FailedByLnd);
    world.report_all();
    world.hold(1, part(1, 1, 400, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted, "what was asked for is not what is there");
}

#[test]
fn a_set_still_complete_without_the_lost_part_is_accepted_anew() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 5, 1000));
    world.hold(1, part(1, 1, 1000, 1000));
    let former = world.invoice(1).set.as_ref().unwrap().id;
    world.end(1, 0, FinalOutcome::FailedByLnd);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_ne!(world.invoice(1).set.as_ref().unwrap().id, former);
    assert_eq!(world.settle_with(1, former, None, false), rejected(Rejection::UnknownSet(hash(1))));
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn an_accepted_set_of_an_expired_invoice_that_loses_a_part_expires() {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, part(1, 0, 400, 1000)));
    world.hold(1, of_kind(InvoiceKind::Hold, part(1, 1, 600, 1000)));
    world.pass(3_600_000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    world.end(1, 0, FinalOutcome::FailedByLnd);
    assert_eq!(world.state_of(1), InvoiceState::Expired);
    assert_ne!(world.verdict(1, 1), None);
}

#[test]
fn a_decided_htlc_failed_by_lnd_keeps_its_settle_and_waits() {
    let mut world = settling();
    world.end(1, 0, FinalOutcome::FailedByLnd);
    assert!(world.state.htlc(&key(1, 0)).unwrap().gone);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
    assert_eq!(world.judge(1, on_chain(part(1, 0, 400, 1000))), Verdict::Settle);
    world.end(1, 0, FinalOutcome::Settled);
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settled);
}

#[test]
fn settled_without_decision_is_loud_kept_and_harmless() {
    let mut world = accepted();
    world.end(1, 0, FinalOutcome::Settled);
    assert_eq!(world.alarms, [Alarm::SettledWithoutDecision(key(1, 0))]);
    assert_eq!(world.verdict(1, 0), FAILED_BY_LND);
    assert_eq!(world.state_of(1), InvoiceState::Open);
    assert_eq!(world.invoice(1).received_msat, Msat::ZERO);
    world.cancel(1, CancelScope::Invoice);
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.alarms.len(), 2);
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.alarms.len(), 2, "told once");
    world.up(1, 1, 50);
    world.blocks(EXPIRY + 1000);
    let keys: Vec<_> = world.state.unexpected_settles().map(|htlc| htlc.key).collect();
    assert_eq!(keys, [key(1, 0), key(2, 0)], "never forgotten");
}

#[test]
fn finals_of_unknown_htlcs_are_returned() {
    let mut world = settling();
    let finals = vec![
        HtlcFinal { chan_id: 7, htlc_id: 0, outcome: FinalOutcome::Settled },
        HtlcFinal { chan_id: 7, htlc_id: 99, outcome: FinalOutcome::Settled },
    ];
    let reply = world.run(Command::HtlcFinals { node: node(1), finals });
    assert_eq!(reply, Reply::UnknownHtlcs(vec![(7, 99)]));
    assert_eq!(world.invoice(1).received_msat, Msat(400));
}

#[test]
fn an_operator_resolves_only_what_lnd_cannot_tell() {
    let mut world = settling();
    let resolve = |settled| Command::ResolveHtlc { key: key(1, 0), settled };
    let refused = |reply| matches!(reply, Reply::Rejected(Rejection::Htlc(..)));
    assert!(refused(world.run(Command::ResolveHtlc { key: key(1, 9), settled: true })));
    assert!(refused(world.run(resolve(true))), "LND may still tell");
    world.end(1, 0, FinalOutcome::Unconfirmed);
    assert_eq!(world.alarms, [Alarm::Unconfirmed(key(1, 0))]);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
    assert_eq!(world.run(resolve(true)), Reply::Done);
    assert_eq!(world.run(resolve(true)), Reply::Done);
    assert!(refused(world.run(resolve(false))));
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settled);
    assert_eq!(world.invoice(1).received_msat, Msat(1000));
}

#[test]
fn lnds_word_after_all_ends_an_unconfirmed_htlc() {
    let mut world = settling();
    world.end(1, 0, FinalOutcome::Unconfirmed);
    world.end(1, 0, FinalOutcome::Settled);
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settled);
}

#[test]
fn long_past_its_expiry_a_decided_htlc_is_unconfirmed() {
    let mut world = settling();
    world.blocks(EXPIRY + 144);
    assert_eq!(world.state.htlc(&key(1, 0)).unwrap().final_state, FinalState::Open);
    world.blocks(EXPIRY + 145);
    assert_eq!(world.state.htlc(&key(1, 0)).unwrap().final_state, FinalState::Unconfirmed);
    assert_eq!(world.alarms, [Alarm::Unconfirmed(key(1, 0)), Alarm::Unconfirmed(key(2, 0))]);
    assert_eq!(world.state.unresolved_htlcs(&node(1)).count(), 1);
    world.run(Command::ResolveHtlc { key: key(1, 0), settled: false });
    world.run(Command::ResolveHtlc { key: key(2, 0), settled: true });
    assert_eq!((world.state_of(1), world.invoice(1).received_msat), (InvoiceState::Partial, Msat(600)));
}

#[test]
fn ends_told_before_the_confirming_report_keep_dead_parts_out_of_a_decision() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 400, 1000));
    world.silence(4000);
    world.hold(2, part(1, 0, 600, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    // No quorum for 60 blocks; the stream survived, but LND failed the part when its peer reconnected.
    world.time_ms += 36_000;
    world.next_term();
    world.end(1, 0, FinalOutcome::FailedByLnd);
    world.blocks(HEIGHT + 60);
    assert_eq!((world.state_of(1), world.verdict(1, 0)), (InvoiceState::Open, FAILED_BY_LND));
    world.pass(60_000);
    assert_eq!(world.verdict(2, 0), Some(Verdict::Fail(FailReason::MppTimeout)));
}

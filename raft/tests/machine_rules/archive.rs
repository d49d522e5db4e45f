//! What leaves memory, and that nothing it decided is forgotten with it.

use crate::support::*;
use mux_raft::archive::{Archive, InvoiceOrder};
use mux_raft::machine::archive::*;
use mux_raft::machine::command::*;
use mux_raft::machine::level;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::machine::{FatalApply, LogPosition, State};

fn raised(nodes: u8) -> World {
    let mut world = World::auto(nodes);
    assert_eq!(world.run(Command::raise_feature_level()), Reply::Done);
    world
}

/// Invoice 1, paid by HTLC 1 and final.
fn paid() -> World {
    let mut world = raised(1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    world.end(1, 1, FinalOutcome::Settled);
    world
}

fn archived(world: &World, invoice: u8) -> Option<ArchivedInvoice> {
    world.archive.invoice(world.state.archive_tip(), &hash(invoice)).unwrap()
}

#[test]
fn at_level_1_nothing_is_archived() {
    let mut world = World::auto(1);
    assert_eq!(world.state.feature_level(), level::FIRST);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settled);
    assert_eq!(world.state.archive_tip(), &ArchiveTip::default());
    world.run(Command::raise_feature_level());
    assert!(world.state.invoice(&hash(1)).is_none(), "raising the level moves what is finished");
    assert_eq!(archived(&world, 1).unwrap().invoice.state, InvoiceState::Settled);
}

#[test]
fn a_finished_invoice_leaves_memory_with_its_htlcs_and_is_still_counted() {
    let world = paid();
    assert!(world.state.invoice(&hash(1)).is_none());
    assert!(world.state.htlc(&key(1, 1)).is_none());
    let found = archived(&world, 1).unwrap();
    assert_eq!(found.invoice.state, InvoiceState::Settled);
    assert_eq!(found.htlcs.len(), 1);
    assert_eq!(world.state.invoice_counts().get(&InvoiceState::Settled), Some(&1));
    let tip = world.state.archive_tip();
    let by_settle = world.archive.invoices(tip, InvoiceOrder::Settled, 1..=9, false, 9).unwrap();
    assert_eq!(by_settle, vec![found]);
}

#[test]
fn a_replayed_htlc_of_an_archived_invoice_gets_its_verdict() {
    let mut world = paid();
    let before = world.state.clone();
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    assert_eq!(world.judge(1, on_chain(offer(1, 1))), Verdict::Settle);
    assert_eq!(world.state.archive_tip(), before.archive_tip());
    assert_eq!(world.end(1, 1, FinalOutcome::Settled), Reply::UnknownHtlcs(vec![]), "its end is known");
    assert!(world.alarms.is_empty());
    world.end(1, 1, FinalOutcome::Failed);
    assert_eq!(world.alarms, vec![Alarm::ContradictingFinal(key(1, 1))]);
}

#[test]
fn a_second_payment_of_an_archived_invoice_fails() {
    let mut world = paid();
    assert_eq!(details(world.judge(1, offer(1, 2))), DetailsCause::AlreadyPaid);
    let mut wrong = offer(1, 3);
    wrong.secret = secret(9);
    assert_eq!(details(world.judge(1, wrong)), DetailsCause::WrongSecret);
    world.end(1, 2, FinalOutcome::Settled);
    assert_eq!(world.alarms, vec![Alarm::SettledWithoutDecision(key(1, 2))]);
    let settled = EventKind::HtlcFinal { key: key(1, 2), state: FinalState::Settled };
    assert_eq!(world.last_events(1), vec![settled], "told although its invoice is archived");
}

#[test]
fn an_archived_invoice_answers_as_before() {
    let mut world = paid();
    let again = world.add(1, InvoiceKind::Stored, 1000);
    assert_eq!(again, rejected(Rejection::InvoiceExists(hash(1))));
    assert_eq!(world.settle(1), decided(1));
    let refused = rejected(Rejection::WrongState(InvoiceState::Settled));
    assert_eq!(world.cancel(1, CancelScope::Invoice), refused);
    world.add(2, InvoiceKind::Stored, 1000);
    assert_eq!(world.cancel(2, CancelScope::Invoice), Reply::Done);
    assert!(world.state.invoice(&hash(2)).is_none());
    assert_eq!(world.cancel(2, CancelScope::Invoice), Reply::Done, "a repeated cancel is no error");
    assert_eq!(details(world.judge(1, of_kind(InvoiceKind::Stored, offer(2, 5)))), DetailsCause::Canceled);
}

#[test]
fn a_decided_htlc_that_is_not_final_keeps_its_invoice_in_memory() {
    let mut world = raised(2);
    world.hold(1, part(1, 1, 400, 1000));
    assert_eq!(world.judge(2, part(1, 1, 600, 1000)), Verdict::Settle);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
    assert!(world.state.htlc(&key(1, 1)).is_some());
    world.end(2, 1, FinalOutcome::Settled);
    assert_eq!(archived(&world, 1).unwrap().htlcs.len(), 2);
}

#[test]
fn events_move_to_the_archive_without_a_gap() {
    let mut world = raised(1);
    for htlc in 0..2_500 {
        world.hold(1, part(1, htlc, 400, 1000));
        world.end(1, htlc, FinalOutcome::FailedByLnd);
    }
    let last = world.state.event_sequence();
    let first = world.state.first_event_in_memory();
    assert!(first > 1, "{first} of {last}");
    let tip = world.state.archive_tip();
    let mut seen: Vec<u64> =
        world.archive.events_after(tip, 0, usize::MAX).unwrap().iter().map(|e| e.sequence).collect();
    seen.extend(world.state.events_after(0).map(|event| event.sequence));
    assert_eq!(seen, (1..=last).collect::<Vec<_>>());
    let some = world.archive.events_after(tip, 300, 2).unwrap();
    assert_eq!(some.iter().map(|event| event.sequence).collect::<Vec<_>>(), vec![301, 302]);
}

#[test]
fn a_snapshot_names_the_archive_and_a_restored_state_goes_on_alike() {
    let mut world = paid();
    let bytes = world.state.encode_snapshot();
    let mut copy = State::decode_snapshot(&bytes).unwrap();
    assert_eq!(copy, world.state);
    assert_eq!(copy.archive_tip().next, 1);
    let applied = world.state.applied();
    let at = LogPosition { term: applied.term, index: applied.index + 1 };
    let entry = Envelope { format: COMMAND_FORMAT, time_ms: NOW, request_id: None, command: Command::Tick };
    let mine = world.state.apply(at, Some(&entry), world.archive.as_ref()).unwrap();
    assert_eq!(copy.apply(at, Some(&entry), world.archive.as_ref()).unwrap(), mine);
    assert_eq!(copy.chain_hash(), world.state.chain_hash());
}

#[test]
fn records_that_the_tip_does_not_contain_are_not_seen() {
    let mut world = raised(1);
    assert_eq!(world.judge(1, offer(1, 1)), Verdict::Settle);
    // As after a crash: the archive is ahead of the state that is restored.
    let mut ahead = world.clone();
    ahead.end(1, 1, FinalOutcome::Settled);
    assert!(archived(&world, 1).is_none());
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.state, ahead.state, "the same record again is no error");
}

#[test]
fn retention_forgets_from_the_front_once_the_invoice_and_its_htlcs_are_past_their_expiry() {
    let mut world = paid();
    assert!(matches!(
        world.run(Command::SetRetention { keep_finished_ms: Some(1000) }),
        Reply::Rejected(Rejection::Invalid(_))
    ));
    assert_eq!(world.run(Command::SetRetention { keep_finished_ms: Some(3_600_000) }), Reply::Done);
    world.pass(3 * 3_600_000);
    assert!(archived(&world, 1).is_some(), "its HTLC may still be replayed");
    world.blocks(EXPIRY + 1);
    world.pass(1000);
    assert!(archived(&world, 1).is_none());
    let tip = *world.state.archive_tip();
    assert_eq!((tip.first, tip.next), (1, 1));
    assert_eq!(tip.first_hash, tip.hash);
    assert_eq!(world.state.invoice_counts().get(&InvoiceState::Settled), None);
}

#[test]
fn a_level_that_this_version_does_not_know_stops_the_replica_and_names_the_version() {
    let mut world = raised(1);
    let command = Command::RaiseFeatureLevel { level: COMMAND_FORMAT + 1, version: "7.8.9".into() };
    let entry = Envelope { format: 2, time_ms: NOW, request_id: None, command };
    let before = world.state.clone();
    let error = world.try_apply(Some(entry)).unwrap_err();
    assert!(matches!(error, FatalApply::NeedsVersion { .. }));
    assert!(error.to_string().contains("muxd 7.8.9 or later"), "{error}");
    assert_eq!(world.state, before);
}

#[test]
fn the_level_never_goes_back() {
    let mut world = raised(1);
    let command = Command::RaiseFeatureLevel { level: 1, version: "0.1.0".into() };
    assert!(matches!(world.run(command), Reply::Rejected(Rejection::Invalid(_))));
    assert_eq!(world.state.feature_level(), COMMAND_FORMAT);
}

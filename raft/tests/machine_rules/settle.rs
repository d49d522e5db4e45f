//! An application's settle.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::types::*;

fn hold_accepted() -> World {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, offer(1, 0)));
    world
}

#[test]
fn only_an_accepted_set_is_settled() {
    let mut world = World::new(1);
    assert_eq!(world.settle(1), rejected(Rejection::UnknownInvoice(hash(1))));
    world.add(1, InvoiceKind::Stored, 1000);
    assert_eq!(world.settle(1), rejected(Rejection::WrongState(InvoiceState::Open)));
    let unknown = world.settle_with(1, Some(SetId([1; 32])), None, true);
    assert_eq!(unknown, rejected(Rejection::UnknownSet(hash(1))));
    world.hold(1, of_kind(InvoiceKind::Stored, part(1, 0, 400, 1000)));
    assert_eq!(world.settle(1), rejected(Rejection::WrongState(InvoiceState::Open)));
    world.hold(1, of_kind(InvoiceKind::Stored, part(1, 1, 600, 1000)));
    let other = world.settle_with(1, Some(SetId([1; 32])), None, true);
    assert_eq!(other, rejected(Rejection::UnknownSet(hash(1))));
    let set_id = world.invoice(1).set.as_ref().unwrap().id;
    assert_eq!(world.settle_with(1, set_id, None, false), decided(1));
    world.end(1, 0, FinalOutcome::Settled);
    world.end(1, 1, FinalOutcome::Settled);
    assert_eq!(world.settle_with(1, set_id, None, false), decided(1), "the same number for ever");
}

#[test]
fn an_intent_decides_by_itself_when_the_gate_opens() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.silence(4000);
    assert_eq!(world.settle_with(1, None, None, true), GATE_CLOSED);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    world.report(1, HEIGHT);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
}

#[test]
fn without_an_intent_an_opening_gate_decides_nothing() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.silence(4000);
    assert_eq!(world.settle(1), GATE_CLOSED);
    world.report(1, HEIGHT);
    world.pass(5000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
}

#[test]
fn cancel_wins_over_an_undecided_intent() {
    for scope in [CancelScope::Invoice, CancelScope::Set(None)] {
        let mut world = World::new(1);
        world.hold(1, offer(1, 0));
        world.silence(4000);
        world.settle_with(1, None, None, true);
        assert_eq!(world.cancel(1, scope), Reply::Done);
        world.report(1, HEIGHT);
        world.pass(2000);
        assert_eq!(world.fail_of(1, 0), DetailsCause::Canceled);
        assert!(matches!(world.settle(1), Reply::Rejected(Rejection::WrongState(_))));
    }
}

#[test]
fn cancel_racing_settle_is_decided_by_the_log() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    let mut other = world.clone();
    assert_eq!(world.settle(1), decided(1));
    assert!(matches!(world.cancel(1, CancelScope::Invoice), Reply::Rejected(Rejection::WrongState(_))));
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle));
    assert_eq!(other.cancel(1, CancelScope::Invoice), Reply::Done);
    assert!(matches!(other.settle(1), Reply::Rejected(Rejection::WrongState(_))));
    assert_eq!(other.fail_of(1, 0), DetailsCause::Canceled);
}

#[test]
fn a_hold_invoice_needs_its_own_preimage() {
    let mut world = hold_accepted();
    let wrong = |reply| matches!(reply, Reply::Rejected(Rejection::WrongPreimage(_)));
    assert!(wrong(world.settle(1)));
    assert!(wrong(world.settle_with(1, None, Some(preimage(2)), true)));
    assert_eq!(world.invoice(1).preimage, None);
    assert_eq!(world.settle_with(1, None, Some(preimage(1)), false), decided(1));
    assert_eq!(world.invoice(1).preimage, Some(preimage(1)));
    world.hold(1, offer(2, 1));
    assert!(wrong(world.settle_with(2, None, Some(preimage(2)), false)), "ours are derived");
}

#[test]
fn no_reader_shows_a_preimage_before_the_decision() {
    let mut world = hold_accepted();
    world.silence(4000);
    assert_eq!(world.settle_with(1, None, Some(preimage(1)), true), GATE_CLOSED);
    assert_eq!(world.invoice(1).preimage, None);
    world.report(1, HEIGHT);
    assert_eq!(world.invoice(1).preimage, Some(preimage(1)));
}

#[test]
fn a_cancelled_intents_preimage_is_forgotten() {
    let mut world = hold_accepted();
    world.silence(4000);
    world.settle_with(1, None, Some(preimage(1)), true);
    let kept = |world: &World| {
        let bytes = world.state.encode_snapshot();
        bytes.windows(32).any(|window| *window == preimage(1).0)
    };
    assert!(kept(&world));
    world.cancel(1, CancelScope::Set(None));
    assert!(!kept(&world));
    assert_eq!(world.invoice(1).preimage, None);
}

#[test]
fn hold_invoices_are_never_settled_automatically() {
    let mut world = World::auto(1);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, offer(1, 0)));
    world.pass(5000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
}

#[test]
fn decision_numbers_have_no_gap() {
    let mut world = World::new(1);
    for invoice in 1..=3 {
        world.hold(1, offer(invoice, u64::from(invoice)));
    }
    world.cancel(2, CancelScope::Invoice);
    assert_eq!((world.settle(3), world.settle(1)), (decided(1), decided(2)));
    let order: Vec<_> = world.state.decided_from(1).map(|invoice| invoice.hash).collect();
    assert_eq!(order, [hash(3), hash(1)]);
    assert_eq!(world.state.decided_from(2).count(), 1);
    world.end(1, 1, FinalOutcome::Settled);
    world.end(1, 3, FinalOutcome::Settled);
    let order: Vec<_> = world.state.settled_after(0).map(|invoice| invoice.hash).collect();
    assert_eq!(order, [hash(1), hash(3)]);
}

#[test]
fn a_preimage_without_an_intent_is_not_kept() {
    let mut world = hold_accepted();
    world.silence(4000);
    assert_eq!(world.settle_with(1, None, Some(preimage(1)), false), GATE_CLOSED);
    let bytes = world.state.encode_snapshot();
    assert!(!bytes.windows(32).any(|window| *window == preimage(1).0));
}

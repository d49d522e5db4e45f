//! Invoices: adding, cancelling, tombstones.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::types::*;

fn wrong(state: InvoiceState) -> Reply {
    rejected(Rejection::WrongState(state))
}

fn unseen(invoice: u8) -> CancelScope {
    CancelScope::Unseen { terms: terms(InvoiceKind::Stateless, 1000), secret: secret(invoice) }
}

#[test]
fn a_hash_is_used_once() {
    let mut world = World::new(1);
    assert_eq!(world.add(1, InvoiceKind::Stored, 1000), Reply::InvoiceAdded { add_index: 1 });
    assert_eq!(world.add(1, InvoiceKind::Hold, 5), rejected(Rejection::InvoiceExists(hash(1))));
    assert_eq!(world.add(2, InvoiceKind::Hold, 5), Reply::InvoiceAdded { add_index: 2 });
    world.cancel(2, CancelScope::Invoice);
    assert_eq!(world.add(2, InvoiceKind::Hold, 5), rejected(Rejection::InvoiceExists(hash(2))));
}

#[test]
fn stateless_and_expired_invoices_are_not_stored() {
    let mut world = World::new(1);
    assert!(matches!(world.add(1, InvoiceKind::Stateless, 1), Reply::Rejected(Rejection::Invalid(_))));
    world.pass(3_600_000);
    assert!(matches!(world.add(1, InvoiceKind::Stored, 1), Reply::Rejected(Rejection::Invalid(_))));
}

#[test]
fn a_request_repeated_changes_nothing_and_gets_the_first_reply() {
    let mut world = World::new(1);
    let id = Some(RequestId([1; 16]));
    let add = |invoice| Command::AddInvoice(Box::new(new_invoice(invoice, InvoiceKind::Stored, 1000)));
    assert_eq!(world.run_as(id, add(1)), Reply::InvoiceAdded { add_index: 1 });
    // A client's retry through another replica may carry another invoice.
    assert_eq!(world.run_as(id, add(2)), Reply::InvoiceAdded { add_index: 1 });
    assert!(world.state.invoice(&hash(2)).is_none());
    world.pass(86_400_000);
    assert_eq!(world.run_as(id, add(1)), Reply::InvoiceAdded { add_index: 1 });
    world.pass(1000);
    let expired = world.run_as(id, add(3));
    assert!(matches!(expired, Reply::Rejected(_)), "forgotten after a day: {expired:?}");
}

#[test]
fn cancelling_an_open_or_accepted_invoice_fails_its_set_for_good() {
    for amount in [400, 1000] {
        let mut world = World::new(1);
        world.hold(1, part(1, 0, amount, 1000));
        assert_eq!(world.cancel(1, CancelScope::Invoice), Reply::Done);
        assert_eq!(
            (world.state_of(1), world.fail_of(1, 0)),
            (InvoiceState::Canceled, DetailsCause::Canceled)
        );
        assert_eq!(world.settle(1), wrong(InvoiceState::Canceled));
        assert_eq!(details(world.judge(1, offer(1, 1))), DetailsCause::Canceled);
        assert_eq!(world.cancel(1, CancelScope::Invoice), Reply::Done);
        world.pass(3_700_000);
        assert_eq!(world.state_of(1), InvoiceState::Canceled, "terminal states absorb");
    }
}

#[test]
fn nothing_is_cancelled_after_the_decision() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    let set_id = world.invoice(1).set.as_ref().unwrap().id;
    world.settle(1);
    for scope in [CancelScope::Invoice, CancelScope::Set(None), CancelScope::Set(set_id), unseen(1)] {
        assert_eq!(world.cancel(1, scope), wrong(InvoiceState::Settling));
    }
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle));
    world.end(1, 0, FinalOutcome::Settled);
    assert_eq!(world.cancel(1, CancelScope::Invoice), wrong(InvoiceState::Settled));
}

#[test]
fn an_expired_invoice_cannot_be_cancelled() {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Stored, 1000);
    world.pass(3_600_000);
    assert_eq!(world.cancel(1, CancelScope::Invoice), wrong(InvoiceState::Expired));
    assert_eq!(world.cancel(2, CancelScope::Invoice), rejected(Rejection::UnknownInvoice(hash(2))));
}

#[test]
fn cancelling_a_set_leaves_the_invoice_payable() {
    let mut world = World::new(1);
    let unknown = rejected(Rejection::UnknownSet(hash(1)));
    world.hold(1, part(1, 0, 400, 1000));
    assert_eq!(world.cancel(1, CancelScope::Set(Some(SetId([1; 32])))), unknown);
    assert_eq!(world.cancel(1, CancelScope::Set(None)), Reply::Done);
    assert_eq!((world.fail_of(1, 0), world.state_of(1)), (DetailsCause::Canceled, InvoiceState::Open));
    assert_eq!(world.cancel(1, CancelScope::Set(None)), unknown);
    world.hold(1, offer(1, 1));
    let set_id = world.invoice(1).set.as_ref().unwrap().id;
    assert_eq!(world.cancel(1, CancelScope::Set(set_id)), Reply::Done);
    world.hold(1, offer(1, 2));
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn a_tombstone_refuses_htlcs_of_an_unseen_invoice() {
    let mut world = World::new(1);
    assert_eq!(world.cancel(1, unseen(1)), Reply::Done);
    assert_eq!(world.cancel(1, unseen(1)), Reply::Done);
    assert_eq!(details(world.judge(1, offer(1, 0))), DetailsCause::Canceled);
    assert_eq!(world.state.invoices_after(0).count(), 0, "it has no number");
    assert_eq!(world.add(2, InvoiceKind::Stored, 1), Reply::InvoiceAdded { add_index: 1 }, "no gap");
}

#[test]
fn cancelling_as_unseen_what_was_seen_cancels_the_invoice() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    assert_eq!(world.cancel(1, unseen(1)), Reply::Done);
    assert_eq!((world.state_of(1), world.fail_of(1, 0)), (InvoiceState::Canceled, DetailsCause::Canceled));
    let stored = CancelScope::Unseen { terms: terms(InvoiceKind::Stored, 1000), secret: secret(2) };
    assert_eq!(world.cancel(2, stored), rejected(Rejection::UnknownInvoice(hash(2))));
}

#[test]
fn invoices_are_counted_by_state() {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Stored, 1000);
    world.add(2, InvoiceKind::Stored, 1000);
    world.hold(1, offer(3, 0));
    world.hold(1, offer(4, 1));
    world.settle(4);
    world.cancel(2, CancelScope::Invoice);
    let counts: Vec<_> = world.state.invoice_counts().iter().map(|(state, count)| (*state, *count)).collect();
    use InvoiceState::*;
    assert_eq!(counts, [(Open, 1), (Accepted, 1), (Settling, 1), (Canceled, 1)]);
    assert_eq!(world.state.accepted_sets().map(|invoice| invoice.hash).collect::<Vec<_>>(), [hash(3)]);
}

//! A payment from its first part to its end.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::types::*;

#[test]
fn single_part_auto_settled_payment_takes_one_entry() {
    let mut world = World::auto(1);
    assert_eq!(world.judge(1, offer(1, 0)), Verdict::Settle);
    let invoice = world.invoice(1);
    assert_eq!((invoice.state, invoice.add_index, invoice.decision_index), (InvoiceState::Settling, 1, 1));
    world.end(1, 0, FinalOutcome::Settled);
    let invoice = world.invoice(1);
    assert_eq!((invoice.state, invoice.settle_index), (InvoiceState::Settled, 1));
    assert_eq!(invoice.received_msat, Msat(1000));
    let key = key(1, 0);
    let set_id = invoice.set.as_ref().unwrap().id.unwrap();
    let amount_msat = Msat(1000);
    assert_eq!(
        world.last_events(6),
        [
            EventKind::Added,
            EventKind::HtlcJoined { key, amount_msat },
            EventKind::Accepted { set_id, amount_msat },
            EventKind::Settling { set_id, amount_msat },
            EventKind::HtlcFinal { key, state: FinalState::Settled },
            EventKind::Settled { received_msat: amount_msat },
        ]
    );
}

#[test]
fn parts_through_two_nodes_are_settled_at_once() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 400, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Open);
    assert_eq!(world.judge(2, part(1, 0, 600, 1000)), Verdict::Settle);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle));
    world.end(1, 0, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
    world.end(2, 0, FinalOutcome::Settled);
    assert_eq!(world.state_of(1), InvoiceState::Settled);
}

#[test]
fn application_settles_an_accepted_set() {
    let mut world = World::new(1);
    world.add(1, InvoiceKind::Stored, 1000);
    world.hold(1, of_kind(InvoiceKind::Stored, offer(1, 0)));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_eq!(world.settle(1), decided(1));
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle));
    assert_eq!(world.settle(1), decided(1));
    let other = Some(SetId([9; 32]));
    assert_eq!(world.settle_with(1, other, None, false), rejected(Rejection::UnknownSet(hash(1))));
}

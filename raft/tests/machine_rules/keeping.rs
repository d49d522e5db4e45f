//! What is forgotten, and what must not be.

use crate::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;

/// A set cancelled at node 1, its HTLC not final.
fn failed() -> World {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.cancel(1, CancelScope::Set(None));
    world
}

#[test]
fn a_fail_is_kept_until_six_blocks_after_expiry() {
    let mut world = failed();
    world.up(1, 1, 50);
    world.blocks(EXPIRY + 6);
    assert_eq!(world.fail_of(1, 0), DetailsCause::Canceled);
    world.blocks(EXPIRY + 7);
    assert_eq!(world.state.htlc(&key(1, 0)), None);
    assert_eq!(details(world.judge(1, offer(1, 0))), DetailsCause::TooSoon, "still a fail");
}

#[test]
fn a_final_fail_is_kept_until_no_repeat_of_its_offer_can_join() {
    let mut world = failed();
    world.end(1, 0, FinalOutcome::Failed);
    assert_eq!(details(world.judge(1, offer(1, 0))), DetailsCause::Canceled, "a delayed repeat");
    world.down(1);
    assert_eq!(world.state.htlc(&key(1, 0)), None);
    assert_eq!(world.offers_in(1, 1, vec![offer(1, 0)]), [mux_raft::machine::reply::OfferReply::Stale]);
}

#[test]
fn a_fail_that_is_not_final_outlives_its_session() {
    let mut world = failed();
    world.down(1);
    world.up(1, 1, 50);
    assert_eq!(world.fail_of(1, 0), DetailsCause::Canceled);
    world.end(1, 0, FinalOutcome::Failed);
    assert_eq!(world.state.htlc(&key(1, 0)), None, "its session was over");
}

#[test]
fn a_settle_is_kept_for_ever() {
    let mut world = World::auto(1);
    world.judge(1, offer(1, 0));
    world.end(1, 0, FinalOutcome::Settled);
    world.up(1, 1, 50);
    world.blocks(EXPIRY + 100_000);
    world.pass(20_000_000);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle));
}

#[test]
fn a_tombstone_outlives_its_invoice() {
    let mut world = World::new(1);
    let scope = CancelScope::Unseen { terms: terms(InvoiceKind::Stateless, 1000), secret: secret(1) };
    world.cancel(1, scope);
    world.pass(3_600_000);
    assert_eq!(details(world.judge(1, offer(1, 0))), DetailsCause::Canceled);
    world.pass(3_600_000);
    assert!(world.state.invoice(&hash(1)).is_none());
    assert_eq!(details(world.judge(1, offer(1, 1))), DetailsCause::Expired, "still a fail");
}

#[test]
fn unresolved_htlcs_are_all_that_are_not_final() {
    let mut world = failed();
    world.hold(1, offer(2, 1));
    world.hold(1, offer(3, 2));
    world.settle(3);
    let unresolved = |world: &World| -> Vec<u64> {
        world.state.unresolved_htlcs(&node(1)).map(|htlc| htlc.key.htlc_id).collect()
    };
    assert_eq!(unresolved(&world), [0, 1, 2]);
    world.end(1, 2, FinalOutcome::Settled);
    world.end(1, 0, FinalOutcome::Failed);
    assert_eq!(unresolved(&world), [1]);
}

//! Which height counts when front nodes disagree.

use crate::support::*;
use mux_raft::machine::model::*;
use mux_raft::types::*;

fn flagged(world: &World) -> Vec<u8> {
    world.state.front_nodes().filter(|front| front.height_flagged).map(|front| front.node.0[0]).collect()
}

fn healthy(world: &World) -> Vec<u8> {
    world.state.healthy_front_nodes().map(|front| front.node.0[0]).collect()
}

#[test]
fn one_node_10_000_blocks_too_high_harms_only_itself() {
    let mut world = World::auto(3);
    world.hold(3, part(1, 0, 500, 1000));
    world.hold(1, part(2, 0, 500, 1000));
    world.report(3, HEIGHT + 10_000);
    assert_eq!((flagged(&world), healthy(&world)), (vec![3], vec![1, 2]));
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT));
    assert_eq!(world.fail_of(3, 0), DetailsCause::Deadline, "its LND fails it by its own height anyway");
    assert_eq!(world.verdict(1, 0), None);
    assert_eq!(temporary(world.judge(3, offer(3, 1))), TemporaryCause::NoHeight);
    assert_eq!(world.judge(2, part(2, 0, 500, 1000)), Verdict::Settle);
    world.report(3, HEIGHT);
    assert_eq!(flagged(&world), Vec::<u8>::new());
    assert_eq!(world.judge(3, offer(3, 2)), Verdict::Settle);
}

#[test]
fn an_absurd_height_forgets_no_failed_htlc() {
    let mut world = World::auto(3);
    world.hold(3, part(1, 0, 500, 1000));
    world.report(3, HEIGHT + 10_000);
    world.pass(60_000);
    world.report(3, HEIGHT);
    assert_eq!(details(world.judge(3, part(1, 0, 500, 1000))), DetailsCause::Deadline);
}

#[test]
fn a_frozen_nodes_htlcs_are_judged_by_the_others_height() {
    let mut world = World::auto(3);
    world.hold(3, part(1, 0, 500, 1000));
    for height in [HEIGHT + 6, HEIGHT + 7] {
        world.report(1, height);
        world.report(2, height);
        assert_eq!(world.state.height_for(&node(3)), Some(height));
        assert_eq!(flagged(&world).is_empty(), height == HEIGHT + 6);
    }
    assert_eq!(temporary(world.judge(3, offer(2, 1))), TemporaryCause::NoHeight);
    let mut later = part(1, 0, 500, 1000);
    later.outgoing_expiry += 7;
    world.hold(1, later);
    assert_eq!(world.state_of(1), InvoiceState::Accepted, "no decision on a part behind a frozen node");
    world.report(1, EXPIRY - 28);
    world.report(2, EXPIRY - 28);
    assert_eq!(world.fail_of(3, 0), DetailsCause::Deadline);
}

#[test]
fn two_nodes_that_disagree_are_both_judged_by_the_higher() {
    let mut world = World::auto(2);
    world.report(2, HEIGHT + 100);
    assert_eq!(flagged(&world), Vec::<u8>::new());
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT + 100));
    assert_eq!(details(world.judge(1, offer(1, 0))), DetailsCause::TooSoon);
}

#[test]
fn of_an_even_number_the_upper_middle_counts() {
    let mut world = World::new(4);
    world.report(3, HEIGHT + 2);
    world.report(4, HEIGHT + 2);
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT + 2));
}

#[test]
fn a_height_may_drop_in_a_reorganisation() {
    let mut world = World::new(1);
    world.report(1, HEIGHT + 2);
    world.report(1, HEIGHT + 1);
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT + 1));
}

#[test]
fn stale_and_unsynced_tips_are_not_in_the_median() {
    let mut world = World::new(3);
    world.report(1, HEIGHT + 3);
    world.report(2, HEIGHT + 3);
    assert_eq!(world.state.height_for(&node(3)), Some(HEIGHT + 3));
    world.report_with(1, Some(HEIGHT + 3), false, &[]);
    world.report_with(2, Some(HEIGHT + 3), false, &[]);
    assert_eq!(world.state.height_for(&node(3)), Some(HEIGHT));
    assert_eq!(healthy(&world), [3]);
    for _ in 0..61 {
        world.silence(1000);
        world.report(3, HEIGHT);
    }
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT + 3), "its own last one still counts");
}

#[test]
fn freshness_ends_by_log_time_alone() {
    let mut world = World::new(2);
    world.report(2, HEIGHT + 3);
    for _ in 0..60 {
        world.silence(1000);
        world.report(1, HEIGHT);
    }
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT + 3));
    world.silence(1000);
    assert_eq!(world.state.height_for(&node(1)), Some(HEIGHT));
    assert_eq!(world.state.height_for(&NodePubkey([9; 33])), None);
}

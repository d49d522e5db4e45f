//! When the decision to settle is taken, and when a set fails instead.

use crate::support::*;
use mux_raft::machine::ObstacleCause;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::types::*;

fn obstacles(world: &World, invoice: u8) -> Vec<ObstacleCause> {
    let report = world.state.gate_report(&hash(invoice)).unwrap();
    report.obstacles.iter().map(|obstacle| obstacle.cause).collect()
}

#[test]
fn stale_heights_allow_no_decision() {
    let mut world = World::new(2);
    world.run(Command::Configure(Settings { accept_timeout_ms: 600_000, ..world.state.settings().clone() }));
    world.hold(1, offer(1, 0));
    for _ in 0..61 {
        world.silence(1000);
        world.report_with(1, None, true, &[]);
        world.report(2, HEIGHT);
    }
    assert_eq!(obstacles(&world, 1), [ObstacleCause::HeightUnknown]);
    assert_eq!(world.settle(1), GATE_CLOSED);
    world.report_with(1, Some(HEIGHT), false, &[]);
    assert_eq!(world.settle(1), GATE_CLOSED, "not synced");
    world.report(1, HEIGHT);
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn the_last_block_before_the_deadline_still_decides() {
    let deadline = EXPIRY - 22 - 6;
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    assert_eq!(world.state.settle_deadline_height(&hash(1)), Some(deadline));
    world.report(1, deadline - 1);
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn an_undecided_set_is_failed_at_its_first_deadline() {
    for complete in [false, true] {
        let mut world = World::new(2);
        let mut earlier = part(1, 0, 500, 1000);
        (earlier.incoming_expiry, earlier.auto_fail_height) = (EXPIRY - 10, EXPIRY - 29);
        world.hold(1, earlier);
        world.hold(2, part(1, 0, if complete { 500 } else { 499 }, 1000));
        let deadline = EXPIRY - 10 - 22 - 6;
        world.blocks(deadline - 1);
        assert_eq!(world.verdict(1, 0), None);
        world.report(2, deadline);
        assert_eq!(world.fail_of(1, 0), DetailsCause::Deadline, "of two nodes the higher counts");
        assert_eq!(world.fail_of(2, 0), DetailsCause::Deadline);
        assert_eq!(world.state_of(1), InvoiceState::Open);
    }
}

#[test]
fn deadline_is_judged_by_the_higher_of_own_and_median_height() {
    let mut world = World::new(3);
    world.hold(1, offer(1, 0));
    let deadline = EXPIRY - 22 - 6;
    world.report(2, deadline);
    assert_eq!(world.verdict(1, 0), None, "one node alone is off the median");
    world.report(3, deadline);
    assert_eq!(world.fail_of(1, 0), DetailsCause::Deadline);
    assert_eq!(world.state_of(1), InvoiceState::Open);
}

#[test]
fn an_inactive_channel_closes_the_gate_of_sets_with_more_parts() {
    let mut world = World::auto(2);
    world.report_with(1, None, true, &[7]);
    assert_eq!(world.judge(1, offer(1, 0)), Verdict::Settle, "a single part risks nothing");
    world.hold(1, part(2, 1, 500, 1000));
    world.hold(2, part(2, 1, 500, 1000));
    assert_eq!(obstacles(&world, 2), [ObstacleCause::ChannelInactive]);
    world.report_with(1, None, true, &[8]);
    assert_eq!(world.state_of(2), InvoiceState::Settling);
}

#[test]
fn auto_settle_whose_gate_stays_closed_fails_as_temporary() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 500, 1000));
    world.down(1);
    world.hold(2, part(1, 0, 500, 1000));
    world.pass(59_000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    world.pass(1000);
    assert_eq!(temporary(world.verdict(1, 0).unwrap()), TemporaryCause::GateClosed);
    assert_eq!(temporary(world.verdict(2, 0).unwrap()), TemporaryCause::GateClosed);
    assert_eq!(world.state_of(1), InvoiceState::Open);
}

#[test]
fn a_set_no_application_settles_in_time_fails() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.pass(60_000);
    assert_eq!(world.fail_of(1, 0), DetailsCause::AcceptTimeout);
}

#[test]
fn an_unmet_intent_fails_as_temporary() {
    let mut world = World::new(2);
    world.hold(1, offer(1, 0));
    world.down(1);
    assert_eq!(world.settle_with(1, None, None, true), GATE_CLOSED);
    world.pass(60_000);
    assert_eq!(temporary(world.verdict(1, 0).unwrap()), TemporaryCause::GateClosed);
}

#[test]
fn hold_invoices_wait_until_their_block_deadline() {
    let mut world = World::auto(1);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, offer(1, 0)));
    world.pass(1_800_000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    world.blocks(EXPIRY - 28);
    assert_eq!(world.fail_of(1, 0), DetailsCause::Deadline);
}

#[test]
fn an_incomplete_set_times_out_from_its_first_part() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 400, 1000));
    world.pass(30_000);
    world.hold(1, part(1, 1, 400, 1000));
    world.pass(29_999);
    assert_eq!(world.verdict(1, 0), None);
    world.pass(1);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Fail(FailReason::MppTimeout)));
    assert_eq!(world.verdict(1, 1), Some(Verdict::Fail(FailReason::MppTimeout)));
}

#[test]
fn a_retry_pays_after_a_failed_first_attempt() {
    let mut world = World::auto(1);
    world.hold(1, part(1, 0, 400, 1000));
    world.pass(60_000);
    assert_eq!((world.state_of(1), world.invoice(1).attempt), (InvoiceState::Open, 1));
    world.hold(1, part(1, 1, 600, 1000));
    assert_eq!(world.invoice(1).attempt, 2);
    assert_eq!(world.judge(1, part(1, 2, 400, 1000)), Verdict::Settle);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Fail(FailReason::MppTimeout)));
    let keys: Vec<_> = world.invoice(1).set.as_ref().unwrap().parts.iter().copied().collect();
    assert_eq!(keys, [key(1, 1), key(1, 2)]);
}

#[test]
fn a_gap_without_quorum_gives_timers_grace_but_not_deadlines() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(1, offer(2, 1));
    world.time_ms += 600_000;
    world.run(Command::Tick);
    assert_eq!((world.verdict(1, 0), world.verdict(1, 1)), (None, None));
    world.report(1, HEIGHT);
    world.hold(1, part(1, 2, 600, 1000));
    assert_eq!(world.settle(1), decided(1), "what came late because of us is not failed");
    world.pass(9_999);
    assert_eq!(world.verdict(1, 1), None);
    world.pass(1);
    assert_eq!(world.fail_of(1, 1), DetailsCause::AcceptTimeout);
    world.hold(1, part(3, 3, 400, 1000));
    world.time_ms += 600_000;
    world.report(1, EXPIRY - 28);
    assert_eq!(world.fail_of(1, 3), DetailsCause::Deadline);
}

#[test]
fn a_long_quorum_loss_with_a_lost_part_never_decides() {
    let mut world = World::new(2);
    world.hold(1, part(1, 0, 500, 1000));
    world.hold(2, part(1, 0, 500, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    // No quorum for 60 blocks. Node 1's stream was closed meanwhile, and LND failed its part.
    world.time_ms += 36_000_000;
    world.next_term();
    assert_eq!(world.settle(1), GATE_CLOSED);
    world.up(1, 1, 50);
    world.blocks(HEIGHT + 60);
    assert_eq!(world.settle_with(1, None, None, true), GATE_CLOSED);
    assert_eq!(obstacles(&world, 1), [ObstacleCause::NotReoffered]);
    world.pass(60_000);
    assert_ne!(world.verdict(2, 0), None);
    assert_ne!(world.verdict(2, 0), Some(Verdict::Settle));
    assert_eq!(world.state_of(1), InvoiceState::Expired);
}

#[test]
fn expiry_fails_incomplete_sets_and_spares_accepted_ones() {
    let mut world = World::new(1);
    world.run(Command::Configure(Settings {
        mpp_timeout_ms: 7_200_000,
        accept_timeout_ms: 7_200_000,
        ..world.state.settings().clone()
    }));
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(1, offer(2, 1));
    world.hold(1, offer(3, 2));
    world.pass(3_600_000);
    assert_eq!((world.fail_of(1, 0), world.state_of(1)), (DetailsCause::Expired, InvoiceState::Expired));
    assert_eq!(world.settle(2), decided(1), "accepted in time");
    assert_eq!(world.state_of(3), InvoiceState::Accepted);
    world.pass(3_600_000);
    assert_eq!(
        (world.fail_of(1, 2), world.state_of(3)),
        (DetailsCause::AcceptTimeout, InvoiceState::Expired)
    );
}

#[test]
fn set_id_is_the_hash_of_the_sorted_keys() {
    use sha2::{Digest as _, Sha256};
    let mut world = World::new(2);
    world.hold(2, part(1, 5, 500, 1000));
    world.hold(1, part(1, 300, 500, 1000));
    let mut bytes = Vec::new();
    for (number, htlc_id) in [(1, 300_u64), (2, 5)] {
        bytes.extend(node(number).0);
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(htlc_id.to_be_bytes());
    }
    let expected = SetId(Sha256::digest(&bytes).into());
    assert_eq!(world.invoice(1).set.as_ref().unwrap().id, Some(expected));
}

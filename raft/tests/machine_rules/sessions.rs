//! Sessions: whose word on an HTLC counts, and for how long.

use crate::support::*;
use mux_raft::machine::ObstacleCause;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;

fn obstacle(world: &World, invoice: u8) -> Option<ObstacleCause> {
    let report = world.state.gate_report(&hash(invoice)).unwrap();
    report.obstacles.first().map(|obstacle| obstacle.cause)
}

/// An accepted set of one part at node 1.
fn accepted() -> World {
    let mut world = World::new(2);
    world.hold(1, offer(1, 0));
    assert_eq!(obstacle(&world, 1), None);
    world
}

#[test]
fn a_stream_keeps_its_session_and_a_new_stream_gets_a_new_one() {
    let mut world = World::new(1);
    assert_eq!(world.up(1, 1, 1), Reply::Session(1));
    assert_eq!(world.up(1, 1, 50), Reply::Session(2));
    assert_eq!(world.up(1, 1, 50), Reply::Session(2));
    world.down(1);
    assert_eq!(world.up(1, 1, 50), Reply::Session(3), "after a down the HTLCs must be offered again");
}

#[test]
fn up_counts_only_from_the_assigned_owner() {
    let mut world = World::new(1);
    assert_eq!(world.up(1, 2, 50), rejected(Rejection::NotAssigned));
    assert_eq!(world.session(1), 1);
    let unknown = Command::LinkUp { node: node(9), replica: 1, stream: RequestId([0; 16]) };
    assert_eq!(world.run(unknown), rejected(Rejection::UnknownFrontNode(node(9))));
}

#[test]
fn late_up_and_offers_of_a_former_owner_change_nothing() {
    let mut world = accepted();
    world.assign(1, 2);
    assert_eq!(obstacle(&world, 1), None, "an assignment does not end the session");
    assert_eq!(world.up(1, 2, 50), Reply::Session(2));
    assert_eq!(obstacle(&world, 1), Some(ObstacleCause::NotReoffered));
    assert_eq!(world.up(1, 1, 51), rejected(Rejection::NotAssigned));
    let before = world.state.clone();
    let offers = vec![offer(1, 0), offer(2, 1)];
    assert_eq!(world.offers_in(1, 1, offers), [OfferReply::Stale, OfferReply::Stale]);
    let report = Command::LinkReport { node: node(1), session: 1, tip: None, inactive_channels: vec![] };
    assert_eq!(world.run(report), rejected(Rejection::StaleSession));
    assert_eq!(world.run(Command::LinkDown { node: node(1), session: 1 }), Reply::Done);
    assert_eq!(world.state.front_node(&node(1)), before.front_node(&node(1)));
    assert_eq!(world.state.htlc(&key(1, 0)), before.htlc(&key(1, 0)));
    assert_eq!(world.state.htlc(&key(1, 1)), None);
    assert_eq!(world.state.event_sequence(), before.event_sequence());
    world.hold(1, offer(1, 0));
    assert_eq!(world.settle(1), decided(1), "offered again under the present session");
}

#[test]
fn late_repeat_of_a_former_up_does_not_end_the_live_session() {
    let mut world = World::new(1);
    assert_eq!(world.up(1, 1, 50), Reply::Session(2));
    assert_eq!(world.up(1, 1, 1), rejected(Rejection::StaleSession));
    assert_eq!(world.session(1), 2);
    world.silence(4000);
    assert_eq!(world.up(1, 1, 1), Reply::Session(3), "nobody speaks for session 2");
}

#[test]
fn a_new_term_makes_sessions_unconfirmed_until_reported() {
    let mut world = accepted();
    world.next_term();
    assert_eq!(obstacle(&world, 1), Some(ObstacleCause::Unconfirmed));
    assert!(!world.state.is_link_live(&node(1)));
    assert_eq!(world.settle(1), GATE_CLOSED);
    assert_eq!(world.offer(1, offer(1, 0)), OfferReply::Held, "the number is still the present one");
    assert_eq!(world.settle(1), GATE_CLOSED);
    world.report(1, HEIGHT);
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn auto_settle_waits_for_confirmation_in_the_new_term() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 500, 1000));
    world.next_term();
    world.report(2, HEIGHT);
    world.hold(2, part(1, 0, 500, 1000));
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    world.report(1, HEIGHT);
    assert_eq!(world.state_of(1), InvoiceState::Settling);
}

#[test]
fn no_news_for_three_seconds_closes_the_gate() {
    let mut world = accepted();
    world.silence(SESSION_FRESH_MS);
    assert_eq!(obstacle(&world, 1), None);
    world.silence(1);
    assert_eq!(obstacle(&world, 1), Some(ObstacleCause::NoNews));
    assert_eq!(world.settle(1), GATE_CLOSED);
    world.report_with(1, None, true, &[]);
    assert_eq!(world.settle(1), decided(1));
}

#[test]
fn link_down_ends_only_its_own_session() {
    let mut world = accepted();
    assert_eq!(world.run(Command::LinkDown { node: node(1), session: 7 }), Reply::Done);
    assert_eq!(obstacle(&world, 1), None);
    world.down(1);
    assert_eq!(obstacle(&world, 1), Some(ObstacleCause::LinkDown));
    assert_eq!(world.offer(1, offer(1, 0)), OfferReply::Stale);
    assert_eq!(world.settle(1), GATE_CLOSED);
}

#[test]
fn a_part_lost_without_word_is_not_settled_because_it_is_not_offered_again() {
    let mut world = World::auto(2);
    world.hold(1, part(1, 0, 500, 1000));
    world.up(1, 1, 50);
    world.hold(2, part(1, 0, 500, 1000));
    assert_eq!(obstacle(&world, 1), Some(ObstacleCause::NotReoffered));
    world.pass(10_000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_eq!(world.offer(1, part(1, 0, 500, 1000)), OfferReply::Decided(Verdict::Settle));
}

#[test]
fn stale_offers_get_recorded_verdicts_and_nothing_else() {
    let mut world = World::auto(1);
    world.judge(1, offer(1, 0));
    world.up(1, 1, 50);
    let replies = world.offers_in(1, 1, vec![offer(1, 0), offer(2, 1)]);
    assert_eq!(replies, [OfferReply::Decided(Verdict::Settle), OfferReply::Stale]);
}

#[test]
fn a_policy_scid_stands_for_one_policy_of_one_node() {
    let mut world = World::new(2);
    let put = |scid, fee_base_msat| Command::PutFrontNode {
        node: node(1),
        alias: "n1".into(),
        policy: FrontNodePolicy { scid, fee_base_msat, fee_ppm: 0, cltv_delta: 80 },
    };
    assert!(matches!(world.run(put(1, 5)), Reply::Rejected(Rejection::Invalid(_))));
    assert!(matches!(world.run(put(2, 0)), Reply::Rejected(Rejection::Invalid(_))), "of node 2");
    assert_eq!(world.run(put(100, 5)), Reply::Done);
    let front = world.state.front_node(&node(1)).unwrap();
    assert_eq!(front.policy.scid, 100);
    assert_eq!(front.policy_of(1).unwrap().fee_base_msat, 0, "the former one is honoured");
    assert_eq!(world.run(put(1, 0)), Reply::Done);
    let front = world.state.front_node(&node(1)).unwrap();
    assert_eq!((front.policy.scid, front.former_policies.len()), (1, 1));
}

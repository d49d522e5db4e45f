//! Front nodes added, disabled and removed at run time.

use crate::support::*;
use mux_raft::machine::State;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;

/// At the highest feature level.
fn world(nodes: u8) -> World {
    at_level(nodes, COMMAND_FORMAT)
}

fn at_level(nodes: u8, level: u16) -> World {
    let mut world = World::new(nodes);
    assert_eq!(world.run(Command::raise_feature_level_to(level)), Reply::Done);
    world
}

fn policy(scid: u64) -> FrontNodePolicy {
    FrontNodePolicy { scid, fee_base_msat: 1, fee_ppm: 2, cltv_delta: 80 }
}

fn access() -> FrontNodeAccess {
    let endpoint = FrontNodeEndpoint { address: "carol:10009".into(), tls_cert: "PEM".into() };
    FrontNodeAccess { endpoints: vec![endpoint], macaroon: "carol.macaroon".into(), zone: "a".into() }
}

fn put(number: u8, alias: &str, scid: u64) -> Command {
    let node = node(number);
    Command::PutFrontNodeAccess { node, alias: alias.into(), policy: policy(scid), access: access() }
}

fn remove(number: u8, force: bool) -> Command {
    Command::RemoveFrontNode { node: node(number), force }
}

fn is_invalid(reply: &Reply) -> bool {
    matches!(reply, Reply::Rejected(Rejection::Invalid(_)))
}

#[test]
fn a_node_added_at_run_time_tells_every_replica_how_to_reach_it() {
    let mut world = world(1);
    assert_eq!(world.run(put(9, "carol", 900)), Reply::Done);
    assert_eq!(world.state.front_node_access(&node(9)), Some(&access()));
    assert_eq!(world.state.front_node(&node(9)).unwrap().policy, policy(900));
    assert_eq!(world.state.front_node_access(&node(1)), None, "that one is in configurations");
    let restored = State::decode_snapshot(&world.state.encode_snapshot()).unwrap();
    assert_eq!(restored, world.state, "a snapshot has it");
    assert!(is_invalid(&world.run(put(8, "carol", 901))), "a name is one node's");
    let long = FrontNodeEndpoint { address: "a:1".into(), tls_cert: "x".repeat(ACCESS_BYTES_MAX) };
    let access = FrontNodeAccess { endpoints: vec![long], ..access() };
    let command =
        Command::PutFrontNodeAccess { node: node(8), alias: "d".into(), policy: policy(902), access };
    assert!(is_invalid(&world.run(command)), "an entry has its size");
    assert!(world.state.front_node(&node(8)).is_none());
}

#[test]
fn a_disabled_node_gets_no_new_invoices_and_still_receives() {
    let mut world = world(2);
    let healthy =
        |world: &World| world.state.healthy_front_nodes().map(|front| front.node).collect::<Vec<_>>();
    assert_eq!(healthy(&world).len(), 2);
    world.run(Command::SetFrontNodeDisabled { node: node(1), disabled: true });
    assert_eq!(healthy(&world), [node(2)]);
    assert_eq!(world.state.active_front_nodes().count(), 1);
    assert!(world.state.is_link_live(&node(1)));
    world.hold(1, offer(1, 0));
    world.settle(1);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Settle), "what was promised is received");
    world.run(Command::SetFrontNodeDisabled { node: node(1), disabled: false });
    assert_eq!(healthy(&world).len(), 2);
}

#[test]
fn a_node_with_htlcs_in_doubt_is_removed_by_force_only() {
    let mut world = at_level(2, 2);
    world.hold(1, offer(1, 0));
    assert!(is_invalid(&world.run(remove(1, false))));
    assert!(world.state.front_node(&node(1)).is_some());
    assert_eq!(world.run(remove(1, true)), Reply::Done);
    assert!(world.state.front_node(&node(1)).is_none());
    assert_eq!(world.state.unresolved_htlcs(&node(1)).count(), 1, "it is not forgotten");
    // Nobody offers it again, so it is never decided; its deadline comes by the other node's height.
    world.settle_with(1, None, None, true);
    assert_eq!(world.verdict(1, 0), None);
    let height = world.state.settle_deadline_height(&hash(1)).unwrap();
    world.blocks(height);
    assert!(matches!(world.verdict(1, 0), Some(Verdict::Fail(_))));
    world.blocks(height + 200);
    assert_eq!(world.state.htlcs_of(&node(1)).count(), 0, "forgotten once it is past its expiry");
}

const REMOVED: Verdict = Verdict::Fail(FailReason::Temporary { cause: TemporaryCause::FrontNodeRemoved });

/// Accepted: 400 at node 1, 600 at node 2, and the application's wish to settle, which waits for node 1.
fn waits_for_its_gate(world: &mut World, invoice: u8, htlc_id: u64) {
    world.hold(1, part(invoice, htlc_id, 400, 1000));
    world.hold(2, part(invoice, htlc_id, 600, 1000));
    world.down(1);
    assert_eq!(world.settle_with(invoice, None, None, true), GATE_CLOSED);
}

#[test]
fn a_removal_fails_the_undecided_sets_with_a_part_there_and_no_other() {
    let mut world = world(2);
    world.hold(1, part(3, 3, 400, 1000));
    world.hold(2, offer(4, 4));
    world.hold(1, part(5, 5, 400, 1000));
    world.hold(2, part(5, 5, 600, 1000));
    assert_eq!(world.settle(5), decided(1));
    waits_for_its_gate(&mut world, 1, 1);
    assert_eq!(world.run(remove(1, true)), Reply::Done);
    assert_eq!((world.verdict(1, 1), world.verdict(2, 1)), (Some(REMOVED), Some(REMOVED)));
    assert_eq!(
        (world.verdict(1, 3), world.state_of(3)),
        (Some(REMOVED), InvoiceState::Open),
        "one collected"
    );
    assert_eq!((world.verdict(2, 4), world.state_of(4)), (None, InvoiceState::Accepted), "not its");
    assert_eq!(world.state_of(1), InvoiceState::Open, "payable again");
    assert_eq!(world.settle_with(1, None, None, true), rejected(Rejection::WrongState(InvoiceState::Open)));
    world.hold(2, offer(1, 10));
    assert_eq!((world.settle(1), world.verdict(1, 1)), (decided(2), Some(REMOVED)), "a verdict stays");
}

#[test]
fn a_removal_leaves_a_decision_to_the_operator() {
    let mut world = world(2);
    world.hold(1, part(5, 5, 400, 1000));
    world.hold(2, part(5, 5, 600, 1000));
    assert_eq!(world.settle(5), decided(1));
    assert_eq!(world.run(remove(1, true)), Reply::Done);
    assert_eq!((world.verdict(1, 5), world.state_of(5)), (Some(Verdict::Settle), InvoiceState::Settling));
    assert_eq!(
        world.state.unresolved_htlcs(&node(1)).count(),
        1,
        "it is shown until somebody says how it ended"
    );
    world.end(2, 5, FinalOutcome::Settled);
    world.blocks(EXPIRY + UNCONFIRMED_AFTER_BLOCKS + 1);
    let resolve = Command::ResolveHtlc { key: key(1, 5), settled: false };
    assert_eq!(world.run(resolve), Reply::Done);
    assert_eq!(world.find(5).state, InvoiceState::Partial);
}

#[test]
fn a_set_whose_invoice_expired_meanwhile_does_not_become_payable_by_a_removal() {
    let mut world = world(2);
    world.add(1, InvoiceKind::Hold, 1000);
    world.hold(1, of_kind(InvoiceKind::Hold, part(1, 1, 400, 1000)));
    world.hold(2, of_kind(InvoiceKind::Hold, part(1, 1, 600, 1000)));
    world.pass(3_700_000);
    assert_eq!(world.state_of(1), InvoiceState::Accepted);
    assert_eq!(world.run(remove(1, true)), Reply::Done);
    assert_eq!(world.find(1).state, InvoiceState::Expired);
}

#[test]
fn sets_left_by_a_removal_at_level_2_fail_when_the_level_rises() {
    let mut world = at_level(2, 2);
    waits_for_its_gate(&mut world, 1, 1);
    assert_eq!(world.run(remove(1, true)), Reply::Done);
    assert_eq!((world.verdict(2, 1), world.state_of(1)), (None, InvoiceState::Accepted), "as level 2 has it");
    assert_eq!(world.run(Command::raise_feature_level()), Reply::Done);
    assert_eq!((world.verdict(2, 1), world.state_of(1)), (Some(REMOVED), InvoiceState::Open));
}

#[test]
fn a_removed_node_takes_no_commands_and_its_scids_stay_its_own() {
    let mut world = world(2);
    let scid = world.state.front_node(&node(1)).unwrap().policy.scid;
    assert_eq!(world.run(remove(1, false)), Reply::Done);
    assert_eq!(world.run(remove(1, false)), rejected(Rejection::UnknownFrontNode(node(1))));
    assert_eq!(world.up(1, 1, 77), rejected(Rejection::NotAssigned));
    let assign = Command::AssignLink { node: node(1), replica: Some(1) };
    assert_eq!(world.run(assign), rejected(Rejection::UnknownFrontNode(node(1))));
    let config = Command::PutFrontNode { node: node(1), alias: "a".into(), policy: policy(scid + 1000) };
    assert!(is_invalid(&world.run(config)), "a configuration does not bring it back");
    assert!(is_invalid(&world.run(put(9, "carol", scid))), "nobody gets its virtual channel");
    assert_eq!(world.state.front_nodes().count(), 1);
    assert_eq!(world.state.all_front_nodes().count(), 2);
}

#[test]
fn a_removed_node_that_comes_back_counts_its_sessions_on() {
    let mut world = world(2);
    let session = world.session(1);
    world.run(remove(1, false));
    assert_eq!(world.run(put(1, "again", 1_000)), Reply::Done);
    world.assign(1, 1);
    assert_eq!(world.up(1, 1, 78), Reply::Session(session + 1));
    assert!(world.state.front_node(&node(1)).unwrap().former_policies.len() == 1, "older invoices stay good");
}

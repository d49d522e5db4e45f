//! Front nodes added, disabled and removed at run time.

use crate::support::*;
use mux_raft::machine::State;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;

/// At feature level 2.
fn world(nodes: u8) -> World {
    let mut world = World::new(nodes);
    assert_eq!(world.run(Command::raise_feature_level()), Reply::Done);
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
    let mut world = world(2);
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

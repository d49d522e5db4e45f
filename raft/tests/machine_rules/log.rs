//! Positions, time, hashes, events and snapshots.

use crate::support::*;
use mux_raft::machine::archive::EmptyArchive;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::{FatalApply, LogPosition, Reply, SnapshotError, State};

fn tick(time_ms: u64) -> Envelope {
    Envelope { format: COMMAND_FORMAT, time_ms, request_id: None, command: Command::Tick }
}

#[test]
fn an_entry_of_an_unknown_format_stops_the_replica_and_changes_nothing() {
    let mut world = World::new(1);
    let before = world.state.clone();
    let newer = Envelope { format: COMMAND_FORMAT + 1, ..tick(NOW) };
    assert_eq!(world.try_apply(Some(newer)), Err(FatalApply::UnknownFormat { found: COMMAND_FORMAT + 1 }));
    assert_eq!(world.state, before);
}

#[test]
fn an_entry_out_of_order_stops_the_replica() {
    let mut world = World::new(1);
    let applied = world.state.applied();
    for found in [applied, LogPosition { term: applied.term - 1, index: applied.index + 1 }] {
        let result = world.state.apply(found, None, &EmptyArchive);
        assert_eq!(result, Err(FatalApply::OutOfOrder { found, applied }));
    }
    assert!(
        State::default().apply(LogPosition::default(), None, &EmptyArchive).is_ok(),
        "a log may begin at 0"
    );
}

#[test]
fn time_never_runs_back() {
    let mut world = World::new(1);
    world.time_ms += 1000;
    world.run(Command::Tick);
    world.time_ms -= 5000;
    world.run(Command::Tick);
    assert_eq!(world.state.time_ms(), NOW + 1000);
}

#[test]
fn the_chain_hash_covers_every_entry() {
    let mut world = World::new(1);
    let mut hashes = vec![world.state.chain_hash()];
    world.run(Command::Tick);
    hashes.push(world.state.chain_hash());
    world.try_apply(None).unwrap();
    hashes.push(world.state.chain_hash());
    world.hold(1, offer(1, 0));
    hashes.push(world.state.chain_hash());
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn replicas_with_different_replies_or_events_never_agree_again() {
    let mut world = World::new(1);
    let mut other = world.clone();
    world.hold(1, offer(1, 0));
    other.hold(1, part(1, 0, 999, 1000));
    assert_ne!(world.state.chain_hash(), other.state.chain_hash());
    world.run(Command::Tick);
    other.run(Command::Tick);
    assert_ne!(world.state.chain_hash(), other.state.chain_hash());
}

#[test]
fn events_have_no_gap_and_are_read_from_any_number() {
    let mut world = World::new(1);
    for invoice in 1..=4 {
        world.hold(1, offer(invoice, u64::from(invoice)));
        world.settle(invoice);
    }
    let all: Vec<_> = world.state.events_after(0).map(|event| event.sequence).collect();
    assert_eq!(all, (1..=world.state.event_sequence()).collect::<Vec<_>>());
    for from in 0..=all.len() as u64 + 1 {
        let first = world.state.events_after(from).next().map(|event| event.sequence);
        assert_eq!(first, Some(from + 1).filter(|next| *next <= world.state.event_sequence()));
    }
}

#[test]
fn events_carry_the_state_after_the_change() {
    let mut world = World::new(1);
    world.hold(1, offer(1, 0));
    world.cancel(1, CancelScope::Invoice);
    let states: Vec<_> = world.state.events_after(0).map(|event| event.state).collect();
    use InvoiceState::*;
    assert_eq!(states, [Open, Open, Accepted, Canceled, Canceled]);
}

#[test]
fn a_snapshot_is_the_state() {
    let mut world = World::new(3);
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(2, offer(2, 0));
    world.hold(3, offer(3, 0));
    world.settle(3);
    world.hold(1, offer(4, 4));
    world.cancel(4, CancelScope::Set(None));
    world.report(3, HEIGHT + 100);
    world.run_as(Some(RequestId([1; 16])), Command::Tick);
    let bytes = world.state.encode_snapshot();
    let mut copy = State::decode_snapshot(&bytes).unwrap();
    assert_eq!(copy, world.state);
    let at = LogPosition { term: 1, index: world.state.applied().index + 1 };
    let entry = tick(NOW + 100_000);
    assert_eq!(
        copy.apply(at, Some(&entry), &EmptyArchive),
        world.state.apply(at, Some(&entry), &EmptyArchive)
    );
    assert_eq!(copy, world.state);
}

#[test]
fn a_damaged_cut_or_newer_snapshot_is_refused() {
    let bytes = World::new(1).state.encode_snapshot();
    for at in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(matches!(State::decode_snapshot(&damaged), Err(SnapshotError::Damaged { .. })));
    }
    for len in 0..bytes.len() {
        assert!(State::decode_snapshot(&bytes[..len]).is_err());
    }
    let resealed = |mut body: Vec<u8>| {
        let checksum = crc32c::crc32c(&body);
        body.extend(checksum.to_le_bytes());
        State::decode_snapshot(&body)
    };
    let body = &bytes[..bytes.len() - 4];
    let mut newer = body.to_vec();
    newer[0] = 9;
    let refusal = resealed(newer).unwrap_err();
    assert!(refusal.to_string().contains("level 9, which needs a later version; this is muxd"), "{refusal}");
    let mut longer = body.to_vec();
    longer.push(0);
    assert!(matches!(resealed(longer), Err(SnapshotError::Malformed(_))));
    assert!(matches!(resealed(body[..50].to_vec()), Err(SnapshotError::Malformed(_))));
}

#[test]
fn a_newer_snapshot_says_which_version_reads_it() {
    let mut world = World::new(1);
    world.run(Command::raise_feature_level());
    let mut bytes = world.state.encode_snapshot();
    bytes.truncate(bytes.len() - 4);
    bytes[0] += 1;
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let refusal = State::decode_snapshot(&bytes).unwrap_err();
    assert_eq!(
        refusal,
        SnapshotError::UnknownFormat { found: COMMAND_FORMAT + 1, needed: "muxd 0.3.0 or later".into() }
    );
}

#[test]
fn unusable_settings_are_refused() {
    let mut world = World::new(1);
    for settings in [
        Settings { parts_per_set_max: 0, ..Settings::default() },
        Settings { held_per_channel_max: 0, ..Settings::default() },
        Settings { mpp_timeout_ms: 0, ..Settings::default() },
        Settings { accept_timeout_ms: 0, ..Settings::default() },
    ] {
        let reply = world.run(Command::Configure(settings));
        assert!(matches!(reply, mux_raft::machine::Reply::Rejected(_)));
    }
}

#[test]
fn changed_settings_apply_to_sets_under_way() {
    let mut world = World::new(1);
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(1, offer(2, 1));
    let settings = Settings { mpp_timeout_ms: 5000, auto_settle: true, ..Settings::default() };
    world.run(Command::Configure(settings));
    assert_eq!(world.state_of(2), InvoiceState::Settling, "auto-settle takes what is accepted");
    world.pass(5000);
    assert_eq!(world.verdict(1, 0), Some(Verdict::Fail(FailReason::MppTimeout)));
}

#[test]
fn only_a_gap_of_more_than_five_seconds_gives_grace() {
    for (gap_ms, grace_until_ms) in [(GAP_MS, 0), (GAP_MS + 1, NOW + GAP_MS + 1 + GAP_GRACE_MS)] {
        let mut world = World::new(1);
        world.time_ms += gap_ms;
        world.run(Command::Tick);
        assert_eq!(world.state.grace_until_ms(), grace_until_ms);
    }
}

#[test]
fn apply_says_whom_to_wake() {
    let mut world = World::new(2);
    world.hold(1, part(1, 0, 400, 1000));
    world.hold(2, part(1, 0, 600, 1000));
    let time_ms = world.time_ms;
    let mut apply = |command| {
        let entry = Envelope { format: COMMAND_FORMAT, time_ms, request_id: None, command };
        let applied = world.try_apply(Some(entry)).unwrap();
        (applied.nodes, applied.events)
    };
    assert_eq!(apply(Command::Tick), (vec![], false));
    let settle = Command::SettleInvoice { hash: hash(1), set_id: None, preimage: None, keep_intent: false };
    assert_eq!(apply(settle.clone()), (vec![node(1), node(2)], true));
    assert_eq!(apply(settle), (vec![], false));
    world.term += 1;
    assert_eq!(world.try_apply(None).unwrap().nodes, [node(1), node(2)], "sessions must be confirmed");
}

#[test]
fn a_retired_replica_is_remembered_from_level_2_on() {
    let mut world = World::new(0);
    world.run(Command::raise_feature_level());
    assert_eq!(world.run(Command::RetireReplica { replica: 3 }), Reply::Done);
    assert_eq!(world.run(Command::RetireReplica { replica: 3 }), Reply::Done);
    let read = State::decode_snapshot(&world.state.encode_snapshot()).unwrap();
    assert!(read.retired_replicas().iter().eq(&[3]));
    assert_eq!(Command::RetireReplica { replica: 3 }.needs_level(), 2);
}

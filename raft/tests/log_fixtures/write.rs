//! Writes the fixtures of the format that this code has.

use crate::actions::{Action, INVOICES};
use crate::cluster::Cluster;
use crate::files::{Mark, Raw, directory, pack, write_log, write_marks};
use crate::seen::Seen;
use crate::{CLUSTER, Machine, Outside, actions, current_commands, slow};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::machine::model::{Event, EventKind, FailReason, TemporaryCause};
use mux_raft::machine::{Command, Envelope, LogPosition, RequestId, State, level};
use mux_raft::replica::SnapshotConfig;
use mux_raft::types::NodePubkey;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Arc;

/// Actions in the log. More make more entries; fixtures should stay below 300 KB a level.
const ACTIONS: usize = 240;
/// Entries between two marks.
const MARK_EVERY: u64 = 25;
/// Commands that the data directory has seen; its replica makes snapshots meanwhile.
const COMMANDS: usize = 150;

/// Run it by name when a level is complete: `cargo test -p mux-raft --test log_fixtures write -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "overwrites the fixtures of the current level"]
async fn write_the_fixtures_of_the_current_level() {
    let dir = directory(COMMAND_FORMAT);
    std::fs::create_dir_all(&dir).unwrap();
    let machine = history();
    write_log(&dir.join("log.bin"), &machine.log);
    write_marks(&dir.join("marks.txt"), &machine.marks);
    std::fs::write(dir.join("snapshot.bin"), machine.state.encode_snapshot()).unwrap();
    let commands: Vec<Command> = machine.commands().take(COMMANDS).collect();
    data_directory(&dir, commands).await;
}

/// Once, beside the log of level 3, which was written without.
#[test]
#[ignore = "writes a fixture of level 3 that is missing"]
fn write_the_missing_removal() {
    let dir = directory(level::REMOVAL_FAILS_SETS);
    if dir.join("removal.bin").exists() {
        return;
    }
    let machine = removal();
    write_log(&dir.join("removal.bin"), &machine.log);
    write_marks(&dir.join("removal.txt"), &machine.marks);
}

/// A random history, always the same while the actions are, with the current level's commands in the middle.
pub(crate) fn history() -> Machine {
    let mut machine = Machine::default();
    let (mut outside, first) = Outside::new();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::from_seed(RngAlgorithm::ChaCha, b"the fixtures of a feature level."),
    );
    let several = proptest::collection::vec(actions::actions(), ACTIONS / 60);
    let actions = several.new_tree(&mut runner).unwrap().current().concat();
    for entry in first {
        append(&mut machine, &outside, entry);
    }
    for (number, action) in actions.iter().enumerate() {
        if number == ACTIONS / 3 {
            for command in current_commands() {
                append(&mut machine, &outside, Some(command));
            }
        }
        act(&mut machine, &mut outside, action);
    }
    remove_under_sets(&mut machine, &mut outside);
    let end = machine.mark();
    machine.marks.push(end);
    machine
}

/// A short history of what the log of level 3 lacks: a removal that fails sets.
pub(crate) fn removal() -> Machine {
    let mut machine = Machine::default();
    let (mut outside, first) = Outside::new();
    for entry in first {
        append(&mut machine, &outside, entry);
    }
    append(&mut machine, &outside, Some(Command::raise_feature_level_to(level::REMOVAL_FAILS_SETS)));
    remove_under_sets(&mut machine, &mut outside);
    let end = machine.mark();
    machine.marks.push(end);
    machine
}

fn act(machine: &mut Machine, outside: &mut Outside, action: &Action) {
    let seen = Seen { state: machine.state.clone(), archive: Arc::clone(&machine.archive) };
    for entry in outside.entries(action, &seen) {
        append(machine, outside, entry);
    }
}

/// Undecided sets with parts at one front node, at another, and at both; then one of them is removed.
fn remove_under_sets(machine: &mut Machine, outside: &mut Outside) {
    let (removed, stays) = (1, 2);
    act(machine, outside, &Action::Configure(0));
    for node in [removed, stays] {
        act(machine, outside, &Action::Assign(node, 1));
        act(machine, outside, &Action::Reconnect(node));
    }
    act(machine, outside, &Action::Report(1));
    for (invoice, nodes) in
        (1..=INVOICES).zip([vec![removed], vec![stays], vec![removed, stays]].iter().cycle())
    {
        for node in nodes.iter().copied() {
            let (amount, total, chan, blocks, flaw) = (300, 1_000, 1, 160, 0);
            act(machine, outside, &Action::Offer { node, invoice, amount, total, chan, blocks, flaw });
        }
    }
    let undecided = machine.state.undecided_sets().count();
    let (node, before) = (NodePubkey([removed; 33]), machine.state.event_sequence());
    append(machine, outside, Some(Command::RemoveFrontNode { node, force: true }));
    let failed = failed_with_a_node(&machine.state, before);
    assert!((1..undecided).contains(&failed), "{failed} of {undecided} undecided sets fail with the node");
    append(machine, outside, Some(Command::Tick));
}

/// How many sets failed with a front node since an event.
pub(crate) fn failed_with_a_node(state: &State, after: u64) -> usize {
    let removed = FailReason::Temporary { cause: TemporaryCause::FrontNodeRemoved };
    let failed =
        |event: &&Event| matches!(&event.kind, EventKind::SetFailed { reason, .. } if *reason == removed);
    state.events_after(after).filter(failed).count()
}

fn append(machine: &mut Machine, outside: &Outside, command: Option<Command>) {
    let index = machine.state.applied().index + 1;
    let at = LogPosition { term: outside.term, index };
    // Some requests come twice.
    let request_id =
        index.is_multiple_of(7).then(|| RequestId([u8::try_from(index / 14 % 250).unwrap(); 16]));
    let raw: Raw = (
        at,
        command.map(|command| {
            let (format, time_ms) = (command.level(), outside.time_ms);
            postcard::to_stdvec(&Envelope { format, time_ms, request_id, command }).unwrap()
        }),
    );
    machine.apply(&raw);
    if index.is_multiple_of(MARK_EVERY) {
        let mark: Mark = machine.mark();
        machine.marks.push(mark);
    }
}

/// The directory of a replica that was alone, made snapshots, and ended in order.
async fn data_directory(dir: &std::path::Path, commands: Vec<Command>) {
    let mut cluster = Cluster::prepare(1);
    let config = cluster.configs.get_mut(&1).unwrap();
    config.cluster_id = CLUSTER;
    config.snapshot = SnapshotConfig { logs_since_last: 60, keep_logs: 20, purge_batch: 5 };
    cluster.start_one(1).await;
    slow(&mut cluster);
    cluster.leader().await;
    for command in commands {
        cluster.replica(1).propose(command, None).await.unwrap();
    }
    let status = cluster.status(1);
    assert!(status.snapshot > 0, "it has made a snapshot");
    let replica = cluster.running.remove(&1).unwrap();
    replica.shutdown().await;
    let state = replica.state().read(Clone::clone);
    let mark = Mark {
        index: state.applied().index,
        chain_hash: hex::encode(state.chain_hash()),
        replies: "-".into(),
    };
    drop(replica);
    pack(&cluster.configs[&1].data_dir, &dir.join("replica.bin"));
    write_marks(&dir.join("replica.txt"), &[mark]);
}

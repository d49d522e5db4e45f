//! Writes the fixtures of the format that this code has.

use crate::cluster::Cluster;
use crate::files::{Mark, Raw, directory, pack, write_log, write_marks};
use crate::seen::Seen;
use crate::{CLUSTER, Machine, Outside, actions, current_commands, slow};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::machine::{Command, Envelope, LogPosition, RequestId};
use mux_raft::replica::SnapshotConfig;
use mux_raft::types::NodePubkey;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

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
        let seen = Seen { state: machine.state.clone(), archive: std::sync::Arc::clone(&machine.archive) };
        for entry in outside.entries(action, &seen) {
            append(&mut machine, &outside, entry);
        }
    }
    // Sets that wait for one of its parts fail with it.
    let node = NodePubkey([1; 33]);
    append(&mut machine, &outside, Some(Command::RemoveFrontNode { node, force: true }));
    append(&mut machine, &outside, Some(Command::Tick));
    let end = machine.mark();
    machine.marks.push(end);
    machine
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

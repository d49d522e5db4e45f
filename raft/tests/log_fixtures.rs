//! Logs, snapshots and data directories that former versions wrote are read, and mean the same.
//!
//! Each level has a directory in `tests/fixtures`, written once by the last version of that level and never
//! changed again:
//!
//! * `log.bin`: entries of every kind of command, as they were encoded.
//! * `marks.txt`: what a replica had computed after every 25 of them: `index chain-hash hash-of-replies`.
//! * `snapshot.bin`: the state at the end.
//! * `replica.bin`, `replica.txt`: the data directory of a replica that was stopped in order, and the mark of it.
//! * `voided.bin`, `voided-events.bin` (from level 3 on): a restoration, see `log_fixtures/voided.rs`.
//! * `removal.bin`, `removal.txt` (level 3 only): a log and its marks in which the removal of a front node fails sets, which
//!   `log.bin` of that level does not show. Later logs do.
//!
//! `level1` is of the last commit before feature levels, `level2` of 0.2.0: archive, retention, identity of stores, access to
//! front nodes, retired replicas, restoration; `level3` of 0.3.0: what a front node's removal does to sets.
//!
//! The next ones: put a command of each new kind into `current_commands` (a test says which one is missing). When a
//! level is complete, and before a version with it is released, write its fixtures with
//! `cargo test -p mux-raft --test log_fixtures write -- --ignored`, look at what was written, and add the level to
//! `LEVELS`. From the release on the files stay as they are: a test that fails then has found a change of the format.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, dead_code, reason = "these are tests")]

#[path = "machine_properties/actions.rs"]
mod actions;
#[path = "replica/cluster.rs"]
mod cluster;
#[path = "log_fixtures/files.rs"]
mod files;
#[path = "machine_properties/seen.rs"]
mod seen;
#[path = "machine_support/mod.rs"]
mod support;
#[path = "log_fixtures/voided.rs"]
mod voided;
#[path = "log_fixtures/write.rs"]
mod write;

use actions::Outside;
use cluster::{Cluster, eventually};
use files::{Mark, Raw, directory, read_log, read_marks, unpack};
use mux_raft::archive::{Archive as _, MemoryArchive};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::archive::NewRecord;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::machine::model::{FrontNodeAccess, FrontNodeEndpoint, FrontNodePolicy};
use mux_raft::machine::{Command, Envelope, LogPosition, State, level};
use mux_raft::types::{NodePubkey, StoreId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Levels with fixtures.
const LEVELS: [u16; 3] = [1, 2, 3];
/// The cluster of the data directories.
const CLUSTER: [u8; 32] = [0xf1; 32];

/// A machine that applies raw entries and computes marks.
#[derive(Default)]
struct Machine {
    state: State,
    archive: Arc<MemoryArchive>,
    /// All that ever went there.
    records: Vec<NewRecord>,
    replies: [u8; 32],
    log: Vec<Raw>,
    marks: Vec<Mark>,
}

impl Machine {
    fn apply(&mut self, raw: &Raw) {
        let envelope = raw.1.as_ref().map(|bytes| {
            let (envelope, rest) = postcard::take_from_bytes::<Envelope>(bytes).unwrap();
            assert!(rest.is_empty(), "entry {}: {} bytes too many", raw.0.index, rest.len());
            assert_eq!(postcard::to_stdvec(&envelope).unwrap(), *bytes, "it would be encoded otherwise now");
            envelope
        });
        let applied = self.state.apply(raw.0, envelope.as_ref(), self.archive.as_ref()).unwrap();
        self.records.extend(applied.archived.iter().cloned());
        self.archive.append(applied.archived).unwrap();
        let mut hasher = Sha256::new_with_prefix(self.replies);
        hasher.update(postcard::to_stdvec(&applied.reply).unwrap());
        self.replies = hasher.finalize().into();
        self.log.push(raw.clone());
    }

    fn mark(&self) -> Mark {
        Mark {
            index: self.state.applied().index,
            chain_hash: hex::encode(self.state.chain_hash()),
            replies: hex::encode(self.replies),
        }
    }

    fn commands(&self) -> impl Iterator<Item = Command> + '_ {
        let envelopes = self.log.iter().filter_map(|(_, bytes)| bytes.as_ref());
        envelopes.map(|bytes| postcard::from_bytes::<Envelope>(bytes).unwrap().command)
    }

    /// The log of a level, applied.
    fn replay(level: u16) -> Self {
        Self::replay_file(level, "log.bin", "marks.txt")
    }

    fn replay_file(level: u16, log: &str, marks: &str) -> Self {
        let dir = directory(level);
        let mut machine = Self::default();
        let mut marks = read_marks(&dir.join(marks)).into_iter();
        let mut next = marks.next();
        for raw in read_log(&dir.join(log)) {
            machine.apply(&raw);
            if next.as_ref().is_some_and(|mark| mark.index == raw.0.index) {
                assert_eq!(Some(machine.mark()), next, "level {level} diverges before entry {}", raw.0.index);
                next = marks.next();
            }
        }
        assert_eq!(next, None, "the log ends too early");
        machine
    }
}

/// A front node that comes, rests and goes.
const NEWCOMER: NodePubkey = NodePubkey([3; 33]);

/// One command of each kind that belongs to the current level, in an order that makes sense.
fn current_commands() -> Vec<Command> {
    vec![
        Command::raise_feature_level(),
        Command::SetRetention { keep_finished_ms: Some(86_400_000) },
        Command::AcceptRestoration,
        Command::EnrolStore { replica: 1, store: StoreId([1; 16]) },
        Command::EnrolStore { replica: 1, store: StoreId([2; 16]) },
        Command::NoteLogs { ends: vec![(1, LogPosition { term: 1, index: 9 }), (2, LogPosition::default())] },
        Command::PutFrontNodeAccess {
            node: NEWCOMER,
            alias: "newcomer".into(),
            policy: FrontNodePolicy { scid: 77, fee_base_msat: 1, fee_ppm: 2, cltv_delta: 80 },
            access: FrontNodeAccess {
                endpoints: vec![FrontNodeEndpoint { address: "lnd:10009".into(), tls_cert: "PEM".into() }],
                macaroon: "newcomer.macaroon".into(),
                zone: "a".into(),
            },
        },
        Command::SetFrontNodeDisabled { node: NEWCOMER, disabled: true },
        Command::RemoveFrontNode { node: NEWCOMER, force: false },
        Command::RetireReplica { replica: 7 },
    ]
}

/// Which variant a command is: the log names it by its number.
fn kind(command: &Command) -> u8 {
    postcard::to_stdvec(command).unwrap()[0]
}

/// How many variants there are.
fn kinds() -> u8 {
    // What exists lacks its fields here, or has none.
    let exists =
        |kind: &u8| !matches!(postcard::from_bytes::<Command>(&[*kind]), Err(postcard::Error::SerdeDeCustom));
    (0..=127).take_while(exists).count().try_into().unwrap()
}

/// Elections take long enough to look at what a restart found.
fn slow(cluster: &mut Cluster) {
    for config in cluster.configs.values_mut() {
        config.timing.election_min = Duration::from_secs(3);
        config.timing.election_max = Duration::from_secs(5);
    }
}

#[test]
fn old_logs_give_the_same_replies_events_and_states() {
    for level in LEVELS {
        let machine = Machine::replay(level);
        assert!(machine.log.len() > 300, "level {level} has {} entries", machine.log.len());
        assert_eq!(machine.state.feature_level(), level);
    }
}

#[test]
fn a_removal_fails_the_same_sets() {
    let machine = Machine::replay_file(level::REMOVAL_FAILS_SETS, "removal.bin", "removal.txt");
    assert!(write::failed_with_a_node(&machine.state, 0) > 0);
}

#[test]
fn every_kind_of_command_is_in_the_fixtures() {
    let of_level =
        |level| Machine::replay(level).commands().map(|command| kind(&command)).collect::<BTreeSet<_>>();
    // Frozen: level 1 will never have others.
    assert_eq!(of_level(1), (0..13).collect());
    let latest: BTreeSet<_> = write::history().commands().map(|command| kind(&command)).collect();
    let missing: Vec<_> = (0..kinds()).filter(|kind| !latest.contains(kind)).collect();
    assert!(
        missing.is_empty(),
        "`current_commands` lacks commands {missing:?} (0 is the first); see this file's first lines"
    );
}

#[test]
fn old_snapshots_are_read_and_written_alike() {
    for level in LEVELS {
        let machine = Machine::replay(level);
        let bytes = std::fs::read(directory(level).join("snapshot.bin")).unwrap();
        assert!(State::decode_snapshot(&bytes).unwrap() == machine.state, "level {level}: another state");
        assert!(machine.state.encode_snapshot() == bytes, "level {level}: an old version would not read it");
    }
}

#[test]
fn an_old_log_and_an_old_snapshot_go_on_alike_at_the_next_level() {
    for old in LEVELS.into_iter().filter(|level| *level < COMMAND_FORMAT) {
        goes_on_alike(old);
    }
}

fn goes_on_alike(old: u16) {
    let mut replayed = Machine::replay(old);
    let bytes = std::fs::read(directory(old).join("snapshot.bin")).unwrap();
    let state = State::decode_snapshot(&bytes).unwrap();
    // The old log's records are there, whoever has the snapshot.
    let archive = Arc::new(MemoryArchive::default());
    archive.append(replayed.records.clone()).unwrap();
    let mut restored = Machine { state, archive, replies: replayed.replies, ..Machine::default() };
    let start = replayed.state.applied();
    let raise = Envelope {
        format: Command::raise_feature_level().level(),
        time_ms: replayed.state.time_ms(),
        request_id: None,
        command: Command::raise_feature_level(),
    };
    let raised = (
        LogPosition { term: start.term, index: start.index + 1 },
        Some(postcard::to_stdvec(&raise).unwrap()),
    );
    let rest = write::history().log.into_iter().map(|(at, bytes)| {
        let (term, index) = (at.term + start.term, at.index + start.index + 1);
        (LogPosition { term, index }, bytes)
    });
    for raw in std::iter::once(raised).chain(rest) {
        replayed.apply(&raw);
        restored.apply(&raw);
        assert_eq!(replayed.mark(), restored.mark(), "from level {old}");
    }
    assert!(replayed.state == restored.state);
    assert_eq!(replayed.state.feature_level(), COMMAND_FORMAT);
    assert!(replayed.state.archive_tip().next > 0, "finished invoices leave memory at the new level");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_an_old_version_starts_and_rises() {
    for level in LEVELS {
        let dir = directory(level);
        let mut cluster = Cluster::prepare(1);
        slow(&mut cluster);
        cluster.configs.get_mut(&1).unwrap().cluster_id = CLUSTER;
        unpack(&dir.join("replica.bin"), &cluster.configs[&1].data_dir);
        let mark = read_marks(&dir.join("replica.txt")).remove(0);
        cluster.start_one(1).await;
        let found =
            cluster.replica(1).state().read(|state| (state.applied().index, hex::encode(state.chain_hash())));
        assert_eq!(found, (mark.index, mark.chain_hash), "level {level}");
        cluster.leader().await;
        eventually("the level rises", || cluster.status(1).feature_level == COMMAND_FORMAT).await;
        let committed = cluster.commit(1).await;
        cluster.stop(1).await;
        cluster.start_one(1).await;
        cluster.leader().await;
        cluster.replica(1).read_barrier().await.unwrap();
        assert!(cluster.replica(1).state().read(|state| state.applied()) >= committed.at);
    }
}

use super::directory::SnapshotDirectory;
use super::file::{SnapshotError, SnapshotFile};
use super::machine::Machine;
use crate::blocking::Blocking;
use crate::codec::LoggedCommand;
use crate::consensus::StateCell;
use crate::machine::command::{COMMAND_FORMAT, ChainTip, HtlcOffer};
use crate::machine::model::{FrontNodePolicy, InvoiceKind, InvoiceTerms, Verdict};
use crate::machine::{Command, Envelope, RequestId};
use crate::replica::latch::Latch;
use crate::replica::raft::{Entry, SnapshotMeta, StoredMembership, TypeConfig, log_id};
use crate::types::{CircuitKey, Msat, NodePubkey, PaymentSecret, Preimage};
use openraft::storage::{EntryResponder, RaftStateMachine as _};
use openraft::{BasicNode, EntryPayload, Membership, RaftSnapshotBuilder as _};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const CLUSTER_ID: [u8; 32] = [7; 32];

struct Bench {
    dir: TempDir,
    cell: Arc<StateCell>,
    directory: SnapshotDirectory,
    latch: Latch,
    machine: Machine,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let directory = SnapshotDirectory::open(&dir.path().join("snapshots"), CLUSTER_ID).unwrap();
        let (cell, latch) = (Arc::new(StateCell::default()), Latch::new());
        let machine =
            Machine::new(Arc::clone(&cell), directory.clone(), Blocking::on_threads(), latch.clone());
        Self { dir, cell, directory, latch, machine }
    }

    async fn apply(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let items: Vec<io::Result<EntryResponder<TypeConfig>>> =
            entries.into_iter().map(|entry| Ok((entry, None))).collect();
        self.machine.apply(futures::stream::iter(items)).await
    }

    fn applied(&self) -> u64 {
        self.cell.read(|state| state.applied().index)
    }
}

fn tick(index: u64, format: u16) -> Entry {
    entry(index, format, Command::Tick)
}

fn entry(index: u64, format: u16, command: Command) -> Entry {
    let envelope = Envelope { format, time_ms: 1_000 + index, request_id: None, command };
    let bytes = LoggedCommand::new(envelope).unwrap().bytes().clone();
    // As it comes from the log: encoded.
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(LoggedCommand::from_bytes(bytes)) }
}

fn membership() -> Membership<u64, BasicNode> {
    let nodes: BTreeMap<u64, BasicNode> = [(1, BasicNode::new("one:1")), (2, BasicNode::new("two:2"))].into();
    Membership::new(vec![BTreeSet::from([1])], nodes).unwrap()
}

#[tokio::test]
async fn entries_are_applied_in_order_and_memberships_kept() {
    let mut bench = Bench::new();
    let members = Entry { log_id: log_id(1, 1), payload: EntryPayload::Membership(membership()) };
    let mut entries = vec![members];
    entries.extend((2..300).map(|index| tick(index, COMMAND_FORMAT)));
    bench.apply(entries).await.unwrap();
    assert_eq!(bench.applied(), 299);
    let (applied, stored) = bench.machine.applied_state().await.unwrap();
    assert_eq!(applied, Some(log_id(1, 299)));
    assert_eq!(stored, StoredMembership::new(Some(log_id(1, 1)), membership()));
}

#[tokio::test]
async fn a_committed_command_of_a_later_version_stops_the_replica_after_what_precedes_it() {
    let mut bench = Bench::new();
    let entries = vec![
        tick(1, COMMAND_FORMAT),
        tick(2, COMMAND_FORMAT),
        tick(3, COMMAND_FORMAT + 1),
        tick(4, COMMAND_FORMAT),
    ];
    assert!(bench.apply(entries).await.is_err());
    assert_eq!(bench.applied(), 2, "nothing is skipped");
    let reason = bench.latch.reason().unwrap();
    assert!(reason.contains("unknown format"), "{reason}");
}

#[tokio::test]
async fn a_snapshot_brings_another_replica_to_the_same_state() {
    let mut bench = Bench::new();
    bench.apply((1..50).map(|index| tick(index, COMMAND_FORMAT)).collect()).await.unwrap();
    let built = bench.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    // Apply goes on; the snapshot stays what it was.
    bench.apply(vec![tick(50, COMMAND_FORMAT)]).await.unwrap();
    let mut other = Bench::new();
    let path = other.dir.path().join("received");
    std::fs::write(&path, built.snapshot.read_all().unwrap()).unwrap();
    let received = SnapshotFile::open(&path).unwrap();
    other.machine.install_snapshot(&built.meta, received).await.unwrap();
    assert_eq!(other.applied(), 49);
    other.apply(vec![tick(50, COMMAND_FORMAT)]).await.unwrap();
    let hash = |bench: &Bench| bench.cell.read(crate::machine::State::chain_hash);
    assert_eq!(hash(&bench), hash(&other));
    // A restart finds it and may install it again.
    let current = other.machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta, built.meta);
    other.machine.install_snapshot(&current.meta, current.snapshot).await.unwrap();
    assert_eq!(other.applied(), 49);
}

const NODE: NodePubkey = NodePubkey([2; 33]);

/// One of two parts of a payment of 1000 msat.
fn part(htlc_id: u64) -> Command {
    let offer = HtlcOffer {
        chan_id: 7,
        htlc_id,
        hash: Preimage([5; 32]).payment_hash(),
        secret: PaymentSecret([6; 32]),
        terms: InvoiceTerms {
            kind: InvoiceKind::Stateless,
            amount_msat: Msat(1_000),
            expires_at_ms: 3_600_000,
            min_final_cltv: 80,
            key_epoch: 0,
        },
        total_msat: Msat(1_000),
        outgoing_amount_msat: Msat(500),
        incoming_amount_msat: Msat(500),
        outgoing_expiry: 1_080,
        incoming_expiry: 1_160,
        auto_fail_height: 1_141,
        on_chain: false,
    };
    Command::OfferHtlcs { node: NODE, session: 1, offers: vec![offer] }
}

/// A front node with a live session, and the first part.
fn first_part_held() -> Vec<Entry> {
    let policy = FrontNodePolicy { scid: 1, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
    let tip = Some(ChainTip { height: 1_000, hash: [0; 32], synced: true });
    let commands = [
        Command::PutFrontNode { node: NODE, alias: "a".into(), policy },
        Command::AssignLink { node: NODE, replica: Some(1) },
        Command::LinkUp { node: NODE, replica: 1, stream: RequestId([1; 16]) },
        Command::LinkReport { node: NODE, session: 1, tip, inactive_channels: Vec::new() },
        part(0),
    ];
    (1..).zip(commands).map(|(index, command)| entry(index, COMMAND_FORMAT, command)).collect()
}

#[tokio::test]
async fn who_waits_for_a_verdict_is_woken_by_the_snapshot_that_brings_it() {
    let verdicts = |bench: &Bench| {
        [0, 1].map(|htlc_id| {
            let key = CircuitKey { node: NODE, chan_id: 7, htlc_id };
            bench.cell.read(|state| state.verdict(&key))
        })
    };
    let (mut bench, mut behind) = (Bench::new(), Bench::new());
    bench.apply(first_part_held()).await.unwrap();
    behind.apply(first_part_held()).await.unwrap();
    assert_eq!(verdicts(&behind), [None, None]);
    bench.apply(vec![entry(6, COMMAND_FORMAT, part(1))]).await.unwrap();
    assert_eq!(verdicts(&bench), [Some(Verdict::Settle); 2], "decided while the other was away");
    let built = bench.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut watch = behind.cell.watch();
    assert!(!watch.has_changed().unwrap());
    let waiter = tokio::spawn(async move { watch.changed().await.map(|()| *watch.borrow()) });
    let path = behind.dir.path().join("received");
    std::fs::write(&path, built.snapshot.read_all().unwrap()).unwrap();
    behind.machine.install_snapshot(&built.meta, SnapshotFile::open(&path).unwrap()).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(20), waiter).await;
    assert_eq!(woken.expect("nobody was woken").unwrap().unwrap(), 6);
    assert_eq!(verdicts(&behind), [Some(Verdict::Settle); 2]);
}

fn written(bench: &Bench, index: u64) -> SnapshotFile {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(1, index)),
        last_membership: StoredMembership::new(Some(log_id(1, 0)), membership()),
    };
    let state = bench.cell.read(Clone::clone);
    let (file, _) =
        SnapshotFile::write(&bench.directory.unfinished_path(), CLUSTER_ID, &meta, &state).unwrap();
    bench.directory.keep(&file, &meta).unwrap()
}

#[test]
fn every_changed_byte_and_every_cut_of_a_snapshot_is_noticed() {
    let bench = Bench::new();
    let bytes = written(&bench, 9).read_all().unwrap();
    let path = bench.dir.path().join("damaged");
    let verify = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        SnapshotFile::open(&path).unwrap().verify(&CLUSTER_ID)
    };
    assert!(verify(&bytes).is_ok());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(verify(&damaged).is_err(), "byte {at}");
        assert!(verify(&bytes[..at]).is_err(), "cut at {at}");
    }
    std::fs::write(&path, &bytes).unwrap();
    let foreign = SnapshotFile::open(&path).unwrap().verify(&[8; 32]);
    assert!(matches!(foreign, Err(SnapshotError::Foreign(_))));
}

/// The header without its seal, and the body.
fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = usize::try_from(u32::from_le_bytes(bytes[8..12].try_into().unwrap())).unwrap();
    (bytes[12..12 + length - 4].to_vec(), bytes[12 + length..].to_vec())
}

/// A file of these, every checksum of it right.
fn joined(mut header: Vec<u8>, body: &[u8]) -> Vec<u8> {
    crate::codec::seal(&mut header);
    let length = u32::try_from(header.len()).unwrap().to_le_bytes();
    [b"MUXSNAP\x01".as_slice(), &length, &header, body].concat()
}

#[tokio::test]
async fn a_state_that_changed_on_its_way_is_refused_although_every_checksum_is_right() {
    let (mut bench, mut other) = (Bench::new(), Bench::new());
    bench.apply(first_part_held()).await.unwrap();
    other.apply(first_part_held()).await.unwrap();
    other.apply(vec![entry(6, COMMAND_FORMAT, part(1))]).await.unwrap();
    let (sent, changed) = (written(&bench, 9).read_all().unwrap(), written(&other, 9).read_all().unwrap());
    let ((header, body), (mut forged, other_body)) = (parts(&sent), parts(&changed));
    assert!(joined(header.clone(), &body) == sent, "as it is written");
    let seals = header.len() - 64..;
    let path = bench.dir.path().join("received");
    let verify = |header: Vec<u8>, body: &[u8]| {
        std::fs::write(&path, joined(header, body)).unwrap();
        SnapshotFile::open(&path).unwrap().verify(&CLUSTER_ID).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(verify(header.clone(), &body), Ok(()));
    assert_eq!(verify(forged.clone(), &other_body), Ok(()), "the other one is a snapshot, too");
    // Only what the sender said of its state is still the sender's.
    let at = forged.len() - 64;
    forged[at..].copy_from_slice(&header[seals]);
    assert!(verify(forged.clone(), &other_body).unwrap_err().contains("not the state that was sent"));
    // Nor does its rolling hash alone give it away.
    forged[at + 32..].copy_from_slice(&parts(&changed).0[at + 32..]);
    assert!(verify(forged, &other_body).unwrap_err().contains("rolling hash"));
    // A version that did not say it yet.
    assert_eq!(verify(header[..header.len() - 64].to_vec(), &body), Ok(()));
}

#[test]
fn the_last_snapshot_is_kept_whatever_a_crash_or_a_late_older_one_leaves() {
    let bench = Bench::new();
    let last = |directory: &SnapshotDirectory| {
        directory.current().unwrap().unwrap().meta(&CLUSTER_ID).unwrap().last_log_id.unwrap().index
    };
    written(&bench, 9);
    written(&bench, 10);
    assert_eq!(last(&bench.directory), 10);
    let count = || std::fs::read_dir(bench.dir.path().join("snapshots")).unwrap().count();
    assert_eq!(count(), 1, "older ones go");
    written(&bench, 7);
    assert_eq!(
        last(&bench.directory),
        10,
        "one that was being made when a later one came does not replace it"
    );
    std::fs::write(bench.directory.unfinished_path(), b"half").unwrap();
    let reopened = SnapshotDirectory::open(&bench.dir.path().join("snapshots"), CLUSTER_ID).unwrap();
    assert_eq!(last(&reopened), 10);
    written(&bench, 11);
    assert_eq!(count(), 1);
}

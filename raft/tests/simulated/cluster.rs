//! Replicas in one thread.

use crate::disk::MemoryDisk;
use crate::net::Wires;
use mux_raft::archive::MemoryArchive;
use mux_raft::blocking::{Blocking, Work};
use mux_raft::clock::Clock;
use mux_raft::consensus::{Committed, Consensus as _, RaftStatus};
use mux_raft::machine::Command;
use mux_raft::machine::command::{COMMAND_FORMAT, CancelScope, NewInvoice};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::replica::{Replica, ReplicaConfig, SnapshotConfig, Timing, TlsPaths, Wiring};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret, ReplicaId};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime;
use tokio::time::{Instant, sleep, timeout};

/// Simulated time in which anything happens that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a sync of the log takes.
const SYNC: Duration = Duration::from_millis(2);

/// Runs this on one thread, with time that passes only when nothing else can happen, and says how much did. Fails if the
/// runtime had to start a thread.
pub(crate) fn simulate<T>(body: impl Future<Output = T>) -> (T, Duration) {
    let threads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&threads);
    let runtime = runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_start(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let started = Instant::now();
        let result = body.await;
        (result, started.elapsed())
    });
    assert_eq!(threads.load(Ordering::Relaxed), 0, "threads were started");
    result
}

/// Follows tokio's time.
struct SimulatedClock(Instant);

impl Clock for SimulatedClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) wires: Wires,
    pub(crate) snapshot: SnapshotConfig,
    pub(crate) timing: Timing,
    pub(crate) members: BTreeMap<ReplicaId, String>,
    /// Those that run an older program, and the highest feature level that it knows.
    pub(crate) older: BTreeMap<ReplicaId, u16>,
    pub(crate) disks: BTreeMap<ReplicaId, MemoryDisk>,
    pub(crate) archives: BTreeMap<ReplicaId, Arc<MemoryArchive>>,
    clock: Arc<SimulatedClock>,
    pub(crate) running: BTreeMap<ReplicaId, Arc<Replica>>,
}

impl Cluster {
    /// Prepares replicas 1..=count without starting any.
    pub(crate) fn prepare(count: u64) -> Self {
        let members: BTreeMap<_, _> = (1..=count).map(|id| (id, format!("replica-{id}:1"))).collect();
        Self {
            dir: TempDir::new().unwrap(),
            wires: Wires::default(),
            snapshot: SnapshotConfig::default(),
            timing: Timing::default(),
            disks: members.keys().map(|id| (*id, MemoryDisk::new(u8::try_from(*id).unwrap()))).collect(),
            archives: members.keys().map(|id| (*id, Arc::default())).collect(),
            members,
            older: BTreeMap::new(),
            clock: Arc::new(SimulatedClock(Instant::now())),
            running: BTreeMap::new(),
        }
    }

    /// Replicas 1..=count, started, with a leader.
    pub(crate) async fn start(count: u64) -> Self {
        let mut cluster = Self::prepare(count);
        cluster.start_all().await;
        cluster
    }

    pub(crate) async fn start_all(&mut self) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.start_one(id).await;
        }
        self.leader().await;
    }

    fn data_dir(&self, id: ReplicaId) -> PathBuf {
        self.dir.path().join(format!("replica-{id}"))
    }

    pub(crate) async fn start_one(&mut self, id: ReplicaId) {
        let nowhere = PathBuf::from("/nonexistent");
        let config = ReplicaConfig {
            cluster_id: [7; 32],
            id,
            data_dir: self.data_dir(id),
            listen: "192.0.2.1:1".parse().unwrap(),
            initial_members: self.members.clone(),
            tls: TlsPaths {
                ca: nowhere.clone(),
                cert: nowhere.clone(),
                key: nowhere,
                domain: TlsPaths::DEFAULT_DOMAIN.into(),
            },
            timing: self.timing,
            snapshot: self.snapshot,
            wall_offset_ms: 0,
        };
        let takes = |work| if work == Work::LogSync { SYNC } else { Duration::ZERO };
        let wiring = Wiring {
            net: Some(self.wires.net_of(id)),
            blocking: Blocking::inline(takes),
            clock: Arc::<SimulatedClock>::clone(&self.clock),
            engine: Arc::new(self.disks[&id].clone()),
            archive: Arc::new(Arc::clone(&self.archives[&id])),
            feature_level_max: self.older.get(&id).copied().unwrap_or(COMMAND_FORMAT),
            ..Wiring::default()
        };
        let replica = Replica::start_with(config, wiring).await.unwrap();
        self.wires.listen(&self.members[&id], replica.routes());
        self.running.insert(id, replica);
    }

    pub(crate) async fn stop(&mut self, id: ReplicaId) {
        self.wires.hang_up(&self.members[&id]);
        self.running.remove(&id).unwrap().shutdown().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }

    pub(crate) fn status(&self, id: ReplicaId) -> RaftStatus {
        self.running[&id].status().borrow().clone()
    }

    /// Waits until all that run agree on a leader that has a quorum.
    pub(crate) async fn leader(&self) -> ReplicaId {
        let found = async {
            loop {
                let statuses: Vec<RaftStatus> = self.running.keys().map(|id| self.status(*id)).collect();
                if let Some(leader) = statuses.iter().find(|status| status.leads).map(|status| status.id)
                    && statuses.iter().all(|status| status.leader == Some(leader) && status.quorum)
                {
                    return leader;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, found).await.expect("no leader")
    }

    /// A running replica that does not lead.
    pub(crate) async fn follower(&self) -> ReplicaId {
        let leader = self.leader().await;
        *self.running.keys().find(|id| **id != leader).unwrap()
    }

    pub(crate) async fn commit(&self, id: ReplicaId, command: Command) -> Committed {
        self.running[&id].propose(command, None).await.unwrap()
    }

    /// Waits until the cluster has reached the highest feature level, which it does by itself.
    pub(crate) async fn at_the_highest_level(&self) {
        eventually("the feature level rises", || {
            self.running.keys().all(|id| self.status(*id).feature_level == COMMAND_FORMAT)
        })
        .await;
    }

    /// Adds invoices and cancels them: each goes to the archive at once.
    pub(crate) async fn archive(&self, id: ReplicaId, invoices: Range<u64>) {
        for number in invoices {
            let mut hash = [0xa4; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            let hash = PaymentHash(hash);
            let invoice = NewInvoice {
                hash,
                secret: PaymentSecret([9; 32]),
                terms: InvoiceTerms {
                    kind: InvoiceKind::Stored,
                    amount_msat: Msat(1_000),
                    expires_at_ms: 9_000_000_000_000,
                    min_final_cltv: 80,
                    key_epoch: 0,
                },
                payment_request: "a payment request".into(),
                description: String::new(),
                description_hash: None,
            };
            self.commit(id, Command::AddInvoice(Box::new(invoice))).await;
            self.commit(id, Command::CancelInvoice { hash, scope: CancelScope::Invoice }).await;
        }
    }

    /// Waits until all that run have applied the same entries.
    pub(crate) async fn converged(&self) -> (u64, [u8; 32]) {
        let position =
            |replica: &Replica| replica.state().read(|state| (state.applied().index, state.chain_hash()));
        let same = async {
            loop {
                let positions: Vec<_> = self.running.values().map(|replica| position(replica)).collect();
                if positions.iter().all(|other| *other == positions[0]) {
                    return positions[0];
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, same).await.expect("they differ")
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Some command that changes the state.
pub(crate) fn command() -> Command {
    Command::AssignLink { node: NodePubkey([2; 33]), replica: None }
}

use super::config::{SnapshotConfig, Timing};
use super::confirmed::Confirmed;
use super::latch::Latch;
use super::leaving::Leaving;
use super::raft::{Raft, TypeConfig};
use super::roster::Roster;
use super::time_keeper::TimeKeeper;
use crate::consensus::{RaftStatus, StateCell};
use crate::network::{Clearance, Heard, Peers};
use crate::types::{LogIndex, ReplicaId};
use openraft::RaftMetrics;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

/// What the parts of a running replica share.
pub(crate) struct Core {
    pub(crate) id: ReplicaId,
    pub(crate) timing: Timing,
    pub(crate) initial_members: BTreeMap<ReplicaId, String>,
    pub(crate) raft: Raft,
    pub(crate) cell: Arc<StateCell>,
    pub(crate) peers: Peers,
    pub(crate) heard: Arc<Heard>,
    pub(crate) clearance: Clearance,
    pub(crate) latch: Latch,
    pub(crate) time: TimeKeeper,
    pub(crate) roster: Roster,
    pub(crate) confirmed: Confirmed,
    pub(crate) status: watch::Sender<RaftStatus>,
    pub(crate) proposals: Semaphore,
    pub(crate) leaving: Leaving,
    /// Records of the archive taken from other replicas since the start.
    pub(crate) archive_fetched: Arc<AtomicU64>,
    /// Why this replica is no member any more.
    pub(crate) removed: OnceLock<String>,
    /// Held while members change.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Held while the feature level must stand, since a replica that knows it joins; and while it is written that it rises. That
    /// may be applied later: whoever joins waits for what is in the log before.
    pub(crate) joining: tokio::sync::Mutex<()>,
    #[cfg(feature = "mutants")]
    pub(crate) foretold: super::foretold::Foretold,
    handing_over: AtomicBool,
}

/// Taken while leadership is handed over: no new proposals meanwhile. Released when dropped.
pub(crate) struct HandingOver<'core>(&'core AtomicBool);

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The parts of [`Core`] that are made before it.
pub(crate) struct CoreParts {
    pub(crate) timing: Timing,
    pub(crate) initial_members: BTreeMap<ReplicaId, String>,
    pub(crate) raft: Raft,
    pub(crate) cell: Arc<StateCell>,
    pub(crate) peers: Peers,
    pub(crate) clearance: Clearance,
    pub(crate) latch: Latch,
    pub(crate) time: TimeKeeper,
    pub(crate) feature_level_max: u16,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Proposals under way at this replica; more wait for a place.
const PROPOSALS_MAX: usize = 8_192;

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Self {
        let id = parts.peers.id();
        let (status, _) = watch::channel(RaftStatus { id, ..RaftStatus::default() });
        Self {
            id,
            timing: parts.timing,
            initial_members: parts.initial_members,
            raft: parts.raft,
            cell: parts.cell,
            peers: parts.peers,
            heard: Arc::default(),
            clearance: parts.clearance,
            latch: parts.latch,
            time: parts.time,
            roster: Roster::new(id, parts.feature_level_max),
            confirmed: Confirmed::default(),
            status,
            proposals: Semaphore::new(PROPOSALS_MAX),
            leaving: Leaving::default(),
            archive_fetched: Arc::default(),
            removed: OnceLock::new(),
            changing: tokio::sync::Mutex::new(()),
            joining: tokio::sync::Mutex::new(()),
            #[cfg(feature = "mutants")]
            foretold: super::foretold::Foretold::default(),
            handing_over: AtomicBool::new(false),
        }
    }

    /// openraft's view at this moment.
    pub(crate) fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.look(Clone::clone)
    }

    /// Looks at openraft's view without copying it. Keep it short: openraft waits meanwhile.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&RaftMetrics<TypeConfig>) -> T) -> T {
        use openraft::async_runtime::watch::WatchReceiver as _;
        look(&self.raft.metrics().borrow_watched())
    }

    /// Who leads, as far as known here.
    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        self.look(|metrics| metrics.current_leader)
    }

    /// Where a replica is reached.
    pub(crate) fn address_of(&self, id: ReplicaId) -> Option<String> {
        let member =
            self.look(|metrics| metrics.membership_config.get_node(&id).map(|node| node.addr.clone()));
        member.or_else(|| self.initial_members.get(&id).cloned())
    }

    /// The other voters, with their addresses.
    pub(crate) fn other_voters(&self) -> Vec<(ReplicaId, String)> {
        let membership = self.metrics().membership_config;
        let address = |id: &ReplicaId| membership.get_node(id).map(|node| node.addr.clone());
        membership
            .voter_ids()
            .filter(|id| *id != self.id)
            .filter_map(|id| address(&id).map(|address| (id, address)))
            .collect()
    }

    /// All other members, learners too, with their addresses.
    pub(crate) fn other_members(&self) -> Vec<(ReplicaId, String)> {
        let membership = self.metrics().membership_config;
        let others = membership.nodes().filter(|(id, _)| **id != self.id);
        others.map(|(id, node)| (*id, node.addr.clone())).collect()
    }

    /// Waits until an entry is applied here.
    pub(crate) async fn applied(&self, index: LogIndex, deadline: Instant) -> bool {
        let mut applied = self.cell.watch();
        timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await.is_ok_and(|got| got.is_ok())
    }

    pub(crate) fn is_handing_over(&self) -> bool {
        self.handing_over.load(Ordering::Acquire)
    }

    /// `None` if it is being handed over already.
    pub(crate) fn hand_over(&self) -> Option<HandingOver<'_>> {
        let busy = self.handing_over.swap(true, Ordering::AcqRel);
        (!busy).then_some(HandingOver(&self.handing_over))
    }
}

/// openraft's settings. Failover takes about `election_max` (the lease) plus an election timeout.
pub(crate) fn raft_config(timing: &Timing, snapshot: &SnapshotConfig) -> openraft::Config {
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "mux".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: millis(timing.install_snapshot),
        enable_pre_vote: Some(true),
        // On by default. A restarted leader must be elected again: its term is how the state machine knows.
        enable_leader_restore: Some(false),
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(snapshot.logs_since_last),
        max_in_snapshot_log_to_keep: snapshot.keep_logs,
        purge_batch_size: snapshot.purge_batch,
        // A snapshot must bring a lagging replica nearer than the next one is away.
        replication_lag_threshold: snapshot.logs_since_last.saturating_mul(2).max(1_000),
        max_payload_entries: 512,
        max_append_entries: Some(1_024),
        backoff: "50ms 100ms 200ms ...500ms".into(),
        ..openraft::Config::default()
    }
}

//! What the rest of a replica asks of consensus.
//!
//! Links and APIs propose commands, wait for read barriers, and read the *applied* state of their own
//! replica. They never see entries that are not committed, which is what "durable before reveal" rests on.

use crate::archive::{Archive, MemoryArchive};
use crate::machine::{Command, LogPosition, Reply, RequestId, State};
use crate::members::{MemberChange, MemberChanged, MemberError, MemberView};
use crate::replica::divergence::RecentHashes;
use crate::types::{LogIndex, ReplicaId};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// Consensus as seen from one replica. Any replica takes any proposal and forwards it to the leader.
#[async_trait::async_trait]
pub trait Consensus: Send + Sync + 'static {
    /// Proposes a command and waits until it is committed **and applied here**.
    ///
    /// # Errors
    /// See [`ProposeError`]; every call ends within the configured proposal deadline.
    async fn propose(
        &self,
        command: Command,
        request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError>;

    /// Waits until this replica has applied everything that was committed when the call was made.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`] without a quorum.
    async fn read_barrier(&self) -> Result<LogIndex, ProposeError>;

    /// This replica's applied state.
    fn state(&self) -> &StateCell;

    /// What this replica knows of the cluster.
    fn status(&self) -> watch::Receiver<RaftStatus>;

    /// Hands leadership to another voter (`None`: any whose log is at the tip) and waits until it leads.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`] with the reason, e.g. that the one asked for does not answer, or that another
    /// took over; leadership may still move afterwards.
    async fn transfer_leader(&self, target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError>;

    /// The members as the leader sees them.
    ///
    /// # Errors
    /// [`ProposeError::Unavailable`] without a leader.
    async fn members(&self) -> Result<Vec<MemberView>, ProposeError>;

    /// Adds, promotes or removes a replica, by way of the leader; see [`crate::members`]. May be repeated.
    ///
    /// # Errors
    /// [`MemberError`].
    async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, MemberError>;

    /// This replica is about to stop: from now on the leader is told again and again, so that links and leadership
    /// go elsewhere.
    fn leave(&self);
}

/// A command that is in the log for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where.
    pub at: LogPosition,
    /// What the state machine answered.
    pub reply: Reply,
}

/// Why a proposal has no reply. Grouped by who must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Certainly not in the log: try again later, or elsewhere.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It may or may not be, or get, in the log: propose again under the same request id, or an idempotent
    /// command, to find out.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// This replica has stopped.
    #[error("replica stopped: {0}")]
    Fatal(String),
}

/// What a replica knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This replica.
    pub id: ReplicaId,
    /// Current term.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<ReplicaId>,
    /// This replica leads, and a quorum has acknowledged it lately.
    pub leads: bool,
    /// Whether a quorum is in contact as far as this replica can tell: as leader by acknowledgements, as
    /// follower by a leader heard from within the election timeout.
    pub quorum: bool,
    /// Last entry in the log here.
    pub last_log_index: LogIndex,
    /// Committed, as far as known here.
    pub committed: LogIndex,
    /// Applied here.
    pub applied: LogIndex,
    /// Last snapshot here.
    pub snapshot: LogIndex,
    /// Entries up to here are in the snapshot only.
    pub purged: LogIndex,
    /// Members: id → (address, is a voter).
    pub members: BTreeMap<ReplicaId, Member>,
    /// As leader: the index each follower has acknowledged.
    pub matched: BTreeMap<ReplicaId, LogIndex>,
    /// The cluster's feature level, as far as applied here.
    pub feature_level: u16,
    /// Members that said that they are about to stop, as far as is known here.
    pub leaving: BTreeSet<ReplicaId>,
    /// Why others refuse to speak with this replica, the last word of each.
    pub refusals: BTreeMap<ReplicaId, String>,
    /// This replica was removed from the cluster: what to do.
    pub removed: Option<String>,
    /// Why this replica stopped, if it did.
    pub fatal: Option<String>,
}

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `host:port` of its Raft listener.
    pub address: String,
    /// Votes, or only learns.
    pub voter: bool,
    /// Its program, as it told this replica last.
    pub program: Option<Program>,
}

/// What a replica runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Of `muxd`; empty for one that is too old to tell.
    pub version: String,
    /// The highest feature level that it knows.
    pub feature_level_max: u16,
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version.as_str() {
            "" => f.write_str("a muxd before 0.2.0"),
            version => write!(f, "muxd {version}"),
        }
    }
}

/// The applied state with its readers and its wake-ups.
#[derive(Debug)]
pub struct StateCell {
    state: RwLock<State>,
    archive: Arc<dyn Archive>,
    applied: watch::Sender<LogIndex>,
    hashes: RecentHashes,
}

impl Default for StateCell {
    fn default() -> Self {
        Self::new(State::default(), Arc::new(MemoryArchive::default()))
    }
}

impl StateCell {
    /// Around a state, e.g. one recovered from a snapshot, and the archive it goes with.
    #[must_use]
    pub fn new(state: State, archive: Arc<dyn Archive>) -> Self {
        let (applied, _) = watch::channel(state.applied().index);
        Self { state: RwLock::new(state), archive, applied, hashes: RecentHashes::default() }
    }

    /// Reads the applied state. Keep it short: apply waits meanwhile.
    pub fn read<T>(&self, reader: impl FnOnce(&State) -> T) -> T {
        reader(&self.state.read())
    }

    /// What has left the state. Readers pass it the tip of the state that they looked at.
    #[must_use]
    pub fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    /// The state's hashes after the last entries, to compare with other replicas'.
    pub(crate) fn hashes(&self) -> &RecentHashes {
        &self.hashes
    }

    /// Wakes whenever something was applied or a snapshot was installed. Only a hint: read the state.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    /// For the state machine's owner: changes the state and wakes the watchers.
    pub fn write<T>(&self, writer: impl FnOnce(&mut State) -> T) -> T {
        let (result, index) = {
            let mut state = self.state.write();
            let result = writer(&mut state);
            (result, state.applied().index)
        };
        self.applied.send_replace(index);
        result
    }
}

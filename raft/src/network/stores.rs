use crate::consensus::StateCell;
use crate::mutant::{Mutant, planted};
use crate::replica::latch::Latch;
use crate::types::{ReplicaId, StoreId};
use mux_proto::mux::raft::v1 as pb;
use parking_lot::Mutex;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// A message of a process that ended may be read this long after the first one of its successor.
const LATE: Duration = Duration::from_secs(5);
/// Former processes remembered of each replica.
const FORMER_MAX: usize = 16;

/// Which data directory is which replica's: this one's by its disk, the others' by the log.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: ReplicaId,
    own: StoreId,
    run: RunId,
    cell: Arc<StateCell>,
    latch: Latch,
    /// See [`Stores::introduce`].
    introduced: AtomicBool,
    runs: Mutex<BTreeMap<ReplicaId, Runs>>,
}

/// Names a process.
type RunId = [u8; 16];

/// The processes that spoke as one replica.
#[derive(Debug)]
struct Runs {
    current: RunId,
    since: Instant,
    former: VecDeque<RunId>,
    /// Two of them live at once: neither is heard any more.
    banned: bool,
}

impl Runs {
    /// Whether this process may be the replica. A process that speaks again long after another has spoken
    /// has not ended: both run, from copies of one data directory.
    fn take(&mut self, run: RunId, now: Instant) -> bool {
        if run == self.current {
            return !self.banned;
        }
        if self.former.contains(&run) {
            if now.saturating_duration_since(self.since) >= LATE {
                self.banned = true;
            }
            return !self.banned;
        }
        self.former.push_back(self.current);
        if self.former.len() > FORMER_MAX {
            self.former.pop_front();
        }
        (self.current, self.since, self.banned) = (run, now, false);
        true
    }
}

impl Stores {
    pub(crate) fn new(
        id: ReplicaId,
        own: StoreId,
        cell: Arc<StateCell>,
        latch: Latch,
    ) -> Result<Self, rand::rand_core::OsError> {
        let mut run = [0; 16];
        OsRng.try_fill_bytes(&mut run)?;
        let introduced = AtomicBool::new(false);
        Ok(Self { inner: Arc::new(Inner { id, own, run, cell, latch, introduced, runs: Mutex::default() }) })
    }

    /// This replica's.
    pub(crate) fn own(&self) -> StoreId {
        self.inner.own
    }

    /// From now on this process says which one it is. Before it knows that it may take part it only asks: a stale
    /// copy that is about to stop must not be taken for the replica itself.
    pub(crate) fn introduce(&self) {
        self.inner.introduced.store(true, Ordering::Release);
    }

    /// The one that the log has bound a replica to.
    fn of(&self, replica: ReplicaId) -> Option<StoreId> {
        self.inner.cell.read(|state| state.store_of(replica))
    }

    /// Says who sends to whom.
    pub(super) fn header(&self, cluster_id: &[u8; 32], target: ReplicaId) -> pb::Header {
        let bytes = |store: StoreId| store.0.to_vec();
        let introduced = self.inner.introduced.load(Ordering::Acquire);
        let run = if introduced { self.inner.run.to_vec() } else { Vec::new() };
        pb::Header {
            cluster_id: cluster_id.to_vec().into(),
            source: self.inner.id,
            target,
            source_store: bytes(self.own()).into(),
            target_store: self.of(target).map(bytes).unwrap_or_default().into(),
            source_run: run.into(),
            source_address: String::new(),
        }
    }

    /// Refuses a message of a replica that is not the one with this id, or for another one with this replica's.
    pub(super) fn check(&self, header: &pb::Header) -> Result<(), Status> {
        let (source, id) = (header.source, self.inner.id);
        let malformed = |_| Status::invalid_argument("a store's id has 16 bytes");
        let parse = |bytes: &[u8]| match bytes {
            [] => Ok(None),
            bytes => StoreId::try_from(bytes).map(Some).map_err(malformed),
        };
        let unguarded = planted(Mutant::WipedReplicaVotes);
        if let Some(meant) = parse(&header.target_store)?
            && meant != self.own()
            && !unguarded
        {
            let reason = taken(id, &meant, &self.own());
            self.inner.latch.trip(reason.clone());
            return Err(Status::failed_precondition(reason));
        }
        match (self.of(source), parse(&header.source_store)?) {
            (Some(enrolled), Some(shown)) if enrolled != shown && !unguarded => {
                Err(Status::already_exists(taken(source, &enrolled, &shown)))
            }
            (Some(_), None) => Err(Status::failed_precondition(format!(
                "replica {source} does not say which data directory it has: its version is too old for this \
                 cluster"
            ))),
            (Some(_), Some(_)) => self.check_run(header),
            // Nobody can tell yet which of two new ones is meant.
            (None, _) => Ok(()),
        }
    }

    fn check_run(&self, header: &pb::Header) -> Result<(), Status> {
        let Ok(run) = RunId::try_from(header.source_run.as_ref()) else { return Ok(()) };
        let now = Instant::now();
        let mut runs = self.inner.runs.lock();
        let of_source = runs.entry(header.source).or_insert_with(|| Runs {
            current: run,
            since: now,
            former: VecDeque::new(),
            banned: false,
        });
        if of_source.take(run, now) {
            return Ok(());
        }
        Err(Status::already_exists(format!(
            "two processes run as replica {} at once, from copies of one data directory; stop both, and start again \
             the one that the others reach",
            header.source
        )))
    }

    /// A peer refused what this replica said. If it is because of who this replica is, it must not go on.
    pub(crate) fn heed(&self, peer: ReplicaId, status: &Status) {
        if status.code() == Code::AlreadyExists {
            self.inner.latch.trip(format!("refused by replica {peer}: {}", status.message()));
        }
    }
}

fn taken(replica: ReplicaId, enrolled: &StoreId, other: &StoreId) -> String {
    format!(
        "replica id {replica} is already used by another store ({}; this one is {}): stop one of the two; a replica \
         that lost its disk must join under a new id",
        enrolled.short(),
        other.short()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_speaks_again_after_its_successor_is_not_over() {
        let start = Instant::now();
        let fresh = || Runs { current: [1; 16], since: start, former: VecDeque::new(), banned: false };
        let mut runs = fresh();
        assert!(runs.take([1; 16], start) && runs.take([2; 16], start), "a restart");
        assert!(runs.take([1; 16], start + LATE / 2), "what it sent before it ended");
        assert!(runs.take([2; 16], start + LATE * 2), "its successor goes on");
        assert!(!runs.take([1; 16], start + LATE * 2), "it still lives");
        assert!(!runs.take([2; 16], start + LATE * 2), "which of them is the right one?");
        assert!(runs.take([3; 16], start + LATE * 2), "the one that is started again");
        let mut runs = fresh();
        for run in 2..=255 {
            assert!(runs.take([run; 16], start), "any number of restarts");
        }
        assert!(runs.former.len() <= FORMER_MAX);
    }
}

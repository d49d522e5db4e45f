use super::state::{Mood, SimDisk};
use crate::sim::random;
use mux_raft::store::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};
use mux_raft::types::StoreId;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is on the disk of a log.
#[derive(Debug, Default)]
pub(super) struct LogDisk {
    owner: Option<(Identity, [u8; 16])>,
    synced: Content,
    /// Batches that were written since.
    unsynced: Vec<Vec<Change>>,
    /// What became of it since somebody looked last.
    news: Vec<LogNews>,
}

/// What became of what a power cut cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogNews {
    /// These are durable now, in this order.
    Synced(Vec<Change>),
    /// A sync ended that took so long.
    SyncTook(Duration),
    /// Everything is gone.
    Wiped,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    records: BTreeMap<u64, Record>,
    marks: BTreeMap<Mark, Vec<u8>>,
}

/// What a power cut left of what was not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Batches that were not synced.
    pub unsynced: usize,
    /// Those of them that are gone, or of which a part is.
    pub lost: usize,
    /// A part of one is left.
    pub torn: bool,
}

impl Content {
    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change.clone() {
                Change::Put(record) => drop(self.records.insert(record.index, record)),
                Change::Delete { index, .. } => drop(self.records.remove(&index)),
                Change::Mark(mark, bytes) => drop(self.marks.insert(mark, bytes)),
            }
        }
    }
}

impl LogDisk {
    /// What a process reads that opens it: everything, synced or not.
    fn open(&mut self, identity: Identity, rng: &mut StdRng) -> Result<Loaded, EngineError> {
        let (owner, store_id) = *self.owner.get_or_insert_with(|| (identity, rng.random()));
        if owner != identity {
            return Err(EngineError::Foreign(format!("the store is of replica {}", owner.replica)));
        }
        let mut content = self.synced.clone();
        self.unsynced.iter().for_each(|batch| content.apply(batch));
        Ok(Loaded {
            store_id,
            records: content.records.into_values().collect(),
            marks: content.marks.into_iter().collect(),
        })
    }

    fn write(&mut self, changes: &[Change]) {
        self.unsynced.push(changes.to_vec());
    }

    fn sync(&mut self, took: Duration) {
        self.news.push(LogNews::SyncTook(took));
        for batch in std::mem::take(&mut self.unsynced) {
            self.is_durable(batch);
        }
    }

    fn is_durable(&mut self, changes: Vec<Change>) {
        self.synced.apply(&changes);
        self.news.push(LogNews::Synced(changes));
    }

    /// Everything on it is gone. Which store it was.
    pub(super) fn wipe(&mut self) -> Option<StoreId> {
        let mut news = std::mem::take(&mut self.news);
        news.push(LogNews::Wiped);
        let was = std::mem::replace(self, Self { news, ..Self::default() });
        was.owner.map(|(_, store_id)| StoreId(store_id))
    }

    /// What became of it since this was asked last.
    pub(super) fn take_news(&mut self) -> Vec<LogNews> {
        std::mem::take(&mut self.news)
    }

    /// A sync failed: the operating system may have dropped what it could not write.
    fn drop_some(&mut self, rng: &mut StdRng) {
        let kept = rng.random_range(0..=self.unsynced.len());
        self.unsynced.truncate(kept);
    }

    /// The power is gone: some of the batches that were not synced are there, in order; with `tears` a part of the next.
    pub(super) fn power_cut(&mut self, tears: bool, rng: &mut StdRng) -> Remains {
        let unsynced = self.unsynced.len();
        if unsynced == 0 {
            return Remains::default();
        }
        let kept = rng.random_range(0..=unsynced);
        let mut batches = std::mem::take(&mut self.unsynced).into_iter();
        batches.by_ref().take(kept).for_each(|batch| self.is_durable(batch));
        let next = batches.next().filter(|batch| batch.len() > 1);
        let torn = next.filter(|_| tears && random::chance(rng, 0.5));
        let is_torn = torn.is_some();
        if let Some(mut batch) = torn {
            batch.truncate(rng.random_range(1..batch.len()));
            self.is_durable(batch);
        }
        Remains { unsynced, lost: unsynced - kept, torn: is_torn }
    }

    /// The last entry that a process which opens it may read.
    pub(super) fn last_index(&self) -> u64 {
        let written = self.unsynced.iter().flatten().filter_map(|change| match change {
            Change::Put(record) => Some(record.index),
            Change::Delete { .. } | Change::Mark(..) => None,
        });
        let synced = self.synced.records.keys().next_back().copied();
        written.chain(synced).max().unwrap_or(0)
    }

    /// Whether something is written that is not synced.
    pub(super) fn is_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }
}

/// One process's way to the log.
struct LogEngine {
    disk: SimDisk,
    incarnation: u64,
}

impl OpenEngine for SimDisk {
    fn open(&self, _: &Path, identity: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        let mut state = self.state();
        if let Some(reason) = state.failure(state.incarnation) {
            return Err(EngineError::Io { doing: "opening", reason });
        }
        let state = &mut *state;
        let loaded = state.log.open(identity, &mut state.rng)?;
        Ok((Box::new(LogEngine { disk: self.clone(), incarnation: state.incarnation }), loaded))
    }
}

impl Engine for LogEngine {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let mut state = self.disk.state();
        let state = &mut *state;
        let Some(reason) = state.failure(self.incarnation) else {
            state.log.write(changes);
            return Ok(());
        };
        // Nobody knows then whether it was written. A process that has ended writes nothing.
        if state.incarnation == self.incarnation && state.mood == Mood::Fails && state.rng.random_bool(0.5) {
            state.log.write(changes);
        }
        Err(EngineError::Io { doing: "writing", reason })
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        let mut state = self.disk.state();
        let state = &mut *state;
        let Some(reason) = state.failure(self.incarnation) else {
            state.log.sync(state.sync_takes);
            return Ok(());
        };
        if state.incarnation == self.incarnation {
            state.log.drop_some(&mut state.rng);
        }
        Err(EngineError::Io { doing: "syncing", reason })
    }
}

use super::archive::{ArchiveDisk, ArchiveOpener};
use super::log::{LogDisk, LogNews, Remains};
use crate::sim::host::Ending;
use crate::sim::random;
use mux_raft::archive::OpenArchive;
use mux_raft::blocking::{Blocking, Work};
use mux_raft::store::OpenEngine;
use mux_raft::types::StoreId;
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// A host's disk. Clones share it; it outlives the processes that write to it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug)]
pub(super) struct DiskState {
    pub(super) rng: StdRng,
    pub(super) log: LogDisk,
    pub(super) archive: ArchiveDisk,
    pub(super) mood: Mood,
    /// Which process may use it: the others have ended.
    pub(super) incarnation: u64,
    /// What the sync under way takes.
    pub(super) sync_takes: Duration,
    latency: Latency,
    tears: bool,
}

/// How a disk takes what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// All is well.
    Works,
    /// Nothing fits any more (ENOSPC); what is there is safe.
    Full,
    /// Whatever it does fails (EIO), and nobody knows what it did.
    Fails,
}

impl Mood {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Works, Self::Full, Self::Fails];

    /// What the operating system says to whoever wants to write.
    #[must_use]
    pub const fn error(self) -> Option<&'static str> {
        match self {
            Self::Works => None,
            Self::Full => Some("no space left on device"),
            Self::Fails => Some("input/output error"),
        }
    }
}

/// How long a disk takes, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// A sync of the log.
    pub sync_ms: RangeInclusive<u64>,
    /// Everything else.
    pub other_ms: RangeInclusive<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { sync_ms: 1..=3, other_ms: 0..=2 }
    }
}

impl SimDisk {
    /// The last entry of its log, whether it is synced or not; 0: none.
    #[must_use]
    pub fn last_log_index(&self) -> u64 {
        self.state().log.last_index()
    }

    /// An empty disk. `tears`: at a power cut a part of a batch may be left.
    #[must_use]
    pub fn new(rng: StdRng, latency: Latency, tears: bool) -> Self {
        let state = DiskState {
            rng,
            log: LogDisk::default(),
            archive: ArchiveDisk::default(),
            mood: Mood::Works,
            incarnation: 0,
            sync_takes: Duration::ZERO,
            latency,
            tears,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Opens the log.
    #[must_use]
    pub fn engine(&self) -> Arc<dyn OpenEngine> {
        Arc::new(self.clone())
    }

    /// Opens the archive.
    #[must_use]
    pub fn archive(&self) -> Arc<dyn OpenArchive> {
        Arc::new(ArchiveOpener(self.clone()))
    }

    /// Work on this disk: it takes as long as the disk does.
    #[must_use]
    pub fn blocking(&self) -> Blocking {
        let disk = self.clone();
        Blocking::inline(move |work| disk.takes(work))
    }

    fn takes(&self, work: Work) -> Duration {
        let mut state = self.state();
        let state = &mut *state;
        let range = if work == Work::LogSync { &state.latency.sync_ms } else { &state.latency.other_ms };
        let time = random::time_in(&mut state.rng, range);
        if work == Work::LogSync {
            state.sync_takes = time;
        }
        time
    }

    /// How the disk takes things from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// How long things take from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.state().latency = latency;
    }

    /// The process that used it has ended: whatever of it still runs can do nothing any more.
    pub fn process_ended(&self, how: Ending) -> Remains {
        let mut state = self.state();
        let state = &mut *state;
        state.incarnation += 1;
        state.archive.process_ended(&mut state.rng);
        match how {
            Ending::Killed => Remains::default(),
            Ending::PowerCut => state.log.power_cut(state.tears, &mut state.rng),
        }
    }

    /// Everything on it is gone; no process may use it at the moment. Which store it was, if a process had opened it.
    pub fn wipe(&self) -> Option<StoreId> {
        let mut state = self.state();
        state.archive = ArchiveDisk::default();
        state.log.wipe()
    }

    /// What became of its log, as far as it is durable, since this was asked last.
    #[must_use]
    pub fn take_news(&self) -> Vec<LogNews> {
        self.state().log.take_news()
    }

    /// Whether the log has something that is written and not synced.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        self.state().log.is_unsynced()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock()
    }
}

impl DiskState {
    /// Why nothing can be written now, if so.
    pub(super) fn failure(&self, incarnation: u64) -> Option<String> {
        if incarnation != self.incarnation {
            return Some("the process has ended".into());
        }
        self.mood.error().map(str::to_owned)
    }
}

use crate::blocking::Blocking;
use crate::log::LogStore;
use crate::replica::latch::Latch;
use crate::replica::raft::{Entry, TypeConfig, log_id};
use crate::store::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the engine was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Write(Vec<Change>),
    Sync,
}

/// What the engine does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Works,
    FailsToWrite,
    FailsToSync,
    Panics,
}

/// Keeps everything in memory, writes down what it is asked, and can be held, or made to fail.
#[derive(Clone, Debug)]
pub(super) struct FakeEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    steps: Mutex<Vec<Step>>,
    mood: Mutex<Mood>,
    held: Mutex<bool>,
    released: Condvar,
}

impl FakeEngine {
    pub(super) fn new() -> Self {
        Self::with_steps(vec![])
    }

    /// With this history.
    pub(super) fn with_steps(steps: Vec<Step>) -> Self {
        let shared = Shared {
            steps: Mutex::new(steps),
            mood: Mutex::new(Mood::Works),
            held: Mutex::new(false),
            released: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock() = mood;
    }

    /// Syncs wait from now on.
    pub(super) fn hold(&self) {
        *self.shared.held.lock() = true;
    }

    pub(super) fn release(&self) {
        *self.shared.held.lock() = false;
        self.shared.released.notify_all();
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.shared.steps.lock().clone()
    }

    pub(super) fn syncs(&self) -> usize {
        self.steps().iter().filter(|step| **step == Step::Sync).count()
    }

    pub(super) fn open(&self) -> (LogStore, Latch) {
        self.open_with(&Blocking::on_threads())
    }

    pub(super) fn open_with(&self, blocking: &Blocking) -> (LogStore, Latch) {
        self.try_open(blocking).unwrap()
    }

    pub(super) fn try_open(&self, blocking: &Blocking) -> Result<(LogStore, Latch), EngineError> {
        let latch = Latch::new();
        let identity = Identity { cluster_id: [7; 32], replica: 1 };
        Ok((LogStore::open(self, Path::new("unused"), identity, latch.clone(), blocking)?, latch))
    }
}

/// What a disk holds after these writes.
pub(super) fn content(steps: &[Step]) -> Loaded {
    let mut records: BTreeMap<u64, Record> = BTreeMap::new();
    let mut marks: BTreeMap<Mark, Vec<u8>> = BTreeMap::new();
    for step in steps {
        let Step::Write(changes) = step else { continue };
        for change in changes {
            match change.clone() {
                Change::Put(record) => drop(records.insert(record.index, record)),
                Change::Delete { index, bytes } => {
                    if let Some(record) = records.remove(&index) {
                        assert_eq!(record.bytes.len(), bytes, "deleted with the length it has");
                    }
                }
                Change::Mark(mark, value) => drop(marks.insert(mark, value)),
            }
        }
    }
    Loaded { store_id: [1; 16], records: records.into_values().collect(), marks: marks.into_iter().collect() }
}

impl OpenEngine for FakeEngine {
    fn open(&self, _: &Path, _: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        Ok((Box::new(self.clone()), content(&self.steps())))
    }
}

impl Engine for FakeEngine {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let mood = *self.shared.mood.lock();
        assert!(mood != Mood::Panics, "as told");
        self.shared.steps.lock().push(Step::Write(changes.to_vec()));
        match mood {
            Mood::FailsToWrite => Err(failure("writing")),
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        let mut held = self.shared.held.lock();
        while *held {
            self.shared.released.wait(&mut held);
        }
        match *self.shared.mood.lock() {
            Mood::FailsToSync => Err(failure("syncing")),
            _ => {
                self.shared.steps.lock().push(Step::Sync);
                Ok(())
            }
        }
    }
}

fn failure(doing: &'static str) -> EngineError {
    EngineError::Io { doing, reason: "no space left on device".into() }
}

pub(super) fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: log_id(term, index), payload: EntryPayload::Blank }
}

/// An append that is under way.
pub(super) type Appending = oneshot::Receiver<io::Result<()>>;

/// Appends blank entries.
pub(super) async fn append(
    log: &mut LogStore,
    term: u64,
    indices: impl IntoIterator<Item = u64>,
) -> Appending {
    let entries: Vec<Entry> = indices.into_iter().map(|index| blank(term, index)).collect();
    append_entries(log, entries).await
}

pub(super) async fn append_entries(log: &mut LogStore, entries: Vec<Entry>) -> Appending {
    // openraft's signal takes its own kind of sender; a task passes the result on.
    let (sender, receiver) = oneshot::channel();
    let (signal, signalled) = signal();
    log.append(entries, IOFlushed::<TypeConfig>::signal(signal)).await.unwrap();
    tokio::spawn(async move {
        let result = signalled.await.unwrap_or_else(|_| Err(io::Error::other("never told")));
        let _ = sender.send(result);
    });
    receiver
}

type SignalSender = openraft::type_config::alias::OneshotSenderOf<TypeConfig, io::Result<()>>;
type SignalReceiver = openraft::type_config::alias::OneshotReceiverOf<TypeConfig, io::Result<()>>;

fn signal() -> (SignalSender, SignalReceiver) {
    use openraft::type_config::TypeConfigExt as _;
    TypeConfig::oneshot()
}

use super::memory::LogMemory;
use super::writer::{Job, Urgent, Writer};
use crate::blocking::Blocking;
use crate::codec::{entry, marks};
use crate::fault;
use crate::machine::LogPosition;
use crate::mutant::{Mutant, planted};
use crate::replica::latch::Latch;
use crate::replica::raft::{Entry, LogId, TypeConfig, Vote, position};
use crate::store::{EngineError, Identity, Mark, OpenEngine, Record};
use crate::types::{LogIndex, StoreId};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::RwLock;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Jobs waiting for the writing thread; a full queue slows the proposers down.
const QUEUE_CAPACITY: usize = 4096;
/// Entries sent to a follower in one message, at most.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log behind openraft's traits. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    memory: Arc<RwLock<LogMemory>>,
    jobs: mpsc::Sender<Job>,
    urgent: Urgent,
    id: StoreId,
}

impl LogStore {
    /// Opens the store in a directory, checks all of it and starts the writing thread, or, inline, the writing task.
    /// Blocks.
    pub(crate) fn open(
        opener: &dyn OpenEngine,
        dir: &Path,
        identity: Identity,
        latch: Latch,
        blocking: &Blocking,
    ) -> Result<Self, EngineError> {
        let (mut engine, loaded) = opener.open(dir, identity)?;
        // A process that was killed may have written what it did not sync. It is read like everything else, and would be
        // acknowledged: no power cut may take it after that.
        let is_new = loaded.records.is_empty() && loaded.marks.is_empty();
        if !is_new && !planted(Mutant::OpenUnsynced) {
            engine.sync()?;
        }
        let id = StoreId(loaded.store_id);
        let (memory, garbage) =
            LogMemory::load(loaded).map_err(|error| EngineError::Damaged(error.to_string()))?;
        tracing::info!(store = %id, last = ?memory.last(), purged = ?memory.purged, "opened the log");
        let ((jobs, receiver), urgent) = (mpsc::channel(QUEUE_CAPACITY), Urgent::default());
        let (queue, place) = ((receiver, urgent.clone()), (latch, dir.to_path_buf()));
        let writer = Writer::new(engine, queue, garbage, place, blocking.clone()).run();
        if blocking.is_inline() {
            tokio::spawn(writer);
        } else {
            let thread = std::thread::Builder::new().name("mux-log".into());
            thread.spawn(move || futures::executor::block_on(writer)).map_err(|error| EngineError::Io {
                doing: "starting the log's thread",
                reason: error.to_string(),
            })?;
        }
        Ok(Self { memory: Arc::new(RwLock::new(memory)), jobs, urgent, id })
    }

    /// Whether nothing was ever written.
    pub(crate) fn is_pristine(&self) -> bool {
        let memory = self.memory.read();
        memory.last().is_none() && memory.vote.is_none() && memory.probation.is_none()
    }

    /// Names the store.
    pub(crate) fn id(&self) -> StoreId {
        self.id
    }

    /// The last entry that was written, or purged.
    pub(crate) fn end(&self) -> Option<LogPosition> {
        self.memory.read().last().map(position)
    }

    /// Goes on from a snapshot, which is durable: unless the log has its last entry, it has nothing that is needed. A crash may
    /// have come between the two.
    pub(crate) async fn go_on_from(&self, snapshot: LogId) -> io::Result<()> {
        let cut = self.memory.write().go_on_from(snapshot);
        let Some(cut) = cut else { return Ok(()) };
        tracing::warn!(%snapshot, entries = cut.len(), "the log goes on from a snapshot that was not made of it");
        self.send(Job::Truncate(cut)).await?;
        self.send(Job::Purge { upto: snapshot, removed: Vec::new() }).await
    }

    /// Writes what is queued and closes the store.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Stop { done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// The entry that must be applied here before this replica votes.
    pub(crate) fn probation(&self) -> Option<LogIndex> {
        self.memory.read().probation
    }

    /// See [`LogStore::probation`]. Durable when it returns.
    pub(crate) async fn set_probation(&self, until: Option<LogIndex>) -> io::Result<()> {
        self.save_mark(Mark::Probation, marks::encode_index(until)).await?;
        self.memory.write().probation = until;
        Ok(())
    }

    async fn save_mark(&self, mark: Mark, bytes: Vec<u8>) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.send(Job::Mark { mark, bytes, done, urgent: self.urgent.begin() }).await?;
        durable.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }

    async fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| io::Error::other("the log's thread has ended"))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.memory.read().range(range))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.memory.read().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.memory.read().first_of_range(start..end, READ_BYTES_MAX))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.memory.read();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.save_mark(Mark::Vote, marks::encode_vote(vote)).await?;
        fault::point("vote.saved");
        self.memory.write().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Written with the next batch: it only saves re-applying less at a restart.
        self.memory.write().committed = committed;
        self.send(Job::Committed(committed)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.memory.read().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut memory = self.memory.write();
            for entry in entries {
                let bytes = entry::encode(&entry).map_err(io::Error::other)?;
                let index = entry.log_id.index;
                memory.push(entry, bytes.len()).map_err(io::Error::other)?;
                records.push(Record { index, bytes });
            }
        }
        self.send(Job::Append { records, done }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let removed = self.memory.write().truncate_after(last);
        self.send(Job::Truncate(removed)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let removed = self.memory.write().purge(upto);
        self.send(Job::Purge { upto, removed }).await
    }
}

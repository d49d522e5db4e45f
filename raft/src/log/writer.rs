use super::memory::Removed;
use crate::blocking::{Blocking, Work};
use crate::codec::marks;
use crate::fault;
use crate::mutant::{Mutant, planted};
use crate::replica::latch::Latch;
use crate::replica::opening::CHECK_DISK;
use crate::replica::raft::{LogId, TypeConfig};
use crate::store::{Change, Engine, EngineError, Mark, Record};
use crate::types::LogIndex;
use futures::FutureExt as _;
use openraft::storage::IOFlushed;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// More entries in a batch gain nothing, they only add latency.
const BATCH_ENTRIES_MAX: usize = 256;
/// Nor more bytes.
const BATCH_BYTES_MAX: usize = 384 << 10;
/// Of what was purged, in one piece: so many entries,
const DELETES_PER_BATCH: usize = 64;
/// or of so many bytes, which an engine deletes without a sync in between, and has room left for a vote.
const DELETED_BYTES_PER_BATCH: usize = 28 << 10;
/// While more entries than this wait to be deleted ...
const GARBAGE_MAX: usize = 8_192;
/// ... so many pieces follow each batch, more than the batch can have brought: else one. Entries wait for them, or under load
/// there would be ever more to delete. Votes do not, they are few: see [`Urgent`].
const PIECES_PER_BATCH: usize = 16;

/// Counts the marks that somebody waits for and the writer has not begun with, wherever they are in the queue. As long as there
/// are some, nothing is deleted, so that none of them waits for more than the piece that is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Urgent(Arc<AtomicUsize>);

/// One of those marks.
#[derive(Debug)]
pub(super) struct UrgentMark(Urgent);

impl Urgent {
    pub(super) fn begin(&self) -> UrgentMark {
        self.0.fetch_add(1, Ordering::Relaxed);
        UrgentMark(self.clone())
    }

    fn waits(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for UrgentMark {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the log asks the writing thread to do, in this order.
pub(super) enum Job {
    Append {
        records: Vec<Record>,
        done: IOFlushed<TypeConfig>,
    },
    Mark {
        mark: Mark,
        bytes: Vec<u8>,
        done: oneshot::Sender<io::Result<()>>,
        /// Until it is taken out of the queue.
        urgent: UrgentMark,
    },
    Truncate(Vec<Removed>),
    Purge {
        upto: LogId,
        removed: Vec<Removed>,
    },
    /// The last committed entry. Written with whatever batch comes next, never with one before it in the queue:
    /// the disk must not call entries committed while it still holds those that they replaced.
    Committed(Option<LogId>),
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// The only user of the engine. See the module above. It has a thread to itself, where the engine may block; inline it is
/// a task, which waits for nothing but jobs and the time that a sync takes.
pub(super) struct Writer {
    engine: Option<Box<dyn Engine>>,
    jobs: mpsc::Receiver<Job>,
    urgent: Urgent,
    /// See [`Job::Committed`].
    committed: Option<LogId>,
    latch: Latch,
    blocking: Blocking,
    /// For messages.
    dir: PathBuf,
    batch: Batch,
    /// Entries that were cut off and are still on disk, the last one first. They leave it with what takes their place: cut
    /// off for a snapshot, there may be some among them that were acknowledged, and until it is durable they are
    /// nowhere else.
    cut: VecDeque<Removed>,
    /// Purged entries that are still on disk. They no longer count, so there is no hurry.
    garbage: VecDeque<Removed>,
}

#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    waiting: Vec<Waiting>,
}

/// Who is to be told when the batch is durable.
enum Waiting {
    Append(IOFlushed<TypeConfig>),
    Mark(oneshot::Sender<io::Result<()>>),
}

impl Waiting {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            // The receiver is gone when the replica is shutting down.
            Self::Mark(sender) => drop(sender.send(result)),
        }
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.changes.len() < BATCH_ENTRIES_MAX && self.bytes < BATCH_BYTES_MAX
    }
}

impl Writer {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        (jobs, urgent): (mpsc::Receiver<Job>, Urgent),
        garbage: Vec<Removed>,
        (latch, dir): (Latch, PathBuf),
        blocking: Blocking,
    ) -> Self {
        let (engine, batch, garbage) = (Some(engine), Batch::default(), garbage.into());
        let cut = VecDeque::new();
        Self { engine, jobs, urgent, committed: None, latch, blocking, dir, batch, cut, garbage }
    }

    /// Works until it is told to stop, nobody is left to ask, or something fails; then fails whatever else is
    /// asked.
    pub(super) async fn run(mut self) {
        let ended = AssertUnwindSafe(self.work()).catch_unwind().await;
        let reason = match ended {
            Ok(Ok(stopped)) => {
                // Closes the database before the answer, so that it can be opened again after it.
                self.engine = None;
                if let Some(done) = stopped {
                    let _ = done.send(());
                }
                "the log is closed".to_owned()
            }
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(_) => self.fail("the log engine panicked"),
        };
        for waiting in std::mem::take(&mut self.batch.waiting) {
            waiting.tell(Err(io::Error::other(reason.clone())));
        }
        while let Some(job) = self.jobs.recv().await {
            match job {
                Job::Append { done, .. } => done.io_completed(Err(io::Error::other(reason.clone()))),
                Job::Mark { done, .. } => drop(done.send(Err(io::Error::other(reason.clone())))),
                Job::Stop { done } => drop(done.send(())),
                Job::Truncate(_) | Job::Purge { .. } | Job::Committed(_) => {}
            }
        }
    }

    fn fail(&mut self, reason: &str) -> String {
        let reason = format!("the log in {}: {reason}: {CHECK_DISK}", self.dir.display());
        self.latch.trip(reason.clone());
        // Closing may panic as well; the reason that is reported stays the first.
        let engine = self.engine.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        reason
    }

    async fn work(&mut self) -> Result<Option<oneshot::Sender<()>>, EngineError> {
        loop {
            let job = if self.garbage.is_empty() {
                self.jobs.recv().await
            } else {
                match self.jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(mpsc::error::TryRecvError::Empty) => {
                        self.collect_garbage()?;
                        continue;
                    }
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                }
            };
            let Some(job) = job else {
                self.commit().await?;
                return Ok(None);
            };
            let mut stopped = self.take(job).await?;
            while stopped.is_none() && self.batch.has_room() {
                match self.jobs.try_recv() {
                    Ok(job) => stopped = self.take(job).await?,
                    Err(_) => break,
                }
            }
            // A mark alone is not worth a sync: it waits for the next entries, or for the end.
            if stopped.is_some() || !self.batch.changes.is_empty() {
                self.commit().await?;
            }
            if stopped.is_some() {
                return Ok(stopped);
            }
            let pieces = if self.garbage.len() > GARBAGE_MAX { PIECES_PER_BATCH } else { 1 };
            for _ in 0..pieces {
                if self.urgent.waits() {
                    break;
                }
                self.collect_garbage()?;
            }
        }
    }

    async fn take(&mut self, job: Job) -> Result<Option<oneshot::Sender<()>>, EngineError> {
        match job {
            Job::Append { records, done } => {
                self.delete_cut(0).await?;
                for record in records {
                    if !self.batch.has_room() {
                        self.commit().await?;
                    }
                    self.batch.bytes = self.batch.bytes.saturating_add(record.bytes.len());
                    self.batch.changes.push(Change::Put(record));
                }
                self.batch.waiting.push(Waiting::Append(done));
            }
            Job::Mark { mark: Mark::Vote, done, .. } if planted(Mutant::VoteNotPersisted) => {
                Waiting::Mark(done).tell(Ok(()));
            }
            Job::Mark { mark, bytes, done, urgent } => {
                drop(urgent);
                self.batch.changes.push(Change::Mark(mark, bytes));
                self.batch.waiting.push(Waiting::Mark(done));
            }
            Job::Truncate(_) if planted(Mutant::TruncateNotPersisted) => {}
            Job::Truncate(removed) => {
                self.cut.extend(removed);
                if planted(Mutant::CutAtOnce) {
                    self.delete_cut(0).await?;
                }
            }
            Job::Purge { upto, removed } => {
                let replaces = self.cut.back().is_some_and(|(first, _)| *first <= upto.index);
                if replaces {
                    // What was cut off behind it would follow it otherwise.
                    self.delete_cut(upto.index.saturating_add(1)).await?;
                }
                // The mark goes first: from then on the entries do not count, wherever a crash stops this.
                self.batch.changes.push(Change::Mark(Mark::Purged, marks::encode_log_id(Some(upto))));
                self.garbage.extend(removed);
                if replaces {
                    self.garbage.extend(std::mem::take(&mut self.cut).into_iter().rev());
                }
                if planted(Mutant::PurgeTooFar) {
                    self.garbage.push_back((upto.index.saturating_add(1), 0));
                }
            }
            Job::Committed(committed) => self.committed = committed,
            Job::Stop { done } => return Ok(Some(done)),
        }
        Ok(None)
    }

    /// Takes entries from this one on that were cut off into the batch.
    async fn delete_cut(&mut self, first: LogIndex) -> Result<(), EngineError> {
        while let Some((index, bytes)) = self.cut.pop_front_if(|(index, _)| *index >= first) {
            self.batch.changes.push(Change::Delete { index, bytes });
            if !self.batch.has_room() {
                self.commit().await?;
            }
        }
        Ok(())
    }

    /// Makes the batch durable, then tells those who wait for it, in order.
    async fn commit(&mut self) -> Result<(), EngineError> {
        // Not while the disk may hold another entry there.
        if self.cut.is_empty()
            && let Some(committed) = self.committed.take()
        {
            let mark = Change::Mark(Mark::Committed, marks::encode_log_id(Some(committed)));
            self.batch.changes.push(mark);
        }
        let Some(engine) = self.engine.as_mut().filter(|_| !self.batch.changes.is_empty()) else {
            return Ok(());
        };
        fault::point("log.write");
        // Of a long batch an engine syncs parts while it writes.
        let writing = Instant::now();
        engine.write(&self.batch.changes)?;
        let written = writing.elapsed();
        fault::point("log.written");
        if planted(Mutant::AckBeforeSync) {
            std::mem::take(&mut self.batch.waiting).into_iter().for_each(|waiting| waiting.tell(Ok(())));
        }
        self.blocking.pass(Work::LogSync).await;
        let started = Instant::now();
        engine.sync()?;
        fault::point("log.synced");
        let took = written.saturating_add(started.elapsed());
        metrics::histogram!("mux_log_fsync_duration_seconds").record(took.as_secs_f64());
        let entries = self.batch.changes.iter().filter(|change| matches!(change, Change::Put(_))).count();
        metrics::counter!("mux_log_entries_written_total").increment(u64::try_from(entries).unwrap_or(0));
        let batch = std::mem::take(&mut self.batch);
        for waiting in batch.waiting {
            waiting.tell(Ok(()));
        }
        fault::point("log.told");
        Ok(())
    }

    /// Deletes some purged entries. Made durable by the next batch; if it is lost, they are deleted again.
    fn collect_garbage(&mut self) -> Result<(), EngineError> {
        let Some(engine) = self.engine.as_mut().filter(|_| !self.garbage.is_empty()) else {
            return Ok(());
        };
        let (mut changes, mut room) = (Vec::new(), DELETED_BYTES_PER_BATCH);
        while changes.len() < DELETES_PER_BATCH
            && let Some((index, bytes)) =
                self.garbage.pop_front_if(|(_, bytes)| changes.is_empty() || *bytes <= room)
        {
            room = room.saturating_sub(bytes);
            changes.push(Change::Delete { index, bytes });
        }
        fault::point("log.garbage");
        engine.write(&changes)
    }
}

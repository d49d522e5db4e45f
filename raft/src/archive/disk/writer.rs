use super::error::StoreError;
use super::filter::HashRuns;
use super::queue::Queue;
use super::store::{Changes, Store};
use crate::fault;
use crate::machine::archive::ArchiveUnreadable;
use crate::replica::latch::Latch;
use crate::replica::opening::Reading;
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long records wait for others to be written with.
const GATHER: Duration = Duration::from_secs(1);

/// What was written is made safe from a power cut at least so often, so that closing and snapshots find little
/// to do.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Records that are deleted together.
const DELETE_MAX: usize = 512;

/// Hashes that are read together.
const LEARN_MAX: usize = 8_192;

/// What the archive's callers and its writing thread share.
#[derive(Debug)]
pub(super) struct Shared {
    /// None once it is closed.
    pub(super) store: RwLock<Option<Store>>,
    pub(super) queue: Mutex<Queue>,
    /// The writer waits for work.
    pub(super) work: Condvar,
    /// Callers wait for room, or until something is durable.
    pub(super) done: Condvar,
    /// See [`Shared::is_checked`].
    pub(super) checked: AtomicBool,
    latch: Latch,
}

enum Task {
    Write(super::queue::Batch),
    Delete { before: u64 },
    Stop,
}

impl Shared {
    pub(super) fn new(store: Store, queue: Queue, latch: Latch) -> Self {
        Self {
            store: RwLock::new(Some(store)),
            queue: Mutex::new(queue),
            work: Condvar::new(),
            done: Condvar::new(),
            checked: AtomicBool::new(false),
            latch,
        }
    }

    /// Uses the file. An error there stops the replica.
    pub(super) fn with_store<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, ArchiveUnreadable> {
        let store = self.store.read();
        let store = store.as_ref().ok_or_else(|| ArchiveUnreadable("it is closed".into()))?;
        // The engine panics on some damage.
        let _reading = Reading::begin(store.path());
        work(store).map_err(|error| {
            store.remember(&error);
            let reason = error.to_string();
            self.latch.trip(format!("the archive of finished invoices failed: {reason}"));
            ArchiveUnreadable(reason)
        })
    }

    /// Nothing goes on after an error.
    pub(super) fn fail(&self, error: &ArchiveUnreadable) {
        self.queue.lock().failed.get_or_insert_with(|| error.0.clone());
        self.work.notify_all();
        self.done.notify_all();
    }

    /// The thread's work. Nobody must wait for ever for one that has panicked.
    pub(super) fn run_to_the_end(&self) {
        self.or_fail("the archive's writer panicked: its file may be damaged", || self.run());
    }

    /// The engine may panic on a damaged file.
    pub(super) fn or_fail(&self, reason: &str, work: impl FnOnce()) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            self.latch.trip(reason);
            self.fail(&ArchiveUnreadable(reason.into()));
        }
    }

    /// Reads the hashes that the file had when it was opened, a page of them at a time. Until that is done every
    /// look-up of a hash reads the file.
    pub(super) fn learn_hashes(&self) {
        let (mut known, mut after) = (HashRuns::default(), None);
        loop {
            let page = self.with_store(|store| store.read()?.digests(after.as_ref(), LEARN_MAX));
            // Who failed or closed it has said so.
            let Ok((digests, last)) = page else { return };
            digests.iter().for_each(|(digest, record)| known.insert(digest, *record));
            let mut queue = self.queue.lock();
            match last {
                _ if queue.closing => return,
                Some(key) => after = Some(key),
                None => return queue.filter.complete(known),
            }
        }
    }

    /// Writes what comes until the archive is closed or fails.
    fn run(&self) {
        let mut last_sync = Instant::now();
        loop {
            let task = self.next(last_sync);
            let result = match task {
                Task::Stop => break,
                Task::Delete { before } => self.delete(before),
                Task::Write(batch) => {
                    let durable = batch.durable.is_some();
                    let result = self.write(batch);
                    if durable {
                        last_sync = Instant::now();
                    }
                    result
                }
            };
            if let Err(error) = result {
                self.fail(&error);
                break;
            }
            self.export();
            self.done.notify_all();
        }
        // Closes the file.
        self.store.write().take();
        self.done.notify_all();
    }

    /// Waits for the next thing to do.
    fn next(&self, last_sync: Instant) -> Task {
        let mut queue = self.queue.lock();
        let mut gathering_since = None;
        loop {
            if queue.failed.is_some() {
                return Task::Stop;
            }
            if !queue.is_empty() && gathering_since.is_none() {
                gathering_since = Some(Instant::now());
            }
            let gathered = gathering_since.is_some_and(|since: Instant| since.elapsed() >= GATHER);
            let sync = !queue.is_durable()
                && (queue.closing || queue.is_sync_wanted() || last_sync.elapsed() >= SYNC_INTERVAL);
            if sync || gathered || queue.has_batch() {
                return Task::Write(queue.batch(sync));
            }
            if queue.closing {
                return Task::Stop;
            }
            if let Some(before) = queue.to_delete() {
                return Task::Delete { before };
            }
            let gather = gathering_since.map(|since| since + GATHER);
            let sync = (!queue.is_durable()).then(|| last_sync + SYNC_INTERVAL);
            match gather.into_iter().chain(sync).min() {
                Some(deadline) => drop(self.work.wait_until(&mut queue, deadline)),
                None => self.work.wait(&mut queue),
            }
        }
    }

    fn write(&self, batch: super::queue::Batch) -> Result<(), ArchiveUnreadable> {
        let started = Instant::now();
        let (records, base, durable) = (batch.records.clone(), batch.base, batch.durable.is_some());
        fault::point("archive.write");
        self.with_store(|store| store.write(&Changes { records, base, durable }))?;
        fault::point("archive.written");
        self.queue.lock().written(&batch);
        metrics::histogram!("mux_archive_write_duration_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn delete(&self, before: u64) -> Result<(), ArchiveUnreadable> {
        fault::point("archive.delete");
        let first = self.with_store(|store| store.delete(before, DELETE_MAX))?;
        self.queue.lock().forgotten(first.unwrap_or(before));
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(super) fn export(&self) {
        let bytes = self.store.read().as_ref().and_then(Store::bytes);
        let queue = self.queue.lock();
        let records = queue.ends.end().0.saturating_sub(queue.first);
        metrics::gauge!("mux_archive_records").set(records as f64);
        if let Some(bytes) = bytes {
            metrics::gauge!("mux_archive_bytes").set(bytes as f64);
        }
    }
}

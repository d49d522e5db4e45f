use super::backend::condemn;
use super::error::{StoreError, uncertain};
use super::filter::HashRuns;
use super::queue::Queue;
use super::store::{Changes, Store};
use crate::fault;
use crate::machine::archive::ArchiveUnreadable;
use crate::replica::latch::Latch;
use crate::replica::opening::Reading;
use parking_lot::{Condvar, Mutex, RwLock};
use std::path::Path;
use std::sync::Arc;
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
    file: Arc<Path>,
}

/// Begins what the latch says of an error.
const FAILED: &str = "the archive of finished invoices failed";

enum Task {
    Write(super::queue::Batch),
    Delete { before: u64 },
    Stop,
}

impl Shared {
    pub(super) fn new(store: Store, queue: Queue, latch: Latch) -> Self {
        Self {
            file: Arc::clone(store.path()),
            store: RwLock::new(Some(store)),
            queue: Mutex::new(queue),
            work: Condvar::new(),
            done: Condvar::new(),
            checked: AtomicBool::new(false),
            latch,
        }
    }

    /// Uses the file. An error there stops the replica. Not for whoever has locked the queue.
    pub(super) fn with_store<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, ArchiveUnreadable> {
        self.look(work).map_err(|error| self.stop(&error))
    }

    /// Uses the file. An error is for [`Shared::stop`].
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = self.store.read();
        let store = store.as_ref().ok_or(StoreError::Closed)?;
        // The engine panics on some damage.
        let _reading = Reading::begin(store.path());
        work(store)
    }

    /// After an error of the file.
    pub(super) fn stop(&self, error: &StoreError) -> ArchiveUnreadable {
        let unreadable = ArchiveUnreadable(error.to_string());
        if matches!(error, StoreError::Closed) {
            return unreadable;
        }
        self.latch.trip(format!("{FAILED}: {error}: {}", error.advice(&self.file)));
        self.fail(&unreadable);
        // Last, as a disk may take long for it. The process may end before (`muxd` waits for nobody when it cannot go on): then
        // the damage is found again after the next start, where it was found now.
        if error.is_damage()
            && let Some(dir) = self.file.parent()
            && let Err(failed) = condemn(dir, &unreadable.0)
        {
            tracing::error!(%failed, "what was found in the archive cannot be written down");
        }
        unreadable
    }

    /// Nothing goes on after an error.
    fn fail(&self, error: &ArchiveUnreadable) {
        self.queue.lock().failed.get_or_insert_with(|| error.0.clone());
        self.work.notify_all();
        self.done.notify_all();
    }

    /// The thread's work. Nobody must wait for ever for one that has panicked.
    pub(super) fn run_to_the_end(&self) {
        self.or_fail("the archive's writer panicked", || self.run());
    }

    /// The engine may panic on a damaged file. `muxd` ends then, and comes no further than its panic hook.
    pub(super) fn or_fail(&self, reason: &str, work: impl FnOnce()) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err() {
            self.latch.trip(format!("{reason}: {}", uncertain(&self.file)));
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
            if result.is_err() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    #[test]
    fn nothing_waits_for_a_disk_that_takes_long_to_take_the_note_of_its_damage() {
        let dir = tempfile::TempDir::new().unwrap();
        let (store, latch) = (Store::open(dir.path(), &[7; 32]).unwrap(), Latch::new());
        let shared = Shared::new(store, Queue::default(), latch.clone());
        // Whoever writes into it waits until somebody reads.
        let note = dir.path().join("damaged");
        assert!(Command::new("mkfifo").arg(&note).status().unwrap().success());
        std::thread::scope(|scope| {
            let stopping = scope.spawn(|| shared.stop(&StoreError::Damaged("a record".into())));
            let deadline = Instant::now() + Duration::from_secs(20);
            while latch.reason().is_none() || shared.queue.lock().check().is_ok() {
                assert!(Instant::now() < deadline, "it goes on");
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!stopping.is_finished(), "the note is not written");
            let reader = File::options().read(true).write(true).open(&note).unwrap();
            assert_eq!(stopping.join().unwrap().0, "a record");
            drop(reader);
        });
    }
}

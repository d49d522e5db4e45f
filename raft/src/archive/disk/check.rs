//! Looks at all that is in the file, so that damage is found before somebody is told that there is nothing.
//!
//! A record that is read shows by its checksum whether it is whole. An index that lost an entry shows nothing: what it led to
//! is "not found". The engine has checksums of its pages, and looks at them only when it repairs a file, all of it, while
//! nobody may use it. So each record is looked up by everything that leads to it, slowly, after the start and then every day.

use super::error::StoreError;
use super::writer::Shared;
use crate::archive::ArchiveUnreadable;
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Looked at together.
const RECORDS: usize = 256;

/// The rest after each look is so many times as long as the look was: others need the disk and the processor.
const REST: u32 = 4;

/// From the end of one round to the beginning of the next.
const ROUND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Shared {
    /// Whether everything that was in the file when it was opened has been looked at.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    /// Goes round until the archive is closed. Damage stops the replica.
    pub(super) fn check_for_ever(&self) {
        self.or_fail("what checks the archive panicked", || self.check_round_by_round());
    }

    fn check_round_by_round(&self) {
        loop {
            let started = Instant::now();
            match self.check_all() {
                Ok(Some(records)) => {
                    self.checked.store(true, Ordering::Release);
                    tracing::info!(records, took = ?started.elapsed(), "checked the archive");
                }
                // It was closed, or what was found is told.
                Ok(None) | Err(_) => return,
            }
            if !self.rest(ROUND_EVERY) {
                return;
            }
        }
    }

    /// How many records are there; none: it is being closed.
    fn check_all(&self) -> Result<Option<u64>, ArchiveUnreadable> {
        // What is written meanwhile is for the next round.
        let (end, _) = self.with_store(|store| store.read()?.end_before(u64::MAX))?;
        let (mut next, mut records) = (Some(0), 0_u64);
        while let Some(from) = next {
            let started = Instant::now();
            let seen = self.with_store(|store| store.read()?.check(from..end, RECORDS))?;
            (next, records) = (seen.next, records.saturating_add(seen.records));
            if !self.rest(started.elapsed().saturating_mul(REST)) {
                return Ok(None);
            }
        }
        Ok(Some(records))
    }

    /// Whether to go on after it.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut queue = self.queue.lock();
        let ends = |queue: &MutexGuard<'_, super::queue::Queue>| queue.closing || queue.failed.is_some();
        while let Some(until) = until.filter(|until| Instant::now() < *until && !ends(&queue)) {
            self.done.wait_until(&mut queue, until);
        }
        !ends(&queue)
    }
}

/// What a look came to.
pub(super) struct Seen {
    pub(super) records: u64,
    /// Where to go on, if there may be more.
    pub(super) next: Option<u64>,
}

/// Of something that must be there.
pub(super) fn lost(number: u64, by: &str) -> StoreError {
    StoreError::Damaged(format!("record {number} is not found by {by}"))
}

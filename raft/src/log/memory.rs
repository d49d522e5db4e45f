use crate::codec::{CodecError, entry, marks};
use crate::replica::raft::{Entry, LogId, Vote};
use crate::store::{Loaded, Mark};
use crate::types::LogIndex;
use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

/// The part of the log that is not purged, without holes, with the marks beside it.
#[derive(Debug, Default)]
pub(super) struct LogMemory {
    slots: VecDeque<Slot>,
    pub(super) purged: Option<LogId>,
    pub(super) committed: Option<LogId>,
    pub(super) vote: Option<Vote>,
    pub(super) probation: Option<LogIndex>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    bytes: usize,
}

/// An entry that left memory and has to leave the disk: its index, and its length there in bytes.
pub(super) type Removed = (LogIndex, usize);

/// Why a store's content is no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("entry {0}: {1}")]
    Entry(LogIndex, CodecError),
    #[error("{0:?} mark: {1}")]
    Mark(Mark, CodecError),
    #[error("entry {expected} is missing, {found} follows")]
    Hole { expected: LogIndex, found: LogIndex },
}

impl LogMemory {
    /// Checks every entry and mark that a store held. Also returns what an interrupted purge left behind.
    pub(super) fn load(loaded: Loaded) -> Result<(Self, Vec<Removed>), LoadError> {
        let mut memory = Self::default();
        for (mark, bytes) in &loaded.marks {
            let wrong = |error| LoadError::Mark(*mark, error);
            match mark {
                Mark::Vote => memory.vote = Some(marks::decode_vote(bytes).map_err(wrong)?),
                Mark::Committed => memory.committed = marks::decode_log_id(bytes).map_err(wrong)?,
                Mark::Purged => memory.purged = marks::decode_log_id(bytes).map_err(wrong)?,
                Mark::Probation => memory.probation = marks::decode_index(bytes).map_err(wrong)?,
            }
        }
        let mut leftovers = Vec::new();
        let mut expected = memory.purged.map_or(0, |id| id.index.saturating_add(1));
        for record in loaded.records {
            if record.index < expected && memory.slots.is_empty() {
                leftovers.push((record.index, record.bytes.len()));
                continue;
            }
            let entry =
                entry::decode(&record.bytes).map_err(|error| LoadError::Entry(record.index, error))?;
            if record.index != expected || entry.log_id.index != expected {
                return Err(LoadError::Hole { expected, found: entry.log_id.index });
            }
            memory.slots.push_back(Slot { entry, bytes: record.bytes.len() });
            expected = expected.saturating_add(1);
        }
        memory.committed = memory.committed.filter(|committed| memory.has(*committed));
        Ok((memory, leftovers))
    }

    /// Whether this very entry is here, or was purged. A mark that names another is worthless: what stands at
    /// its index may be a tail that was never committed, and must not be applied. A leader tells again.
    pub(super) fn has(&self, id: LogId) -> bool {
        if self.purged.is_some_and(|purged| id.index <= purged.index) {
            return self.purged >= Some(id);
        }
        self.slots_in(id.index..=id.index).any(|slot| slot.entry.log_id == id)
    }

    /// The last entry, or the last that was purged.
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.entry.log_id).or(self.purged)
    }

    /// Adds an entry, which is `bytes` long on disk, after the last.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize) -> Result<(), LoadError> {
        if let Some(slot) = self.slots.back() {
            let expected = slot.entry.log_id.index.saturating_add(1);
            if entry.log_id.index != expected {
                return Err(LoadError::Hole { expected, found: entry.log_id.index });
            }
        }
        self.slots.push_back(Slot { entry, bytes });
        Ok(())
    }

    /// Cuts off everything after an entry; the last one first.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) -> Vec<Removed> {
        let mut removed = Vec::new();
        while let Some(slot) = self.slots.back() {
            if last.is_some_and(|last| slot.entry.log_id.index <= last.index) {
                break;
            }
            removed.push((slot.entry.log_id.index, slot.bytes));
            self.slots.pop_back();
        }
        removed
    }

    /// Drops everything up to an entry; the first one first.
    pub(super) fn purge(&mut self, upto: LogId) -> Vec<Removed> {
        let mut removed = Vec::new();
        while let Some(slot) = self.slots.front() {
            if slot.entry.log_id.index > upto.index {
                break;
            }
            removed.push((slot.entry.log_id.index, slot.bytes));
            self.slots.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        removed
    }

    /// Drops everything, as if it had been purged up to this entry, unless that is here or was purged; the last one first.
    pub(super) fn go_on_from(&mut self, snapshot: LogId) -> Option<Vec<Removed>> {
        let purged = self.purged.is_some_and(|purged| snapshot.index <= purged.index);
        if self.slots.is_empty() || purged || self.has(snapshot) {
            return None;
        }
        let removed = self.truncate_after(None);
        self.purged = Some(snapshot);
        self.committed = None;
        Some(removed)
    }

    /// The entries of a range that are here.
    pub(super) fn range(&self, range: impl RangeBounds<LogIndex>) -> Vec<Entry> {
        self.slots_in(range).map(|slot| slot.entry.clone()).collect()
    }

    /// The first entries of a range that together are at most this long, but at least one.
    pub(super) fn first_of_range(&self, range: impl RangeBounds<LogIndex>, bytes_max: usize) -> Vec<Entry> {
        let mut bytes: usize = 0;
        self.slots_in(range)
            .take_while(|slot| {
                let first = bytes == 0;
                bytes = bytes.saturating_add(slot.bytes.max(1));
                first || bytes <= bytes_max
            })
            .map(|slot| slot.entry.clone())
            .collect()
    }

    fn slots_in(&self, range: impl RangeBounds<LogIndex>) -> impl Iterator<Item = &Slot> {
        let first = self.slots.front().map_or(0, |slot| slot.entry.log_id.index);
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => LogIndex::MAX,
        };
        let position = |index: LogIndex| {
            usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.slots.len())
        };
        let (start, end) = (position(start), position(end));
        self.slots.range(start.min(end)..end)
    }
}

use super::filter::Filter;
use super::store::{HashDigest, Lookup, channel_of, digest_of};
use crate::archive::RecordKeys;
use crate::archive::ends::Ends;
use crate::archive::records::RecordMap;
use crate::machine::archive::{ArchiveTip, ArchiveUnreadable, NewRecord};
use crate::types::CircuitKey;
use std::collections::VecDeque;
use std::sync::Arc;

/// Records that may wait to be written; then whoever appends more waits before.
const WAITING_MAX: usize = 16_384;
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Records in one write.
pub(super) const BATCH_MAX: usize = 8_192;

/// What waits to be written, and how far the file is. Guarded by one lock, which nobody holds while writing.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What is not in the file yet. Readers look here first.
    pub(super) waiting: RecordMap,
    order: VecDeque<Arc<NewRecord>>,
    bytes: usize,
    pub(super) ends: Ends,
    pub(super) filter: Filter,
    base_changed: bool,
    /// The first record in the file.
    pub(super) first: u64,
    /// Records before this one are to be deleted.
    forget_before: u64,
    /// Changes so far, and how many of them a power cut would leave.
    changes: u64,
    durable: u64,
    /// Somebody waits for this many changes to be durable.
    sync_to: u64,
    pub(super) closing: bool,
    /// Why nothing goes on.
    pub(super) failed: Option<String>,
}

/// What is written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Arc<NewRecord>>,
    pub(super) base: Option<(u64, [u8; 32])>,
    /// How many changes are durable afterwards.
    pub(super) durable: Option<u64>,
}

impl Queue {
    /// Of a file that ends like this.
    pub(super) fn new(ends: Ends, first: u64, filter: Filter) -> Self {
        Self { ends, first, filter, ..Self::default() }
    }

    /// How to look a hash up in the file; `None` if it is certainly not there.
    pub(super) fn lookup_hash<'key>(&self, digest: &'key HashDigest) -> Option<Lookup<'key>> {
        let runs = self.filter.runs_of(digest);
        let nowhere = runs.as_ref().is_some_and(Vec::is_empty);
        (!nowhere).then_some(Lookup::Hash(digest, runs))
    }

    /// How to look an HTLC up in the file; `None` if it is certainly not there.
    pub(super) fn lookup_htlc<'key>(&self, key: &'key CircuitKey) -> Option<Lookup<'key>> {
        self.filter.may_have_htlc(&channel_of(key), key.htlc_id).then_some(Lookup::Htlc(key))
    }

    pub(super) fn check(&self) -> Result<(), ArchiveUnreadable> {
        match &self.failed {
            Some(reason) => Err(ArchiveUnreadable(reason.clone())),
            None if self.closing => Err(ArchiveUnreadable("it is closed".into())),
            None => Ok(()),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= WAITING_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    /// Enough for a write.
    pub(super) fn has_batch(&self) -> bool {
        self.order.len() >= BATCH_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn push(&mut self, record: NewRecord) {
        let record = Arc::new(record);
        let RecordKeys { hash, htlcs, .. } = RecordKeys::of(&record.record);
        hash.iter().for_each(|hash| self.filter.add_hash(&digest_of(hash), record.number));
        htlcs.iter().for_each(|htlc| self.filter.add_htlc(channel_of(htlc), htlc.htlc_id));
        self.bytes = self.bytes.saturating_add(record.bytes.len());
        self.order.push_back(Arc::clone(&record));
        self.waiting.insert(record);
        self.count();
    }

    pub(super) fn start_at(&mut self, number: u64, hash: [u8; 32]) {
        if self.ends.end().0 == self.first {
            self.first = self.first.max(number);
        }
        if self.ends.start_at(number, hash) {
            self.base_changed = true;
            self.count();
        }
    }

    pub(super) fn forget(&mut self, tip: &ArchiveTip) {
        self.ends.forget(tip);
        // The last record before stays: it tells the rolling hash.
        self.forget_before = self.forget_before.max(tip.first.saturating_sub(1));
    }

    /// Before which record the file has some to delete. What waits is written first.
    pub(super) fn to_delete(&self) -> Option<u64> {
        let waits = self.waiting.first().is_some_and(|number| number < self.forget_before);
        (self.first < self.forget_before && !waits).then_some(self.forget_before)
    }

    pub(super) fn forgotten(&mut self, first: u64) {
        self.first = first;
        self.filter.forget(first);
        self.count();
    }

    fn count(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable >= self.changes
    }

    /// Asks for everything so far to be made durable, and says when it is.
    pub(super) fn want_sync(&mut self) -> u64 {
        self.sync_to = self.changes;
        self.sync_to
    }

    pub(super) fn is_synced(&self, changes: u64) -> bool {
        self.durable >= changes
    }

    pub(super) fn is_sync_wanted(&self) -> bool {
        self.durable < self.sync_to
    }

    /// What to write next. The records stay readable until [`Queue::written`].
    pub(super) fn batch(&mut self, durable: bool) -> Batch {
        let records: Vec<_> = self.order.iter().take(BATCH_MAX).cloned().collect();
        let all = records.len() == self.order.len();
        let base = std::mem::take(&mut self.base_changed).then(|| self.ends.base());
        Batch { records, base, durable: (durable && all).then_some(self.changes) }
    }

    pub(super) fn written(&mut self, batch: &Batch) {
        for record in &batch.records {
            self.order.pop_front();
            self.bytes = self.bytes.saturating_sub(record.bytes.len());
            self.waiting.remove(record.number);
        }
        if let Some(durable) = batch.durable {
            self.durable = durable;
        }
    }
}

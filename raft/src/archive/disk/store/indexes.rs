//! Whether records are found by all that leads to them.

use super::super::check::{Seen, lost};
use super::{
    EVENTS, HASHES, HTLCS, HashKey, HtlcKey, NUMBERS, Reader, StoreError, StoredRecord, digest_of, hash_key,
    key_of, tag,
};
use crate::archive::RecordKeys;
use redb::{ReadOnlyTable, ReadTransaction};
use std::ops::Range;

impl Reader {
    /// Looks whether records are all there, are whole, and are found by all that they are looked up by; so many at most.
    pub(in super::super) fn check(&self, wanted: Range<u64>, most: usize) -> Result<Seen, StoreError> {
        let nothing = Seen { records: 0, next: None };
        // Before its base there may be holes.
        let ((base, _), Some(first)) = (self.base()?, self.first()?) else { return Ok(nothing) };
        let (records, indexes) = (self.records()?, Indexes::open(&self.transaction)?);
        let mut seen = nothing;
        let mut expected = wanted.start.max(first);
        if expected >= wanted.end {
            return Ok(seen);
        }
        for entry in records.range(expected..wanted.end)?.take(most) {
            let (number, value) = entry?;
            let number = number.value();
            if expected.max(base) < number {
                return Err(StoreError::Damaged(format!("record {} is missing", expected.max(base))));
            }
            indexes.check(&StoredRecord::decode(number, value.value())?)?;
            // Also found by itself, not only among the others.
            if records.get(number)?.is_none() {
                return Err(lost(number, "its number"));
            }
            expected = number.saturating_add(1);
            seen.records = seen.records.saturating_add(1);
        }
        let is_full = seen.records >= u64::try_from(most).unwrap_or(u64::MAX);
        if !is_full && expected < wanted.end && expected >= base {
            return Err(StoreError::Damaged(format!("record {expected} is missing")));
        }
        seen.next = is_full.then_some(expected);
        Ok(seen)
    }
}

/// What leads to records.
struct Indexes {
    hashes: ReadOnlyTable<&'static HashKey, ()>,
    htlcs: ReadOnlyTable<&'static HtlcKey, ()>,
    numbers: ReadOnlyTable<(u8, u64), u64>,
    events: ReadOnlyTable<u64, u64>,
}

impl Indexes {
    fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            hashes: transaction.open_table(HASHES)?,
            htlcs: transaction.open_table(HTLCS)?,
            numbers: transaction.open_table(NUMBERS)?,
            events: transaction.open_table(EVENTS)?,
        })
    }

    /// Whether they lead to this one.
    fn check(&self, stored: &StoredRecord) -> Result<(), StoreError> {
        let (number, keys) = (stored.number, RecordKeys::of(&stored.record));
        if let Some(hash) = &keys.hash {
            self.hashes.get(&hash_key(&digest_of(hash), number))?.ok_or_else(|| lost(number, "its hash"))?;
        }
        for htlc in &keys.htlcs {
            self.htlcs.get(&key_of(htlc, number))?.ok_or_else(|| lost(number, "an HTLC"))?;
        }
        for (order, value) in keys.numbers {
            let found = self.numbers.get((tag(order), value))?.map(|found| found.value());
            found.filter(|found| *found == number).ok_or_else(|| lost(number, "an index"))?;
        }
        if let Some(first) = keys.first_event {
            let found = self.events.get(first)?.map(|found| found.value());
            found.filter(|found| *found == number).ok_or_else(|| lost(number, "its first event"))?;
        }
        Ok(())
    }
}

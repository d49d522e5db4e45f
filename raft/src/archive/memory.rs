use super::ends::Ends;
use super::records::{RecordMap, events_in, invoice_in};
use super::{Archive, ArchiveOpenError, InvoiceOrder, OpenArchive, missing, other};
use crate::machine::archive::{
    ArchiveLookup, ArchiveRecord, ArchiveTip, ArchiveUnreadable, ArchivedInvoice, NewRecord,
};
use crate::machine::model::Event;
use crate::replica::Latch;
use crate::types::{CircuitKey, PaymentHash};
use parking_lot::RwLock;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// An archive in memory, for tests and simulations. It knows what a disk would have after a power cut.
#[derive(Debug, Default)]
pub struct MemoryArchive {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: RecordMap,
    ends: Ends,
    /// The ends as of the last sync.
    synced: Ends,
    /// Records that were forgotten since.
    forgotten: Vec<Arc<NewRecord>>,
}

impl MemoryArchive {
    /// The machine loses power: what was appended, skipped or forgotten since the last sync was not. To be opened
    /// again.
    pub fn power_cut(&self) {
        let mut inner = self.inner.write();
        let Inner { records, synced, forgotten, .. } = std::mem::take(&mut *inner);
        let mut kept: Vec<_> = records.range(0, u64::MAX).map(|(_, record)| Arc::clone(record)).collect();
        kept.extend(forgotten);
        kept.retain(|record| synced.has_had(record.number));
        kept.sort_unstable_by_key(|record| record.number);
        *inner = Inner { ends: synced, synced, ..Inner::default() };
        kept.into_iter().for_each(|record| inner.records.insert(record));
    }
}

/// Opened again and again, as a replica does that is restarted: each time with all that was appended before.
impl OpenArchive for Arc<MemoryArchive> {
    fn open(
        &self,
        _dir: &Path,
        _cluster_id: &[u8; 32],
        _latch: Latch,
    ) -> Result<Arc<dyn Archive>, ArchiveOpenError> {
        Ok(Self::clone(self) as Arc<dyn Archive>)
    }
}

impl Inner {
    fn invoice(tip: &ArchiveTip, record: Option<&Arc<NewRecord>>) -> Option<ArchivedInvoice> {
        invoice_in(&record.filter(|record| tip.contains(record.number))?.record)
    }

    fn push(&mut self, record: NewRecord) -> Result<(), ArchiveUnreadable> {
        let number = record.number;
        if self.ends.take(number, record.hash_after)? {
            self.records.insert(Arc::new(record));
            return Ok(());
        }
        let same = self.records.get(number).is_some_and(|known| known.hash_after == record.hash_after);
        if same { Ok(()) } else { Err(other(number)) }
    }
}

impl ArchiveLookup for MemoryArchive {
    fn invoice(
        &self,
        tip: &ArchiveTip,
        hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        let inner = self.inner.read();
        Ok(Inner::invoice(tip, inner.records.of_hash(hash)))
    }

    fn invoice_of(
        &self,
        tip: &ArchiveTip,
        key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        let inner = self.inner.read();
        Ok(Inner::invoice(tip, inner.records.of_htlc(key)))
    }

    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable> {
        let inner = self.inner.read();
        let record = inner.records.get(number).ok_or_else(|| missing(number))?;
        Ok((record.record.clone(), record.hash_after))
    }
}

impl Archive for MemoryArchive {
    fn append(&self, records: Vec<NewRecord>) -> Result<(), ArchiveUnreadable> {
        let mut inner = self.inner.write();
        records.into_iter().try_for_each(|record| inner.push(record))
    }

    fn has_room(&self) -> Result<bool, ArchiveUnreadable> {
        Ok(true)
    }

    fn wait_for_room(&self) -> Result<(), ArchiveUnreadable> {
        Ok(())
    }

    fn start_at(&self, number: u64, hash: [u8; 32]) -> Result<(), ArchiveUnreadable> {
        self.inner.write().ends.start_at(number, hash);
        Ok(())
    }

    fn sync(&self, next: u64) -> Result<(), ArchiveUnreadable> {
        let mut inner = self.inner.write();
        let (end, _) = inner.ends.end();
        if end < next {
            return Err(missing(end));
        }
        inner.synced = inner.ends;
        inner.forgotten.clear();
        Ok(())
    }

    fn forget(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        let mut inner = self.inner.write();
        inner.ends.forget(tip);
        let first = tip.first.saturating_sub(1);
        let forgotten: Vec<_> = inner.records.range(0, first).map(|(_, record)| Arc::clone(record)).collect();
        inner.forgotten.extend(forgotten);
        inner.records.remove_before(first);
        Ok(())
    }

    fn end(&self) -> Result<(u64, [u8; 32]), ArchiveUnreadable> {
        Ok(self.inner.read().ends.end())
    }

    fn hash_before(&self, number: u64) -> Result<[u8; 32], ArchiveUnreadable> {
        let inner = self.inner.read();
        if let Some(hash) = inner.ends.hash_before(number) {
            return Ok(hash);
        }
        let before = inner.records.get(number.saturating_sub(1)).map(|record| record.hash_after);
        before.ok_or_else(|| missing(number.saturating_sub(1)))
    }

    fn check(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        let ends = self.inner.read().ends;
        ends.check(tip, |number| self.hash_before(number))
    }

    fn invoices(
        &self,
        tip: &ArchiveTip,
        order: InvoiceOrder,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<ArchivedInvoice>, ArchiveUnreadable> {
        let inner = self.inner.read();
        let found = inner.records.numbered(order, &numbers);
        let invoice = |(_, record): (u64, &Arc<NewRecord>)| Inner::invoice(tip, Some(record));
        Ok(if newest_first {
            found.rev().filter_map(invoice).take(limit).collect()
        } else {
            found.filter_map(invoice).take(limit).collect()
        })
    }

    fn events_after(
        &self,
        tip: &ArchiveTip,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, ArchiveUnreadable> {
        let inner = self.inner.read();
        let records = inner.records.events_after(sequence).map(|(_, record)| record);
        let records = records.filter(|record| tip.contains(record.number));
        Ok(records.flat_map(|record| events_in(&record.record, sequence)).take(limit).collect())
    }

    fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, ArchiveUnreadable> {
        let inner = self.inner.read();
        let mut chunk = Vec::new();
        let mut bytes = 0_usize;
        for number in from..until {
            let record = inner.records.get(number).ok_or_else(|| missing(number))?;
            bytes = bytes.saturating_add(record.bytes.len());
            if bytes > bytes_max && !chunk.is_empty() {
                break;
            }
            chunk.push(record.bytes.clone());
        }
        Ok(chunk)
    }
}

use super::{Archive, InvoiceOrder, RecordKeys};
use crate::machine::archive::{
    ArchiveLookup, ArchiveRecord, ArchiveTip, ArchiveUnreadable, ArchivedInvoice, NewRecord,
};
use crate::machine::model::Event;
use crate::types::{CircuitKey, PaymentHash};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// An archive in memory, for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryArchive {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<u64, NewRecord>,
    end: (u64, [u8; 32]),
    by_hash: BTreeMap<PaymentHash, u64>,
    by_htlc: BTreeMap<CircuitKey, u64>,
    by_number: BTreeMap<(InvoiceOrder, u64), u64>,
    by_event: BTreeMap<u64, u64>,
}

impl Inner {
    fn invoice(&self, tip: &ArchiveTip, number: Option<&u64>) -> Option<ArchivedInvoice> {
        let number = number.filter(|number| tip.contains(**number))?;
        match &self.records.get(number)?.record {
            ArchiveRecord::Invoice(archived) => Some(ArchivedInvoice::clone(archived)),
            ArchiveRecord::Events(_) => None,
        }
    }

    fn push(&mut self, record: NewRecord) -> Result<(), ArchiveUnreadable> {
        let number = record.number;
        if let Some(known) = self.records.get(&number) {
            let same = known.hash_after == record.hash_after;
            return if same { Ok(()) } else { Err(unreadable(number, "is another one")) };
        }
        if number != self.end.0 {
            return Err(unreadable(self.end.0, "is missing"));
        }
        let keys = RecordKeys::of(&record.record);
        self.by_hash.extend(keys.hash.map(|hash| (hash, number)));
        self.by_htlc.extend(keys.htlcs.iter().map(|key| (*key, number)));
        self.by_number.extend(keys.numbers.iter().map(|key| (*key, number)));
        self.by_event.extend(keys.first_event.map(|sequence| (sequence, number)));
        self.end = (number.saturating_add(1), record.hash_after);
        self.records.insert(number, record);
        Ok(())
    }
}

impl ArchiveLookup for MemoryArchive {
    fn invoice(
        &self,
        tip: &ArchiveTip,
        hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        let inner = self.inner.read();
        Ok(inner.invoice(tip, inner.by_hash.get(hash)))
    }

    fn invoice_of(
        &self,
        tip: &ArchiveTip,
        key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        let inner = self.inner.read();
        Ok(inner.invoice(tip, inner.by_htlc.get(key)))
    }

    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable> {
        let inner = self.inner.read();
        let record = inner.records.get(&number).ok_or_else(|| unreadable(number, "is missing"))?;
        Ok((record.record.clone(), record.hash_after))
    }
}

impl Archive for MemoryArchive {
    fn append(&self, records: Vec<NewRecord>) -> Result<(), ArchiveUnreadable> {
        let mut inner = self.inner.write();
        records.into_iter().try_for_each(|record| inner.push(record))
    }

    fn sync(&self, next: u64) -> Result<(), ArchiveUnreadable> {
        let end = self.inner.read().end.0;
        if end < next { Err(unreadable(end, "is missing")) } else { Ok(()) }
    }

    fn forget(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        let mut inner = self.inner.write();
        let first = tip.first;
        inner.records.retain(|number, _| *number >= first);
        inner.by_hash.retain(|_, number| *number >= first);
        inner.by_htlc.retain(|_, number| *number >= first);
        inner.by_number.retain(|_, number| *number >= first);
        inner.by_event.retain(|_, number| *number >= first);
        Ok(())
    }

    fn end(&self) -> Result<(u64, [u8; 32]), ArchiveUnreadable> {
        Ok(self.inner.read().end)
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
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let found = inner.by_number.range((order, *numbers.start())..=(order, *numbers.end()));
        let invoice = |(_, number): (&(InvoiceOrder, u64), &u64)| inner.invoice(tip, Some(number));
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
        let first =
            inner.by_event.range(..=sequence.saturating_add(1)).next_back().map_or(0, |(first, _)| *first);
        let records = inner.by_event.range(first..).map(|(_, number)| number);
        let records =
            records.filter(|number| tip.contains(**number)).filter_map(|number| inner.records.get(number));
        let mut events = Vec::new();
        for record in records {
            let ArchiveRecord::Events(chunk) = &record.record else { continue };
            events.extend(chunk.iter().filter(|event| event.sequence > sequence).cloned());
            if events.len() >= limit {
                break;
            }
        }
        events.truncate(limit);
        Ok(events)
    }

    fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, ArchiveUnreadable> {
        let inner = self.inner.read();
        let mut chunk = Vec::new();
        let mut bytes = 0_usize;
        for number in from..until {
            let record = inner.records.get(&number).ok_or_else(|| unreadable(number, "is missing"))?;
            bytes = bytes.saturating_add(record.bytes.len());
            if bytes > bytes_max && !chunk.is_empty() {
                break;
            }
            chunk.push(record.bytes.clone());
        }
        Ok(chunk)
    }
}

fn unreadable(number: u64, what: &str) -> ArchiveUnreadable {
    ArchiveUnreadable(format!("record {number} {what}"))
}

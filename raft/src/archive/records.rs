use super::{InvoiceOrder, RecordKeys};
use crate::machine::archive::{ArchiveRecord, ArchivedInvoice, NewRecord};
use crate::machine::model::Event;
use crate::types::{CircuitKey, PaymentHash};
use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

/// Records in memory, with everything they are found by.
#[derive(Debug, Default)]
pub(super) struct RecordMap {
    records: BTreeMap<u64, Arc<NewRecord>>,
    by_hash: BTreeMap<PaymentHash, u64>,
    by_htlc: BTreeMap<CircuitKey, u64>,
    by_number: BTreeMap<(InvoiceOrder, u64), u64>,
    by_event: BTreeMap<u64, u64>,
}

impl RecordMap {
    pub(super) fn get(&self, number: u64) -> Option<&Arc<NewRecord>> {
        self.records.get(&number)
    }

    /// The least number.
    pub(super) fn first(&self) -> Option<u64> {
        self.records.first_key_value().map(|(number, _)| *number)
    }

    pub(super) fn range(&self, from: u64, until: u64) -> impl Iterator<Item = (u64, &Arc<NewRecord>)> {
        let range = if from < until { from..until } else { from..from };
        self.records.range(range).map(|(number, record)| (*number, record))
    }

    pub(super) fn insert(&mut self, record: Arc<NewRecord>) {
        let number = record.number;
        let keys = RecordKeys::of(&record.record);
        self.by_hash.extend(keys.hash.map(|hash| (hash, number)));
        self.by_htlc.extend(keys.htlcs.iter().map(|key| (*key, number)));
        self.by_number.extend(keys.numbers.iter().map(|key| (*key, number)));
        self.by_event.extend(keys.first_event.map(|sequence| (sequence, number)));
        self.records.insert(number, record);
    }

    /// Takes a record out. A later one may be found by the same keys, and stays.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else { return };
        let keys = RecordKeys::of(&record.record);
        if let Some(hash) = &keys.hash {
            remove_if(&mut self.by_hash, hash, number);
        }
        for key in &keys.htlcs {
            remove_if(&mut self.by_htlc, key, number);
        }
        for key in &keys.numbers {
            remove_if(&mut self.by_number, key, number);
        }
        if let Some(sequence) = &keys.first_event {
            remove_if(&mut self.by_event, sequence, number);
        }
    }

    /// Takes out what is before a number.
    pub(super) fn remove_before(&mut self, first: u64) {
        let numbers: Vec<u64> = self.records.range(..first).map(|(number, _)| *number).collect();
        for number in numbers {
            self.remove(number);
        }
    }

    pub(super) fn of_hash(&self, hash: &PaymentHash) -> Option<&Arc<NewRecord>> {
        self.by_hash.get(hash).and_then(|number| self.records.get(number))
    }

    pub(super) fn of_htlc(&self, key: &CircuitKey) -> Option<&Arc<NewRecord>> {
        self.by_htlc.get(key).and_then(|number| self.records.get(number))
    }

    /// Invoices by one of their numbers, ascending.
    pub(super) fn numbered(
        &self,
        order: InvoiceOrder,
        numbers: &RangeInclusive<u64>,
    ) -> impl DoubleEndedIterator<Item = (u64, &Arc<NewRecord>)> {
        let end = if numbers.is_empty() {
            Bound::Excluded((order, *numbers.start()))
        } else {
            Bound::Included((order, *numbers.end()))
        };
        self.by_number
            .range((Bound::Included((order, *numbers.start())), end))
            .filter_map(|((_, key), number)| self.records.get(number).map(|record| (*key, record)))
    }

    /// Records of events, by their first sequence number, from the one that may hold the event after
    /// `sequence` on.
    pub(super) fn events_after(&self, sequence: u64) -> impl Iterator<Item = (u64, &Arc<NewRecord>)> {
        let first = self.by_event.range(..=sequence.saturating_add(1)).next_back();
        let first = first.map_or(0, |(first, _)| *first);
        self.by_event
            .range(first..)
            .filter_map(|(first, number)| self.records.get(number).map(|record| (*first, record)))
    }
}

fn remove_if<K: Ord>(map: &mut BTreeMap<K, u64>, key: &K, number: u64) {
    if map.get(key) == Some(&number) {
        map.remove(key);
    }
}

/// The invoice in a record, if it is one.
pub(super) fn invoice_in(record: &ArchiveRecord) -> Option<ArchivedInvoice> {
    match record {
        ArchiveRecord::Invoice(archived) => Some(ArchivedInvoice::clone(archived)),
        ArchiveRecord::Events(_) => None,
    }
}

/// The events after a sequence number in a record.
pub(super) fn events_in(record: &ArchiveRecord, sequence: u64) -> impl Iterator<Item = Event> {
    let events = match record {
        ArchiveRecord::Events(events) => events.as_slice(),
        ArchiveRecord::Invoice(_) => &[],
    };
    events.iter().filter(move |event| event.sequence > sequence).cloned()
}

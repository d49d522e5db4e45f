use crate::machine::archive::ArchiveRecord;
use crate::types::{CircuitKey, PaymentHash};

/// By which of its numbers an invoice is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvoiceOrder {
    /// add_index.
    Added,
    /// decision_index.
    Decided,
    /// settle_index.
    Settled,
}

/// What a record is found by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordKeys {
    /// The invoice.
    pub hash: Option<PaymentHash>,
    /// The HTLCs of its winning set.
    pub htlcs: Vec<CircuitKey>,
    /// The invoice's numbers; never 0.
    pub numbers: Vec<(InvoiceOrder, u64)>,
    /// Sequence number of the first event.
    pub first_event: Option<u64>,
}

impl RecordKeys {
    /// Of this record.
    #[must_use]
    pub fn of(record: &ArchiveRecord) -> Self {
        match record {
            ArchiveRecord::Invoice(archived) => {
                let invoice = &archived.invoice;
                let numbers = [
                    (InvoiceOrder::Added, invoice.add_index),
                    (InvoiceOrder::Decided, invoice.decision_index),
                    (InvoiceOrder::Settled, invoice.settle_index),
                ];
                Self {
                    hash: Some(invoice.hash),
                    htlcs: archived.htlcs.iter().map(|htlc| htlc.key).collect(),
                    numbers: numbers.into_iter().filter(|(_, number)| *number != 0).collect(),
                    first_event: None,
                }
            }
            ArchiveRecord::Events(events) => {
                Self { first_event: events.first().map(|event| event.sequence), ..Self::default() }
            }
        }
    }
}

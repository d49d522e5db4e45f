//! What leaves memory: finished invoices with their HTLCs, and old events.
//!
//! The archive is a sequence of records, numbered from 0, that follows from the log alone: the state says how
//! many there are and their rolling hash ([`ArchiveTip`]), [`super::State::apply`] hands out new ones, and
//! whoever applies keeps them. Records never change. With a retention they are forgotten from the front.

use super::model::{Event, Htlc, Invoice};
use crate::types::{CircuitKey, PaymentHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// How much is archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveTip {
    /// The first record that is not forgotten.
    pub first: u64,
    /// The rolling hash before it.
    pub first_hash: [u8; 32],
    /// One past the last record.
    pub next: u64,
    /// The rolling hash after the last record.
    pub hash: [u8; 32],
}

impl ArchiveTip {
    /// Whether a record belongs to the archive.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        (self.first..self.next).contains(&number)
    }
}

/// A record. Appended variants only, like the log's commands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveRecord {
    /// A finished invoice with the HTLCs of its winning set, if it had one.
    Invoice(Box<ArchivedInvoice>),
    /// Events in sequence, without a gap to the ones before.
    Events(Vec<Event>),
}

impl fmt::Debug for ArchiveRecord {
    /// Without what the invoice says: payment requests contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invoice(archived) => f.debug_tuple("Invoice").field(&archived.invoice.hash).finish(),
            Self::Events(events) => f.debug_tuple("Events").field(&events.len()).finish(),
        }
    }
}

/// A finished invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedInvoice {
    /// SETTLED, PARTIAL, CANCELED or EXPIRED.
    pub invoice: Invoice,
    /// The parts of its winning set, by key.
    pub htlcs: Vec<Htlc>,
}

/// A record as it leaves the state, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Its place.
    pub number: u64,
    /// [`ArchiveRecord`] in postcard.
    pub bytes: Vec<u8>,
    /// The rolling hash after it.
    pub hash_after: [u8; 32],
    /// The record itself.
    pub record: ArchiveRecord,
}

impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of {} bytes: {:?}", self.number, self.bytes.len(), self.record)
    }
}

/// The rolling hash after a record: `SHA-256(previous ‖ record)`.
#[must_use]
pub fn roll(previous: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(previous);
    hasher.update(bytes);
    hasher.finalize().into()
}

/// The archive cannot be read, or does not hold what the state says it holds. The replica must stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("archive: {0}")]
pub struct ArchiveUnreadable(pub String);

/// What applying an entry asks of the archive. `tip` bounds what counts: an archive may hold records beyond it.
pub trait ArchiveLookup: fmt::Debug {
    /// The finished invoice of this hash.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn invoice(
        &self,
        tip: &ArchiveTip,
        hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable>;

    /// The finished invoice that this HTLC paid.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn invoice_of(
        &self,
        tip: &ArchiveTip,
        key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable>;

    /// A record that the tip contains, with the rolling hash after it.
    ///
    /// # Errors
    /// The archive cannot be read, or does not hold it.
    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable>;
}

/// An archive that holds nothing, for states that never archived anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyArchive;

impl ArchiveLookup for EmptyArchive {
    fn invoice(
        &self,
        _tip: &ArchiveTip,
        _hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        Ok(None)
    }

    fn invoice_of(
        &self,
        _tip: &ArchiveTip,
        _key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        Ok(None)
    }

    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable> {
        Err(ArchiveUnreadable(format!("record {number} is not there")))
    }
}

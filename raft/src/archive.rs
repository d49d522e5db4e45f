//! The archive: where finished invoices and old events are kept once they have left the state.
//!
//! The state machine says what goes there ([`crate::machine::archive`]); here it is stored and found again.
//! Every reader passes the [`ArchiveTip`] of the state it looked at, so that what it sees of the archive is of
//! the same moment: an archive may hold more than that, after a crash or while it is being fetched.

//!
//! * `disk`: on disk, for replicas. `memory`: in memory, for tests.
//! * `keys`: what records are found by. `reading`: state and archive, merged.

mod disk;
mod ends;
mod keys;
mod memory;
mod reading;
mod records;
#[cfg(test)]
mod tests;

pub(crate) use disk::DiskArchive;
pub use disk::{ArchiveOpenError, DiskArchives};
pub use keys::{InvoiceOrder, RecordKeys};
pub use memory::MemoryArchive;
pub use reading::{FoundInvoice, InvoicePage};

use crate::machine::archive::{ArchiveLookup, ArchiveTip, ArchiveUnreadable, ArchivedInvoice, NewRecord};
use crate::machine::model::Event;
use crate::replica::Latch;
use crate::replica::opening::JOIN_ANEW;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Opens a replica's archive.
pub trait OpenArchive: Send + Sync + 'static {
    /// Opens the archive in this directory, or makes an empty one. Blocks. An archive that fails while nobody calls
    /// it trips the latch, which stops the replica.
    ///
    /// # Errors
    /// It belongs to another cluster, or cannot be read.
    fn open(
        &self,
        dir: &Path,
        cluster_id: &[u8; 32],
        latch: Latch,
    ) -> Result<Arc<dyn Archive>, ArchiveOpenError>;
}

/// Stores records and finds them again. Calls block for as long as the disk takes.
pub trait Archive: ArchiveLookup + Send + Sync + 'static {
    /// Keeps new records: readable at once, durable after [`Archive::sync`]. A number that is there already is
    /// skipped if it is the same record.
    ///
    /// # Errors
    /// The archive cannot be written, a number is missing before these, or another record has it. The replica
    /// must stop.
    fn append(&self, records: Vec<NewRecord>) -> Result<(), ArchiveUnreadable>;

    /// Whether there is room for the records of some more entries. What is appended is taken all the same.
    ///
    /// # Errors
    /// The archive cannot be written. The replica must stop.
    fn has_room(&self) -> Result<bool, ArchiveUnreadable>;

    /// Waits for room. Blocks for as long as the disk takes: not while the state is locked.
    ///
    /// # Errors
    /// The archive cannot be written. The replica must stop.
    fn wait_for_room(&self) -> Result<(), ArchiveUnreadable>;

    /// Goes on at a record past the end, since everybody has forgotten those before it; `hash` is the rolling
    /// hash before it. At or before the end it does nothing.
    ///
    /// # Errors
    /// The archive cannot be written. The replica must stop.
    fn start_at(&self, number: u64, hash: [u8; 32]) -> Result<(), ArchiveUnreadable>;

    /// Makes every record before `next` durable.
    ///
    /// # Errors
    /// The archive cannot be written, or does not hold them. The replica must stop.
    fn sync(&self, next: u64) -> Result<(), ArchiveUnreadable>;

    /// Frees what is before the tip's first record. Only once a durable snapshot says that it is forgotten.
    ///
    /// # Errors
    /// The archive cannot be written. The replica must stop.
    fn forget(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable>;

    /// One past the last record that is here, and the rolling hash after it.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn end(&self) -> Result<(u64, [u8; 32]), ArchiveUnreadable>;

    /// The rolling hash before a record that is here, or one past it.
    ///
    /// # Errors
    /// The archive cannot be read, or does not hold the record before.
    fn hash_before(&self, number: u64) -> Result<[u8; 32], ArchiveUnreadable>;

    /// Whether this is the archive that goes with a state: it holds the tip's records, to judge by its ends and
    /// the rolling hash.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    fn check(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable>;

    /// Finished invoices by one of their numbers, in that order (`newest_first`: the other way), `limit` at most.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn invoices(
        &self,
        tip: &ArchiveTip,
        order: InvoiceOrder,
        numbers: RangeInclusive<u64>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<ArchivedInvoice>, ArchiveUnreadable>;

    /// Archived events after a sequence number, oldest first, `limit` at most.
    ///
    /// # Errors
    /// The archive cannot be read.
    fn events_after(
        &self,
        tip: &ArchiveTip,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, ArchiveUnreadable>;

    /// Encoded records from a number on, until `bytes_max` is reached but one at least, for another replica.
    ///
    /// # Errors
    /// The archive cannot be read, or does not hold the first.
    fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, ArchiveUnreadable>;

    /// Whether all that was there when it was opened has been looked at, and was whole. Until then a damaged archive may say
    /// that it does not have what it has.
    fn is_checked(&self) -> bool {
        true
    }

    /// Writes what waits and closes; nothing works afterwards. Blocks. Idempotent.
    fn close(&self) {}
}

fn missing(number: u64) -> ArchiveUnreadable {
    ArchiveUnreadable(format!("record {number} is missing"))
}

/// E.g. after a restart, when the state that made the record differed from what the log makes of it now.
fn other(number: u64) -> ArchiveUnreadable {
    ArchiveUnreadable(format!("record {number} is another one than the log says: {JOIN_ANEW}"))
}

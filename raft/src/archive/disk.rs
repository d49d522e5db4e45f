//! The archive on disk.
//!
//! One file, in redb: a copy-on-write B-tree. The log's engine would not do: with a million records sled keeps
//! all keys in memory (gigabytes) and reads them when it is opened; redb stays within its cache and opens a file
//! of any size in milliseconds, after a crash, too.
//!
//! `append` only queues: it is called while the state is locked, and never waits; who appends waits for room
//! before it takes that lock. A thread of its own writes what waits, many
//! records at a time; most writes are not synced. After a crash the file is as of the last sync, which a
//! snapshot waits for before it takes its name, and the log brings what came after. Readers look at what waits
//! first, then at the file. Records are checked (CRC) whenever they are read; opening checks the last one only, and a
//! thread then all of them, with what leads to them.
//!
//! Deleting does not make the file smaller: what is freed is used again.
//!
//! * `backend`: the file; `store`: the tables; `record`: a record's bytes. `error`: what is wrong with them.
//! * `queue`: what waits; `writer`: the thread. `check`: the other one. `filter`: what is certainly not there.

pub(super) mod backend;
mod check;
mod error;
mod filter;
mod queue;
mod record;
mod store;
mod writer;

use super::ends::Ends;
use super::records::{events_in, invoice_in};
use super::{Archive, InvoiceOrder, OpenArchive, missing, other};
use crate::machine::archive::{
    ArchiveLookup, ArchiveRecord, ArchiveTip, ArchiveUnreadable, ArchivedInvoice, NewRecord,
};
use crate::machine::model::Event;
use crate::replica::latch::Latch;
use crate::types::{CircuitKey, PaymentHash};
use error::StoreError;
use filter::Filter;
use parking_lot::{Mutex, MutexGuard};
use queue::Queue;
use record::StoredRecord;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use store::{Lookup, Store, digest_of};
use writer::Shared;

/// Why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveOpenError {
    /// It belongs to another cluster.
    #[error("{0}")]
    Foreign(String),
    /// It cannot be read.
    #[error("{0}")]
    Unusable(String),
}

/// Opens archives on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskArchives;

impl OpenArchive for DiskArchives {
    fn open(
        &self,
        dir: &Path,
        cluster_id: &[u8; 32],
        latch: Latch,
    ) -> Result<Arc<dyn Archive>, ArchiveOpenError> {
        Ok(Arc::new(DiskArchive::open(dir, cluster_id, latch)?))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskArchive {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where a record that is listed comes from.
enum Source {
    Waiting(Arc<NewRecord>),
    File(u64),
}

impl DiskArchive {
    /// Opens the archive in this directory, or makes an empty one. Blocks. I/O errors from now on trip the latch.
    ///
    /// # Errors
    /// It belongs to another cluster, or cannot be read.
    pub(crate) fn open(dir: &Path, cluster_id: &[u8; 32], latch: Latch) -> Result<Self, ArchiveOpenError> {
        let failed = |error: StoreError| match error {
            StoreError::Foreign => {
                ArchiveOpenError::Foreign(format!("the archive {} {error}", dir.display()))
            }
            error => ArchiveOpenError::Unusable(format!(
                "the archive {} cannot be used: {error}: {}",
                dir.display(),
                error.advice(&dir.join(store::FILE))
            )),
        };
        let started = Instant::now();
        let store = Store::open(dir, cluster_id).map_err(failed)?;
        let (ends, first) = ends_of(&store).map_err(failed)?;
        let filter = Filter::new(store.read().and_then(|reader| reader.channels()).map_err(failed)?);
        tracing::info!(first, end = ends.end().0, took = ?started.elapsed(), "opened the archive");
        let shared = Arc::new(Shared::new(store, Queue::new(ends, first, filter), latch));
        let unusable = |error: &dyn std::fmt::Display| ArchiveOpenError::Unusable(error.to_string());
        shared.export();
        let spawn = |name: &str, work: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(move || work(&shared)).map_err(|error| unusable(&error))
        };
        let threads = vec![
            spawn("archive", Shared::run_to_the_end)?,
            spawn("archive-filter", |shared| shared.learn_hashes())?,
            spawn("archive-check", |shared| shared.check_for_ever())?,
        ];
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    fn queue(&self) -> Result<MutexGuard<'_, Queue>, ArchiveUnreadable> {
        let queue = self.shared.queue.lock();
        queue.check()?;
        Ok(queue)
    }

    /// Reads the file. An error there is the end.
    fn read<T>(
        &self,
        read: impl FnOnce(&store::Reader) -> Result<T, StoreError>,
    ) -> Result<T, ArchiveUnreadable> {
        self.shared.with_store(|store| read(&store.read()?))
    }

    /// The latest record of the tip that has this key, waiting or in the file.
    fn find<'key>(
        &self,
        tip: &ArchiveTip,
        waiting: impl Fn(&Queue) -> Option<Arc<NewRecord>>,
        lookup: impl FnOnce(&Queue) -> Option<Lookup<'key>>,
        is_it: impl Fn(&ArchivedInvoice) -> bool,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        if tip.first == tip.next {
            return Ok(None);
        }
        let lookup = {
            let queue = self.queue()?;
            if let Some(record) = waiting(&queue).filter(|record| tip.contains(record.number)) {
                return Ok(invoice_in(&record.record));
            }
            let Some(lookup) = lookup(&queue) else { return Ok(None) };
            lookup
        };
        self.read(|reader| {
            for number in reader.candidates(&lookup)?.into_iter().filter(|number| tip.contains(*number)) {
                let archived = into_invoice(reader.indexed(number)?.record);
                if let Some(archived) = archived.filter(&is_it) {
                    return Ok(Some(archived));
                }
            }
            Ok(None)
        })
    }

    /// The rolling hash after a record, if it is here.
    fn hash_after(&self, queue: &Queue, number: u64) -> Result<Option<[u8; 32]>, StoreError> {
        match queue.waiting.get(number) {
            Some(record) => Ok(Some(record.hash_after)),
            None => self.shared.look(|store| store.read()?.hash_after(number)),
        }
    }
}

impl Drop for DiskArchive {
    fn drop(&mut self) {
        self.close();
    }
}

fn ends_of(store: &Store) -> Result<(Ends, u64), StoreError> {
    let reader = store.read()?;
    let (base, end) = (reader.base()?, reader.end_before(u64::MAX)?);
    let before_base = reader.end_before(base.0)?;
    Ok((Ends::new(end, base, before_base), reader.first()?.unwrap_or(base.0)))
}

fn into_invoice(record: ArchiveRecord) -> Option<ArchivedInvoice> {
    match record {
        ArchiveRecord::Invoice(archived) => Some(*archived),
        ArchiveRecord::Events(_) => None,
    }
}

impl ArchiveLookup for DiskArchive {
    fn invoice(
        &self,
        tip: &ArchiveTip,
        hash: &PaymentHash,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        let digest = digest_of(hash);
        self.find(
            tip,
            |queue| queue.waiting.of_hash(hash).cloned(),
            |queue| queue.lookup_hash(&digest),
            |archived| archived.invoice.hash == *hash,
        )
    }

    fn invoice_of(
        &self,
        tip: &ArchiveTip,
        key: &CircuitKey,
    ) -> Result<Option<ArchivedInvoice>, ArchiveUnreadable> {
        self.find(
            tip,
            |queue| queue.waiting.of_htlc(key).cloned(),
            |queue| queue.lookup_htlc(key),
            |archived| archived.htlcs.iter().any(|htlc| htlc.key == *key),
        )
    }

    fn record(&self, number: u64) -> Result<(ArchiveRecord, [u8; 32]), ArchiveUnreadable> {
        if let Some(record) = self.queue()?.waiting.get(number) {
            return Ok((record.record.clone(), record.hash_after));
        }
        let stored = self.read(|reader| reader.record(number))?;
        let StoredRecord { record, hash_after, .. } = stored.ok_or_else(|| missing(number))?;
        Ok((record, hash_after))
    }
}

impl Archive for DiskArchive {
    fn append(&self, records: Vec<NewRecord>) -> Result<(), ArchiveUnreadable> {
        let started = Instant::now();
        let mut queue = self.queue()?;
        for record in records {
            if !queue.ends.take(record.number, record.hash_after)? {
                match self.hash_after(&queue, record.number) {
                    Ok(Some(hash)) if hash == record.hash_after => continue,
                    Ok(_) => return Err(other(record.number)),
                    Err(error) => {
                        drop(queue);
                        return Err(self.shared.stop(&error));
                    }
                }
            }
            queue.push(record);
        }
        drop(queue);
        self.shared.work.notify_one();
        metrics::histogram!("mux_archive_append_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn has_room(&self) -> Result<bool, ArchiveUnreadable> {
        Ok(!self.queue()?.is_full())
    }

    fn wait_for_room(&self) -> Result<(), ArchiveUnreadable> {
        let mut queue = self.queue()?;
        while queue.is_full() {
            self.shared.work.notify_one();
            self.shared.done.wait(&mut queue);
            queue.check()?;
        }
        Ok(())
    }

    fn start_at(&self, number: u64, hash: [u8; 32]) -> Result<(), ArchiveUnreadable> {
        self.queue()?.start_at(number, hash);
        self.shared.work.notify_one();
        Ok(())
    }

    fn sync(&self, next: u64) -> Result<(), ArchiveUnreadable> {
        let mut queue = self.queue()?;
        let (end, _) = queue.ends.end();
        if end < next {
            return Err(missing(end));
        }
        let changes = queue.want_sync();
        self.shared.work.notify_one();
        while !queue.is_synced(changes) {
            self.shared.done.wait(&mut queue);
            // What was asked for before it was closed is still written.
            if let Some(reason) = &queue.failed {
                return Err(ArchiveUnreadable(reason.clone()));
            }
        }
        Ok(())
    }

    fn forget(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        self.queue()?.forget(tip);
        self.shared.work.notify_one();
        Ok(())
    }

    fn end(&self) -> Result<(u64, [u8; 32]), ArchiveUnreadable> {
        Ok(self.queue()?.ends.end())
    }

    fn hash_before(&self, number: u64) -> Result<[u8; 32], ArchiveUnreadable> {
        let before = number.saturating_sub(1);
        {
            let queue = self.queue()?;
            let waiting = queue.waiting.get(before).map(|record| record.hash_after);
            if let Some(hash) = queue.ends.hash_before(number).or(waiting) {
                return Ok(hash);
            }
        }
        self.read(|reader| reader.hash_after(before))?.ok_or_else(|| missing(before))
    }

    fn check(&self, tip: &ArchiveTip) -> Result<(), ArchiveUnreadable> {
        let (ends, first) = {
            let queue = self.queue()?;
            (queue.ends, queue.first)
        };
        if first > tip.first {
            return Err(missing(tip.first));
        }
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
        let waiting: Vec<_> = {
            let queue = self.queue()?;
            let inside = |(_, record): &(u64, &Arc<NewRecord>)| tip.contains(record.number);
            let found = queue.waiting.numbered(order, &numbers).filter(inside);
            found.map(|(value, record)| (value, Source::Waiting(Arc::clone(record)))).collect()
        };
        self.read(|reader| {
            let passes = |number| tip.contains(number);
            let filed = reader.numbered(order, &numbers, newest_first, (limit, &passes))?;
            let mut found: BTreeMap<u64, Source> =
                filed.into_iter().map(|(value, number)| (value, Source::File(number))).collect();
            found.extend(waiting);
            let load = |source: Source| match source {
                Source::Waiting(record) => Ok(invoice_in(&record.record)),
                Source::File(number) => Ok(into_invoice(reader.indexed(number)?.record)),
            };
            let found = found.into_values();
            if newest_first {
                found.rev().take(limit).map(load).filter_map(Result::transpose).collect()
            } else {
                found.take(limit).map(load).filter_map(Result::transpose).collect()
            }
        })
    }

    fn events_after(
        &self,
        tip: &ArchiveTip,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<Event>, ArchiveUnreadable> {
        let waiting: Vec<Arc<NewRecord>> = {
            let queue = self.queue()?;
            let records = queue.waiting.events_after(sequence).map(|(_, record)| record);
            records.filter(|record| tip.contains(record.number)).cloned().collect()
        };
        let mut events = BTreeMap::new();
        let keep = |events: &mut BTreeMap<u64, Event>, record: &ArchiveRecord| {
            events.extend(events_in(record, sequence).map(|event| (event.sequence, event)));
        };
        self.read(|reader| {
            reader.events_after(sequence, |stored| {
                if tip.contains(stored.number) {
                    keep(&mut events, &stored.record);
                }
                events.len() < limit
            })
        })?;
        waiting.iter().for_each(|record| keep(&mut events, &record.record));
        Ok(events.into_values().take(limit).collect())
    }

    fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, ArchiveUnreadable> {
        let waiting: BTreeMap<u64, Arc<NewRecord>> = {
            let queue = self.queue()?;
            queue.waiting.range(from, until).map(|(number, record)| (number, Arc::clone(record))).collect()
        };
        let mut chunk = self.read(|reader| reader.chunk(from, until, bytes_max))?;
        let mut bytes: usize = chunk.iter().map(Vec::len).sum();
        let next = from.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        for number in next..until {
            let Some(record) = waiting.get(&number) else { break };
            bytes = bytes.saturating_add(record.bytes.len());
            if bytes > bytes_max && !chunk.is_empty() {
                break;
            }
            chunk.push(record.bytes.clone());
        }
        if chunk.is_empty() && from < until { Err(missing(from)) } else { Ok(chunk) }
    }

    fn is_checked(&self) -> bool {
        self.shared.is_checked()
    }

    fn close(&self) {
        self.shared.queue.lock().closing = true;
        self.shared.work.notify_all();
        self.shared.done.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the archive ended by a panic");
            }
        }
    }
}

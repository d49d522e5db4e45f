mod indexes;
#[cfg(test)]
mod tests;

use super::backend::{self, condemned};
use super::error::StoreError;
use super::record::{self, StoredRecord};
use crate::archive::{InvoiceOrder, RecordKeys};
use crate::machine::archive::NewRecord;
use crate::types::{CircuitKey, PaymentHash};
use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    StorageBackend, Table, TableDefinition, WriteTransaction,
};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::{Bound, RangeInclusive};
use std::path::Path;
use std::sync::Arc;

/// What the engine keeps in memory of its file, in bytes. The operating system caches the rest.
const CACHE_BYTES: usize = 32 << 20;

/// The layout of the tables below.
const FORMAT: u8 = 1;

pub(super) const FILE: &str = "records.redb";
const UNFINISHED: &str = "records.tmp";

/// Number → [`StoredRecord`].
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");
/// [`HashKey`].
const HASHES: TableDefinition<'_, &[u8; HASH_KEY_LEN], ()> = TableDefinition::new("hashes");
/// [`HtlcKey`].
const HTLCS: TableDefinition<'_, &[u8; HTLC_KEY_LEN], ()> = TableDefinition::new("htlcs");
/// Which number, and its value → number of the record.
const NUMBERS: TableDefinition<'_, (u8, u64), u64> = TableDefinition::new("numbers");
/// First sequence number → number of the record.
const EVENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("events");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_CLUSTER: &str = "cluster";
const META_BASE: &str = "base";

/// What a finished invoice is looked up by. Both are short, and end in the number of the record: more than one
/// may have the same, so whoever looks one up compares what the record says.
pub(super) enum Lookup<'key> {
    /// In these runs, or in every one.
    Hash(&'key HashDigest, Option<Vec<u64>>),
    Htlc(&'key CircuitKey),
}

/// Records whose hashes are together in the tree. Hashes have no order: among all there ever were each would be
/// alone on its page, and writing it would cost more the longer the history is.
pub(super) const RUN_RECORDS: u64 = 1 << 17;

/// Run ‖ [`HashDigest`] ‖ number of the record, big-endian.
pub(super) type HashKey = [u8; HASH_KEY_LEN];
const HASH_KEY_LEN: usize = 8 + 16 + 8;

/// [`ChannelKey`] ‖ HTLC ‖ number of the record, big-endian: HTLCs of a channel are neighbours, as they come.
type HtlcKey = [u8; HTLC_KEY_LEN];
const HTLC_KEY_LEN: usize = 4 + 8 + 8 + 8;

/// Digest of a payment hash, so that nobody can choose it.
pub(super) type HashDigest = [u8; 16];

/// Digests and their records, and the key of the last.
pub(super) type Digests = (Vec<(HashDigest, u64)>, Option<HashKey>);

/// Digest of a node, and one of its channels.
pub(super) type ChannelKey = ([u8; 4], u64);

pub(super) fn digest_of(hash: &PaymentHash) -> HashDigest {
    leading(&Sha256::digest(hash.0))
}

pub(super) fn channel_of(htlc: &CircuitKey) -> ChannelKey {
    (leading(&Sha256::digest(htlc.node.0)), htlc.chan_id)
}

fn hash_key(digest: &HashDigest, number: u64) -> HashKey {
    run_key(number / RUN_RECORDS, digest, number)
}

fn run_key(run: u64, digest: &HashDigest, number: u64) -> HashKey {
    let mut key = [0; HASH_KEY_LEN];
    fill(&mut key, &[&run.to_be_bytes(), digest, &number.to_be_bytes()]);
    key
}

/// Digest and number of a key.
fn digest_in(key: &HashKey) -> (HashDigest, u64) {
    let (_, rest) = key.split_at(8);
    let (digest, number) = rest.split_at(16);
    (leading(digest), u64::from_be_bytes(leading(number)))
}

fn htlc_key((node, chan_id): ChannelKey, htlc_id: u64, number: u64) -> HtlcKey {
    let mut key = [0; HTLC_KEY_LEN];
    let [chan_id, htlc_id, number] = [chan_id, htlc_id, number].map(u64::to_be_bytes);
    fill(&mut key, &[&node, &chan_id, &htlc_id, &number]);
    key
}

fn key_of(htlc: &CircuitKey, number: u64) -> HtlcKey {
    htlc_key(channel_of(htlc), htlc.htlc_id, number)
}

/// Channel and HTLC of a key.
fn htlc_of(key: &HtlcKey) -> (ChannelKey, u64) {
    let (node, rest) = key.split_at(4);
    let (chan_id, rest) = rest.split_at(8);
    let number = |bytes: &[u8]| u64::from_be_bytes(leading(bytes));
    ((leading(node), number(chan_id)), number(rest))
}

fn leading<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    bytes.first_chunk().copied().unwrap_or([0; LEN])
}

fn fill(key: &mut [u8], parts: &[&[u8]]) {
    key.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
}

/// What is changed together.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) records: Vec<Arc<NewRecord>>,
    /// Where the archive went on after a hole, if that is new.
    pub(super) base: Option<(u64, [u8; 32])>,
    /// Wait until this and everything before is safe from a power cut.
    pub(super) durable: bool,
}

/// Opens a file of this name, or makes it, as [`backend::open`] does.
type OpenFile<'call, Backend> = dyn Fn(&Path, bool) -> Result<Backend, redb::DatabaseError> + 'call;

/// The file with the records. The engine (redb) is known to this module alone.
pub(super) struct Store {
    database: Database,
    path: Arc<Path>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the file, or makes it. Reads a few pages of it, however large it is.
    pub(super) fn open(dir: &Path, cluster_id: &[u8; 32]) -> Result<Self, StoreError> {
        Self::open_with(dir, cluster_id, &backend::open)
    }

    /// With files that are opened like this.
    fn open_with<Backend: StorageBackend>(
        dir: &Path,
        cluster_id: &[u8; 32],
        file: &OpenFile<'_, Backend>,
    ) -> Result<Self, StoreError> {
        if let Some(reason) = condemned(dir)? {
            let note = backend::note_of(dir);
            let told = format!("it was found damaged before, as {} says: {reason}", note.display());
            return Err(StoreError::Damaged(told));
        }
        let path = dir.join(FILE);
        if !path.exists() {
            create(dir, &path, cluster_id, file)?;
        }
        let database = backend::database(file(&path, false)?, CACHE_BYTES)?;
        let store = Self { database, path: path.into() };
        let meta = store.database.begin_read()?.open_table(META)?;
        let format = meta.get(META_FORMAT)?.map(|format| format.value().to_vec());
        if format.as_deref() != Some(&[FORMAT]) {
            return Err(StoreError::Damaged(format!("format {format:?}, this version knows {FORMAT}")));
        }
        if meta.get(META_CLUSTER)?.is_none_or(|cluster| cluster.value() != cluster_id) {
            return Err(StoreError::Foreign);
        }
        Ok(store)
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Size of the file in bytes, if the system says it.
    pub(super) fn bytes(&self) -> Option<u64> {
        fs::metadata(&self.path).ok().map(|metadata| metadata.len())
    }

    pub(super) fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        let transaction = self.begin(changes.durable)?;
        {
            let mut tables = Tables::open(&transaction)?;
            let (mut hashes, mut htlcs) = (Vec::new(), Vec::new());
            for new in &changes.records {
                let bytes = record::encode(new.number, &new.hash_after, &new.bytes);
                tables.records.insert(new.number, bytes.as_slice())?;
                let keys = RecordKeys::of(&new.record);
                hashes.extend(keys.hash.map(|hash| hash_key(&digest_of(&hash), new.number)));
                htlcs.extend(keys.htlcs.iter().map(|htlc| key_of(htlc, new.number)));
                for (order, value) in keys.numbers {
                    tables.numbers.insert((tag(order), value), new.number)?;
                }
                if let Some(first) = keys.first_event {
                    tables.events.insert(first, new.number)?;
                }
            }
            // In the order of the tree: neighbours go to the same page.
            hashes.sort_unstable();
            htlcs.sort_unstable();
            for key in &hashes {
                tables.hashes.insert(key, ())?;
            }
            for key in &htlcs {
                tables.htlcs.insert(key, ())?;
            }
            if let Some((number, hash)) = changes.base {
                let bytes = [number.to_be_bytes().as_slice(), &hash].concat();
                transaction.open_table(META)?.insert(META_BASE, bytes.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Deletes records before a number, so many at most. Returns the first that is left.
    pub(super) fn delete(&self, before: u64, most: usize) -> Result<Option<u64>, StoreError> {
        let transaction = self.begin(false)?;
        let first = {
            let mut tables = Tables::open(&transaction)?;
            let mut doomed = Vec::with_capacity(most);
            for entry in tables.records.range(..before)?.take(most) {
                let (number, value) = entry?;
                doomed.push(StoredRecord::decode(number.value(), value.value())?);
            }
            for stored in &doomed {
                tables.delete(stored)?;
            }
            let first = tables.records.first()?;
            first.map(|(number, _)| number.value())
        };
        transaction.commit()?;
        Ok(first)
    }

    pub(super) fn read(&self) -> Result<Reader, StoreError> {
        Ok(Reader { transaction: self.database.begin_read()? })
    }

    /// A transaction. One that is durable makes all before it durable, and says where free space is, so that
    /// opening the file after a crash does not have to look for it.
    fn begin(&self, durable: bool) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database.begin_write()?;
        if durable {
            transaction.set_quick_repair(true);
        } else {
            transaction.set_durability(Durability::None)?;
        }
        Ok(transaction)
    }
}

/// Makes the file under another name first: one that is there is complete.
fn create<Backend: StorageBackend>(
    dir: &Path,
    path: &Path,
    cluster_id: &[u8; 32],
    file: &OpenFile<'_, Backend>,
) -> Result<(), StoreError> {
    fs::create_dir_all(dir)?;
    let unfinished = dir.join(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let database = backend::database(file(&unfinished, true)?, CACHE_BYTES)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        Tables::open(&transaction)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, [FORMAT].as_slice())?;
        meta.insert(META_CLUSTER, cluster_id.as_slice())?;
    }
    transaction.commit()?;
    drop(database);
    fs::rename(&unfinished, path)?;
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

fn tag(order: InvoiceOrder) -> u8 {
    match order {
        InvoiceOrder::Added => 1,
        InvoiceOrder::Decided => 2,
        InvoiceOrder::Settled => 3,
    }
}

/// The tables, for writing.
struct Tables<'txn> {
    records: Table<'txn, u64, &'static [u8]>,
    hashes: Table<'txn, &'static HashKey, ()>,
    htlcs: Table<'txn, &'static HtlcKey, ()>,
    numbers: Table<'txn, (u8, u64), u64>,
    events: Table<'txn, u64, u64>,
}

impl<'txn> Tables<'txn> {
    fn open(transaction: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            hashes: transaction.open_table(HASHES)?,
            htlcs: transaction.open_table(HTLCS)?,
            numbers: transaction.open_table(NUMBERS)?,
            events: transaction.open_table(EVENTS)?,
        })
    }

    fn delete(&mut self, stored: &StoredRecord) -> Result<(), StoreError> {
        let keys = RecordKeys::of(&stored.record);
        if let Some(hash) = &keys.hash {
            self.hashes.remove(&hash_key(&digest_of(hash), stored.number))?;
        }
        for htlc in &keys.htlcs {
            self.htlcs.remove(&key_of(htlc, stored.number))?;
        }
        for (order, value) in keys.numbers {
            self.numbers.remove((tag(order), value))?;
        }
        if let Some(first) = keys.first_event {
            self.events.remove(first)?;
        }
        self.records.remove(stored.number)?;
        Ok(())
    }
}

/// The file as it was at one moment.
pub(super) struct Reader {
    transaction: ReadTransaction,
}

impl Reader {
    fn records(&self) -> Result<ReadOnlyTable<u64, &'static [u8]>, StoreError> {
        Ok(self.transaction.open_table(RECORDS)?)
    }

    pub(super) fn base(&self) -> Result<(u64, [u8; 32]), StoreError> {
        let meta = self.transaction.open_table(META)?;
        let Some(value) = meta.get(META_BASE)? else { return Ok((0, [0; 32])) };
        let damaged = || StoreError::Damaged("where it begins is not readable".into());
        let (number, hash) = value.value().split_first_chunk::<8>().ok_or_else(damaged)?;
        Ok((u64::from_be_bytes(*number), hash.try_into().map_err(|_| damaged())?))
    }

    /// The first record's number.
    pub(super) fn first(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.records()?.first()?.map(|(number, _)| number.value()))
    }

    /// One past the last record before a number, and the rolling hash there.
    pub(super) fn end_before(&self, number: u64) -> Result<(u64, [u8; 32]), StoreError> {
        let table = self.records()?;
        let Some(last) = table.range(..number)?.next_back() else { return Ok((0, [0; 32])) };
        let (number, value) = last?;
        let stored = StoredRecord::decode(number.value(), value.value())?;
        Ok((stored.number.saturating_add(1), stored.hash_after))
    }

    pub(super) fn record(&self, number: u64) -> Result<Option<StoredRecord>, StoreError> {
        let found = self.records()?.get(number)?;
        found.map(|value| StoredRecord::decode(number, value.value())).transpose()
    }

    /// One that an index leads to.
    pub(super) fn indexed(&self, number: u64) -> Result<StoredRecord, StoreError> {
        self.record(number)?.ok_or_else(|| StoreError::Damaged(format!("record {number} is missing")))
    }

    /// The rolling hash after a record, without decoding it.
    pub(super) fn hash_after(&self, number: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let found = self.records()?.get(number)?;
        found.map(|value| record::hash_after(number, value.value())).transpose()
    }

    /// Numbers of the records that may be meant, the latest first.
    pub(super) fn candidates(&self, lookup: &Lookup<'_>) -> Result<Vec<u64>, StoreError> {
        match lookup {
            Lookup::Hash(digest, runs) => {
                let table = self.transaction.open_table(HASHES)?;
                let runs = match runs {
                    Some(runs) => runs.clone(),
                    None => all_runs(&table)?,
                };
                let mut found = Vec::new();
                for run in runs {
                    let (first, last) = (run_key(run, digest, 0), run_key(run, digest, u64::MAX));
                    found.extend(numbers(table.range::<&HashKey>(&first..=&last)?)?);
                }
                Ok(found)
            }
            Lookup::Htlc(htlc) => {
                let (first, last) = (key_of(htlc, 0), key_of(htlc, u64::MAX));
                let table = self.transaction.open_table(HTLCS)?;
                numbers(table.range::<&HtlcKey>(&first..=&last)?)
            }
        }
    }

    /// Every channel, and its highest HTLC. Looks at a few pages for each channel.
    pub(super) fn channels(&self) -> Result<HashMap<ChannelKey, u64>, StoreError> {
        let table = self.transaction.open_table(HTLCS)?;
        let mut channels = HashMap::new();
        let mut next = table.first()?;
        while let Some((key, ())) = next.map(|(key, value)| (*key.value(), value.value())) {
            let (channel, _) = htlc_of(&key);
            let end = htlc_key(channel, u64::MAX, u64::MAX);
            if let Some(last) = table.range::<&HtlcKey>(&key..=&end)?.next_back() {
                channels.insert(channel, htlc_of(last?.0.value()).1);
            }
            next = table.range::<&HtlcKey>((Bound::Excluded(&end), Bound::Unbounded))?.next().transpose()?;
        }
        Ok(channels)
    }

    /// Up to so many digests of hashes and their records after a key, and the key to go on after, if there may be
    /// more.
    pub(super) fn digests(&self, after: Option<&HashKey>, most: usize) -> Result<Digests, StoreError> {
        let table = self.transaction.open_table(HASHES)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut digests, mut last) = (Vec::with_capacity(most), None);
        for entry in table.range::<&HashKey>((start, Bound::Unbounded))?.take(most) {
            let (key, _) = entry?;
            digests.push(digest_in(key.value()));
            last = Some(*key.value());
        }
        Ok((digests, last))
    }

    /// Invoices by one of their numbers (the value, and the record's number) that pass, so many at most.
    pub(super) fn numbered(
        &self,
        order: InvoiceOrder,
        values: &RangeInclusive<u64>,
        newest_first: bool,
        (limit, passes): (usize, &dyn Fn(u64) -> bool),
    ) -> Result<Vec<(u64, u64)>, StoreError> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let table = self.transaction.open_table(NUMBERS)?;
        let mut range = table.range((tag(order), *values.start())..=(tag(order), *values.end()))?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(entry) = (if newest_first { range.next_back() } else { range.next() }) else { break };
            let (key, number) = entry?;
            if passes(number.value()) {
                found.push((key.value().1, number.value()));
            }
        }
        Ok(found)
    }

    /// Records of events from the one that may hold the event after `sequence` on, while `more` says so.
    pub(super) fn events_after(
        &self,
        sequence: u64,
        mut more: impl FnMut(StoredRecord) -> bool,
    ) -> Result<(), StoreError> {
        let table = self.transaction.open_table(EVENTS)?;
        let first = table.range(..=sequence.saturating_add(1))?.next_back().transpose()?;
        let first = first.map_or(0, |(first, _)| first.value());
        for entry in table.range(first..)? {
            let (_, number) = entry?;
            let number = number.value();
            if !more(self.indexed(number)?) {
                break;
            }
        }
        Ok(())
    }

    /// Encoded records from a number on without a hole, until `bytes_max` is reached but one at least.
    pub(super) fn chunk(&self, from: u64, until: u64, bytes_max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        if from >= until {
            return Ok(Vec::new());
        }
        let table = self.records()?;
        let mut chunk = Vec::new();
        let mut bytes = 0_usize;
        for (entry, expected) in table.range(from..until)?.zip(from..) {
            let (number, value) = entry?;
            if number.value() != expected {
                break;
            }
            let encoded = record::bytes_of(expected, value.value())?;
            bytes = bytes.saturating_add(encoded.len());
            if bytes > bytes_max && !chunk.is_empty() {
                break;
            }
            chunk.push(encoded.to_vec());
        }
        Ok(chunk)
    }
}

/// The runs that have a hash, the latest first.
fn all_runs(hashes: &ReadOnlyTable<&'static HashKey, ()>) -> Result<Vec<u64>, StoreError> {
    let run_of = |key: &HashKey| u64::from_be_bytes(leading(key));
    let (Some((first, _)), Some((last, _))) = (hashes.first()?, hashes.last()?) else {
        return Ok(Vec::new());
    };
    Ok((run_of(first.value())..=run_of(last.value())).rev().collect())
}

/// The record numbers at the end of keys, descending.
fn numbers<const LEN: usize>(keys: redb::Range<'_, &'static [u8; LEN], ()>) -> Result<Vec<u64>, StoreError> {
    let number = |key: &[u8; LEN]| key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
    keys.rev().map(|entry| Ok(number(entry?.0.value()))).collect()
}

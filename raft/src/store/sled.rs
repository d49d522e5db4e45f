//! The log in sled. `watermark`: how far it was synced, which the database itself cannot tell.

mod watermark;

use super::engine::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};
use crate::codec;
use crate::types::{LogIndex, ReplicaId, differ_in_name_only};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use watermark::Watermark;

/// Its default of 1 GiB is far more than a log that is read from memory needs.
const CACHE_BYTES: u64 = 32 << 20;
/// sled's own background flush, which also collects garbage. Durability does not rest on it.
const BACKGROUND_FLUSH_MS: u64 = 500;
/// Leaves hold up to 16 items; pages above 128 KiB would go to files that sled never syncs. Longer entries
/// are therefore cut in pieces.
const PIECE_BYTES: usize = 6 * 1024;
/// sled uses a segment (512 KiB) again once what it had is written elsewhere, synced or not. What takes its contents' place lies
/// a whole segment before the one that is used again, so less than a segment may be written between two syncs: else a power cut
/// could take both. This much by [`written_by`], beside what is always written; a test measures it.
const UNSYNCED_BYTES_MAX: usize = 240 << 10;

/// How long a database that was just closed may stay locked.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

const ENTRY_PREFIX: u8 = b'e';
const VOTE_KEY: &[u8] = b"mvote";
const COMMITTED_KEY: &[u8] = b"mcommitted";
const PURGED_KEY: &[u8] = b"mpurged";
const PROBATION_KEY: &[u8] = b"mprobation";
const IDENTITY_KEY: &[u8] = b"midentity";
const IDENTITY_VERSION: u8 = 1;
/// The number of the last batch, in that batch: see [`Watermark`].
const BATCH_KEY: &[u8] = b"mbatch";

/// The engine on sled 0.34.
///
/// `flush()` of this version is not durable on Linux (it never syncs the file), so a sync is `flush()`
/// followed by `sync_data()` on a second handle to the database file. Entries and marks share one tree: a
/// batch on one tree is atomic. Keys: `e` + index + piece (big-endian), `m` + mark.
#[derive(Debug)]
pub struct SledEngine {
    tree: sled::Tree,
    file: File,
    /// The number of the last batch.
    batch: u64,
    /// About how much was written since the last sync.
    unsynced_bytes: usize,
    watermark: Watermark,
    // Last, so that it is dropped last: it owns the threads and the lock of the directory.
    _db: sled::Db,
}

#[derive(Debug)]
struct Opener;

impl SledEngine {
    /// Opens stores of this kind.
    #[must_use]
    pub fn opener() -> impl OpenEngine {
        Opener
    }

    fn open(dir: &Path, identity: Identity) -> Result<(Self, Loaded), EngineError> {
        let existed = dir.join("db").exists();
        if existed {
            remove_unfinished_snapshots(dir)?;
        } else {
            fs::create_dir_all(dir).map_err(failed("creating the log directory"))?;
        }
        let db = open_database(dir)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(dir.join("db"))
            .map_err(failed("opening the log database"))?;
        let tree = db.open_tree("log").map_err(broken("opening the log"))?;
        check_owner(&tree, dir, identity)?;
        let (batch, watermark) = last_batch(&tree, dir)?;
        let mut engine = Self { tree, file, batch, unsynced_bytes: 0, watermark, _db: db };
        let store_id = engine.pin(dir, identity)?;
        if !existed {
            sync_directories(dir)?;
        }
        let loaded = engine.scan(store_id)?;
        Ok((engine, loaded))
    }

    /// Writes whose store this is into a new one.
    fn pin(&mut self, dir: &Path, identity: Identity) -> Result<[u8; 16], EngineError> {
        if let Some(store_id) = check_owner(&self.tree, dir, identity)? {
            return Ok(store_id);
        }
        if !self.tree.is_empty() {
            return Err(EngineError::Damaged("it has entries but no identity".into()));
        }
        let mut store_id = [0; 16];
        OsRng.try_fill_bytes(&mut store_id).map_err(failed("reading randomness"))?;
        self.tree
            .insert(IDENTITY_KEY, encode_identity(&identity, &store_id))
            .map_err(broken("writing the store's identity"))?;
        self.sync()?;
        Ok(store_id)
    }

    /// Reads everything, puts pieces together and deletes entries that an interrupted purge left behind.
    fn scan(&mut self, store_id: [u8; 16]) -> Result<Loaded, EngineError> {
        let mut marks = Vec::new();
        for mark in [Mark::Vote, Mark::Committed, Mark::Purged, Mark::Probation] {
            if let Some(value) = self.tree.get(mark_key(mark)).map_err(broken("reading a mark"))? {
                marks.push((mark, value.to_vec()));
            }
        }
        let mut pieces: BTreeMap<LogIndex, Vec<u8>> = BTreeMap::new();
        for item in self.tree.scan_prefix([ENTRY_PREFIX]) {
            let (key, value) = item.map_err(broken("scanning the log"))?;
            let (index, piece) = parse_key(&key)?;
            let entry = pieces.entry(index).or_default();
            if entry.len() != usize::from(piece).saturating_mul(PIECE_BYTES) {
                return Err(EngineError::Damaged(format!("entry {index} lacks a piece before {piece}")));
            }
            entry.extend_from_slice(&value);
        }
        let records =
            pieces.into_iter().map(|(index, bytes)| Record { index, bytes: bytes.into() }).collect();
        Ok(Loaded { store_id, records, marks })
    }

    fn apply(&mut self, mut batch: sled::Batch) -> Result<(), EngineError> {
        self.batch = self.batch.saturating_add(1);
        batch.insert(BATCH_KEY, &self.batch.to_le_bytes());
        self.tree.apply_batch(batch).map_err(broken("writing the log"))
    }
}

impl OpenEngine for Opener {
    fn open(&self, dir: &Path, identity: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        let (engine, loaded) = SledEngine::open(dir, identity)?;
        Ok((Box::new(engine), loaded))
    }
}

impl Engine for SledEngine {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            let bytes = written_by(change);
            if self.unsynced_bytes > 0 && self.unsynced_bytes.saturating_add(bytes) > UNSYNCED_BYTES_MAX {
                self.apply(std::mem::take(&mut batch))?;
                self.sync()?;
            }
            self.unsynced_bytes = self.unsynced_bytes.saturating_add(bytes);
            match change {
                Change::Put(record) => {
                    for (piece, bytes) in pieces_of(record.index, &record.bytes)? {
                        batch.insert(&entry_key(record.index, piece), bytes);
                    }
                }
                Change::Delete { index, bytes } => {
                    for piece in 0..piece_count(*bytes) {
                        batch.remove(&entry_key(*index, u16::try_from(piece).unwrap_or(u16::MAX)));
                    }
                }
                Change::Mark(mark, value) => batch.insert(mark_key(*mark), value.as_slice()),
            }
        }
        self.apply(batch)
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.tree.flush().map_err(broken("flushing the log"))?;
        self.file.sync_data().map_err(failed("syncing the log"))?;
        self.unsynced_bytes = 0;
        self.watermark.raise(self.batch)
    }
}

/// About how much a change makes sled write: leaves of sixteen items are written anew after ten changes, halves when they split.
fn written_by(change: &Change) -> usize {
    match change {
        Change::Put(record) => record.bytes.len().saturating_mul(7).saturating_add(1_024),
        Change::Delete { bytes, .. } => bytes.saturating_mul(3).saturating_add(512),
        Change::Mark(_, value) => value.len().saturating_add(1_024),
    }
}

/// The name of the store, if it is this one's; none: it is new.
fn check_owner(tree: &sled::Tree, dir: &Path, identity: Identity) -> Result<Option<[u8; 16]>, EngineError> {
    let Some(bytes) = tree.get(IDENTITY_KEY).map_err(broken("reading the store's identity"))? else {
        return Ok(None);
    };
    let (found, store_id) = decode_identity(&bytes)?;
    if found == identity { Ok(Some(store_id)) } else { Err(foreign(dir, &found, &identity)) }
}

/// The number of the last batch, which must be one that was synced last or a later one; a store of a version that did not
/// number them gets a watermark.
fn last_batch(tree: &sled::Tree, dir: &Path) -> Result<(u64, Watermark), EngineError> {
    let stored = tree.get(BATCH_KEY).map_err(broken("reading the number of the last batch"))?;
    let number = stored.as_deref().map(<[u8; 8]>::try_from).transpose();
    let number =
        number.map_err(|_| EngineError::Damaged("the number of its last batch is malformed".into()))?;
    let (last, watermark) = match (number.map(u64::from_le_bytes), Watermark::open(dir)?) {
        (last, Some(watermark)) => (last.unwrap_or(0), watermark),
        (None, None) => (0, Watermark::create(dir)?),
        (Some(_), None) => {
            return Err(EngineError::Damaged(
                "the file beside it is missing that says how far it was synced".into(),
            ));
        }
    };
    watermark.check(last)?;
    Ok((last, watermark))
}

fn piece_count(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES).max(1)
}

fn pieces_of(index: LogIndex, bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, EngineError> {
    bytes
        .chunks(PIECE_BYTES)
        .enumerate()
        .map(|(piece, bytes)| u16::try_from(piece).map(|piece| (piece, bytes)))
        .collect::<Result<_, _>>()
        .map_err(|_| EngineError::Io {
            doing: "writing the log",
            reason: format!("entry {index} is {} bytes long", bytes.len()),
        })
}

fn mark_key(mark: Mark) -> &'static [u8] {
    match mark {
        Mark::Vote => VOTE_KEY,
        Mark::Committed => COMMITTED_KEY,
        Mark::Purged => PURGED_KEY,
        Mark::Probation => PROBATION_KEY,
    }
}

fn entry_key(index: LogIndex, piece: u16) -> [u8; 11] {
    let mut key = [0; 11];
    key[0] = ENTRY_PREFIX;
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn parse_key(key: &[u8]) -> Result<(LogIndex, u16), EngineError> {
    let unknown = || EngineError::Damaged(format!("unknown key {}", hex::encode(key)));
    let rest = key.strip_prefix(&[ENTRY_PREFIX]).ok_or_else(unknown)?;
    let (index, piece) = rest.split_first_chunk::<8>().ok_or_else(unknown)?;
    let piece = <[u8; 2]>::try_from(piece).map_err(|_| unknown())?;
    Ok((u64::from_be_bytes(*index), u16::from_be_bytes(piece)))
}

/// `version u8 | cluster id | replica u64 | store id | CRC-32C`.
fn encode_identity(identity: &Identity, store_id: &[u8; 16]) -> Vec<u8> {
    let mut bytes = vec![IDENTITY_VERSION];
    bytes.extend_from_slice(&identity.cluster_id);
    bytes.extend_from_slice(&identity.replica.to_le_bytes());
    bytes.extend_from_slice(store_id);
    codec::seal(&mut bytes);
    bytes
}

fn decode_identity(bytes: &[u8]) -> Result<(Identity, [u8; 16]), EngineError> {
    let damaged = || EngineError::Damaged("its identity is malformed".into());
    let content =
        codec::open(bytes).map_err(|error| EngineError::Damaged(format!("its identity: {error}")))?;
    let ([version], rest) = content.split_first_chunk::<1>().ok_or_else(damaged)?;
    if *version != IDENTITY_VERSION {
        return Err(EngineError::Damaged(format!(
            "its format {version} is unknown; a later version made it"
        )));
    }
    let (cluster_id, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (replica, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let store_id = <[u8; 16]>::try_from(rest).map_err(|_| damaged())?;
    Ok((Identity { cluster_id: *cluster_id, replica: u64::from_le_bytes(*replica) }, store_id))
}

fn foreign(dir: &Path, found: &Identity, wanted: &Identity) -> EngineError {
    if found.replica == wanted.replica && differ_in_name_only(&found.cluster_id, &wanted.cluster_id) {
        return EngineError::Foreign(format!(
            "the store in {} belongs to replica {} of a cluster with the same seed but another name or network: name \
             (cluster.name) and network (cluster.network) of a cluster never change",
            dir.display(),
            found.replica
        ));
    }
    let name = |cluster: &[u8; 32], replica: ReplicaId| {
        format!("replica {replica} of cluster {}", hex::encode(cluster.get(..8).unwrap_or_default()))
    };
    EngineError::Foreign(format!(
        "the store in {} belongs to {}, not to {}",
        dir.display(),
        name(&found.cluster_id, found.replica),
        name(&wanted.cluster_id, wanted.replica),
    ))
}

/// A crash while sled opens can leave a snapshot file that makes every later open fail. Without it sled
/// scans its own log, which costs milliseconds.
fn remove_unfinished_snapshots(dir: &Path) -> Result<(), EngineError> {
    for entry in fs::read_dir(dir).map_err(failed("listing the log directory"))? {
        let entry = entry.map_err(failed("listing the log directory"))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let empty = entry.metadata().map_err(failed("listing the log directory"))?.len() == 0;
        if name.starts_with("snap.") && (name.ends_with(".generating") || empty) {
            fs::remove_file(entry.path()).map_err(failed("removing an unfinished snapshot of sled"))?;
            tracing::warn!(file = %name, "removed an unfinished snapshot of the log database");
        }
    }
    Ok(())
}

/// sled's background threads may hold the lock of a database that this process has just closed. (Other
/// processes are kept out by the lock on the data directory.)
fn open_database(dir: &Path) -> Result<sled::Db, EngineError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(BACKGROUND_FLUSH_MS))
        .mode(sled::Mode::HighThroughput);
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(broken("opening the log database")(error)),
        }
    }
}

/// Makes the directory's entries durable: the database is worth nothing if its name is lost.
fn sync_directories(dir: &Path) -> Result<(), EngineError> {
    let parents: [Option<PathBuf>; 2] = [Some(dir.to_path_buf()), dir.parent().map(Path::to_path_buf)];
    for path in parents.into_iter().flatten() {
        File::open(path).and_then(|file| file.sync_all()).map_err(failed("syncing the log directory"))?;
    }
    Ok(())
}

/// The engine's own checksums are part of what it reports.
fn broken(doing: &'static str) -> impl FnOnce(sled::Error) -> EngineError {
    move |error| match error {
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) => {
            EngineError::Damaged(format!("{doing}: {error}"))
        }
        error => failed(doing)(error),
    }
}

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> EngineError {
    move |error| EngineError::Io { doing, reason: error.to_string() }
}

#[cfg(test)]
mod tests;

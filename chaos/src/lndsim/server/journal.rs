//! The node's database: records appended as they happen, compacted at each start.
//!
//! On disk it is written with one `write` per step and never synced: it has to survive the death of the process, not of
//! the machine. A torn last record is dropped.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{super::core::Record, running::StartError};

const FILE: &str = "journal.bin";
const LEN_BYTES: usize = 4;

/// The journal of a node without a disk. It belongs to whoever starts the node, and survives it; clones share it.
#[derive(Clone, Default)]
pub struct MemoryJournal(Arc<Mutex<Vec<Record>>>);

/// Where a node keeps its journal.
pub(super) enum Place {
    Dir(PathBuf),
    Memory(MemoryJournal),
}

impl Place {
    /// All records.
    pub(super) fn read(&self) -> Result<Vec<Record>, StartError> {
        match self {
            Self::Dir(dir) => read(dir),
            Self::Memory(journal) => Ok(journal.0.lock().clone()),
        }
    }

    /// Replaces what is there by `records` and opens it for more.
    pub(super) fn create(self, records: Vec<Record>) -> Result<Journal, StartError> {
        match self {
            Self::Dir(dir) => create(&dir, &records).map(Journal::File),
            Self::Memory(journal) => {
                *journal.0.lock() = records;
                Ok(Journal::Memory(journal))
            }
        }
    }
}

fn read(dir: &Path) -> Result<Vec<Record>, StartError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = std::fs::read(&path).map_err(StartError::disk)?;
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<LEN_BYTES>() {
        let len = u32::from_le_bytes(*len) as usize;
        let Some((record, tail)) = tail.split_at_checked(len) else { break };
        records.push(postcard::from_bytes(record).map_err(|_| StartError::BadJournal(path.clone()))?);
        rest = tail;
    }
    Ok(records)
}

fn create(dir: &Path, records: &[Record]) -> Result<File, StartError> {
    let (path, new): (PathBuf, PathBuf) = (dir.join(FILE), dir.join("journal.tmp"));
    std::fs::write(&new, encode(records)).map_err(StartError::disk)?;
    std::fs::rename(&new, &path).map_err(StartError::disk)?;
    OpenOptions::new().append(true).open(&path).map_err(StartError::disk)
}

/// An open journal.
pub(super) enum Journal {
    /// Keeps nothing: the node cannot be killed and come back.
    None,
    File(File),
    Memory(MemoryJournal),
}

impl Journal {
    /// Adds records, all or (at the death of the process) the first ones.
    pub(super) fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        match self {
            Self::File(file) if !records.is_empty() => file.write_all(&encode(records)),
            Self::Memory(journal) => {
                journal.0.lock().extend_from_slice(records);
                Ok(())
            }
            Self::None | Self::File(_) => Ok(()),
        }
    }
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let record = postcard::to_stdvec(record).expect("plain data always has a postcard form");
        let len = u32::try_from(record.len()).expect("a record is a few kilobytes");
        bytes.extend(len.to_le_bytes());
        bytes.extend(record);
    }
    bytes
}

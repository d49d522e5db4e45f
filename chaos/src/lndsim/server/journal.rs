//! The node's database on disk: records appended as they happen, compacted at each start.
//!
//! Written with one `write` per step and never synced: it has to survive the death of the process, not of
//! the machine. A torn last record is dropped.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{super::core::Record, running::StartError};

const FILE: &str = "journal.bin";
const LEN_BYTES: usize = 4;

/// An open journal.
pub(super) struct Journal {
    /// `None`: nothing is kept.
    file: Option<File>,
}

impl Journal {
    /// All records in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Vec<Record>, StartError> {
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

    /// Replaces what is in `dir` by `records` and opens it for more.
    pub(super) fn create(dir: &Path, records: &[Record]) -> Result<Self, StartError> {
        let (path, new): (PathBuf, PathBuf) = (dir.join(FILE), dir.join("journal.tmp"));
        std::fs::write(&new, encode(records)).map_err(StartError::disk)?;
        std::fs::rename(&new, &path).map_err(StartError::disk)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(StartError::disk)?;
        Ok(Self { file: Some(file) })
    }

    /// Keeps nothing: the node cannot be killed and come back.
    pub(super) fn none() -> Self {
        Self { file: None }
    }

    /// Adds records.
    pub(super) fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        match &mut self.file {
            Some(file) if !records.is_empty() => file.write_all(&encode(records)),
            _ => Ok(()),
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

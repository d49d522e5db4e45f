use super::format::{
    BackupHeader, END, End, FRAME_HEAD_BYTES, HEADER, MAGIC, PAYLOAD_BYTES_MAX, RECORDS, Records, STATE,
};
use crate::machine::archive::{ArchiveRecord, NewRecord, roll};
use crate::machine::{SnapshotError, State};
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read.
    #[error("backup {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is none, or not all of it.
    #[error("{path} is not a whole backup: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its state is of a newer version, or not what it should be.
    #[error("backup {path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SnapshotError,
    },
}

/// What a backup contains. Everything was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// What it is of.
    pub header: BackupHeader,
    /// The state in it.
    pub state: State,
    /// Records of the archive in it.
    pub records: u64,
    /// The file's length.
    pub bytes: u64,
}

/// Checks a backup in full. Blocks.
///
/// # Errors
/// See [`BackupError`].
pub fn inspect(path: &Path) -> Result<BackupSummary, BackupError> {
    read(path, |_| Ok(()))
}

/// Checks a backup in full and hands its records on, in order. Blocks.
pub(super) fn read(
    path: &Path,
    take: impl FnMut(Vec<NewRecord>) -> Result<(), String>,
) -> Result<BackupSummary, BackupError> {
    let failed = |source| BackupError::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut reader = Reader { path, file: BufReader::with_capacity(1 << 20, file) };
    reader.read_all(bytes, take)
}

struct Reader<'path> {
    path: &'path Path,
    file: BufReader<File>,
}

impl Reader<'_> {
    fn read_all(
        &mut self,
        bytes: u64,
        mut take: impl FnMut(Vec<NewRecord>) -> Result<(), String>,
    ) -> Result<BackupSummary, BackupError> {
        let mut magic = [0; MAGIC.len()];
        self.fill(&mut magic)?;
        if &magic != MAGIC {
            return Err(self.damaged("it does not begin like one"));
        }
        let header: BackupHeader = match self.frame()? {
            (HEADER, payload) => self.decode(&payload)?,
            _ => return Err(self.damaged("there is no header")),
        };
        let mut state = Vec::new();
        let (mut next, mut hash) = (header.archive.first, header.archive.first_hash);
        let end: End = loop {
            match self.frame()? {
                (STATE, piece) => state.extend(piece),
                (RECORDS, payload) => {
                    let chunk: Records = self.decode(&payload)?;
                    if chunk.first != next {
                        return Err(self.damaged("records are missing"));
                    }
                    let records = self.records(chunk, &mut next, &mut hash)?;
                    take(records).map_err(|why| self.damaged(&why))?;
                }
                (END, payload) => break self.decode(&payload)?,
                (kind, _) => return Err(self.damaged(&format!("a piece of unknown kind {kind}"))),
            }
        };
        let records = next.saturating_sub(header.archive.first);
        let whole = end.hash == hash
            && end.records == records
            && (next, hash) == (header.archive.next, header.archive.hash);
        if !whole || u64::try_from(state.len()).ok() != Some(end.state_bytes) {
            return Err(self.damaged("its records or its state are not all there"));
        }
        let mut rest = [0; 1];
        match self.file.read(&mut rest) {
            Ok(0) => {}
            Ok(_) => return Err(self.damaged("something follows its end")),
            Err(source) => return Err(self.failed(source)),
        }
        let state = State::decode_snapshot(&state)
            .map_err(|source| BackupError::State { path: self.path.to_path_buf(), source })?;
        if state.applied() != header.at || state.archive_tip() != &header.archive {
            return Err(self.damaged("its state is not the one that its header names"));
        }
        Ok(BackupSummary { header, state, records, bytes })
    }

    /// Follows the rolling hash.
    fn records(
        &self,
        chunk: Records,
        next: &mut u64,
        hash: &mut [u8; 32],
    ) -> Result<Vec<NewRecord>, BackupError> {
        let mut records = Vec::with_capacity(chunk.records.len());
        for bytes in chunk.records {
            let record: ArchiveRecord = self.decode(&bytes)?;
            *hash = roll(hash, &bytes);
            records.push(NewRecord { number: *next, bytes, hash_after: *hash, record });
            *next = next.saturating_add(1);
        }
        Ok(records)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.fill(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > PAYLOAD_BYTES_MAX {
            return Err(self.damaged("a piece is too long"));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        let mut written = [0; 4];
        self.fill(&mut written)?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&head), &payload);
        if found != u32::from_le_bytes(written) {
            return Err(self.damaged("a checksum does not match"));
        }
        Ok((kind, payload))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.damaged("it is cut off")),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, BackupError> {
        match postcard::take_from_bytes(bytes) {
            Ok((decoded, [])) => Ok(decoded),
            Ok(_) | Err(_) => Err(self.damaged("a piece does not decode; a newer version may have made it")),
        }
    }

    fn failed(&self, source: io::Error) -> BackupError {
        BackupError::Io { path: self.path.to_path_buf(), source }
    }

    fn damaged(&self, reason: &str) -> BackupError {
        BackupError::Damaged { path: self.path.to_path_buf(), reason: reason.to_owned() }
    }
}

use crate::types::{LogIndex, ReplicaId};
use bytes::Bytes;
use std::path::Path;

/// Keeps the log on disk. Used by one thread only; every call may block.
///
/// Any error means that what the disk holds is unknown: the caller stops and never calls again.
pub trait Engine: Send + 'static {
    /// Writes changes, in order. Not durable before [`Engine::sync`]: a crash leaves some beginning of what was written since the
    /// last one.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError>;

    /// Makes everything written so far survive a power cut.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn sync(&mut self) -> Result<(), EngineError>;
}

/// Opens an engine and reads everything it holds.
pub trait OpenEngine: Send + Sync + 'static {
    /// Opens the store in this directory (created if absent), which must belong to `identity` or be new, and
    /// scans it in full.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn open(&self, dir: &Path, identity: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError>;
}

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: [u8; 32],
    /// The replica.
    pub replica: ReplicaId,
}

/// One change to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts an entry at its index.
    Put(Record),
    /// Deletes the entry at this index, which is this long.
    Delete {
        /// Its index.
        index: LogIndex,
        /// The length it was put with, in bytes.
        bytes: usize,
    },
    /// Sets a mark.
    Mark(Mark, Vec<u8>),
}

/// An encoded entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its index.
    pub index: LogIndex,
    /// The entry as the codec wrote it, with its checksum.
    pub bytes: Bytes,
}

/// Small records beside the entries. Each is encoded, with its checksum, by the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The vote.
    Vote,
    /// The last entry known to be committed.
    Committed,
    /// The last entry that was purged. Entries up to it may still be there and do not count.
    Purged,
    /// The entry that must be applied here before this replica votes; none if it may.
    Probation,
}

/// Everything a store held when it was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Names this very store: random, made with it.
    pub store_id: [u8; 16],
    /// Entries by index, without holes above the purged mark.
    pub records: Vec<Record>,
    /// The marks that are set.
    pub marks: Vec<(Mark, Vec<u8>)>,
}

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The operating system or the engine failed.
    #[error("{doing}: {reason}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What was reported.
        reason: String,
    },
    /// The content is damaged.
    #[error("the log store is damaged: {0}")]
    Damaged(String),
    /// The store belongs to another cluster or replica.
    #[error("{0}")]
    Foreign(String),
}

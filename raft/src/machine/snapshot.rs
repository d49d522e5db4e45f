//! The state as bytes.
//!
//! `format: u16 LE ‖ archived_up_to: u64 LE ‖ archive_hash: 32 ‖ postcard of the records ‖ CRC-32C: u32 LE`,
//! the checksum over everything before it. Indexes are not stored: reading rebuilds them. The archive
//! fields are zero until there is an archive.

use super::index::Index;
use super::state::{Core, State};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The format of snapshots written here.
pub const SNAPSHOT_FORMAT: u16 = 1;

/// Format, archived_up_to, archive_hash.
const HEADER_LEN: usize = 2 + 8 + 32;

/// CRC-32C.
const TRAILER_LEN: usize = 4;

/// Why bytes are not a snapshot this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Cut off.
    #[error("a snapshot of {0} bytes is cut off")]
    Truncated(usize),
    /// Damaged on disk or on the way.
    #[error("checksum {found:08x}, computed {computed:08x}: the snapshot is damaged")]
    Damaged {
        /// What the trailer says.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A newer version wrote it.
    #[error("snapshot of format {0}, this version knows up to {SNAPSHOT_FORMAT}: upgrade this replica")]
    UnknownFormat(u16),
    /// Intact, but not what its format says.
    #[error("the snapshot does not decode: {0}")]
    Malformed(String),
}

impl State {
    /// The state as bytes, for [`State::decode_snapshot`].
    #[must_use]
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(SNAPSHOT_FORMAT.to_le_bytes());
        bytes.extend([0; 8 + 32]);
        let bytes = postcard::to_extend(self, bytes).expect("the records are plain data");
        let checksum = crc32c::crc32c(&bytes);
        let mut bytes = bytes;
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads a state and rebuilds its indexes.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let truncated = || SnapshotError::Truncated(bytes.len());
        let (body, trailer) = bytes.split_last_chunk::<TRAILER_LEN>().ok_or_else(truncated)?;
        let (found, computed) = (u32::from_le_bytes(*trailer), crc32c::crc32c(body));
        if found != computed {
            return Err(SnapshotError::Damaged { found, computed });
        }
        let (format, _) = body.split_first_chunk::<2>().ok_or_else(truncated)?;
        let format = u16::from_le_bytes(*format);
        if format != SNAPSHOT_FORMAT {
            return Err(SnapshotError::UnknownFormat(format));
        }
        let (_, records) = body.split_first_chunk::<HEADER_LEN>().ok_or_else(truncated)?;
        let malformed = |why: String| SnapshotError::Malformed(why);
        let (state, rest) =
            postcard::take_from_bytes::<Self>(records).map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes too many", rest.len())));
        }
        Ok(state)
    }

    /// Rebuilds what follows from the records.
    pub(super) fn rebuild_index(&mut self) {
        self.index = Index::of(&self.core);
        self.refresh_heights();
    }
}

impl Serialize for State {
    /// The records only; see [`State::encode_snapshot`] for a form with a version and a checksum.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.core.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut state = Self { core: Core::deserialize(deserializer)?, index: Index::default() };
        state.rebuild_index();
        Ok(state)
    }
}

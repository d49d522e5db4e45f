//! The state as bytes.
//!
//! `format: u16 LE ‖ archived_up_to: u64 LE ‖ archive_hash: 32 ‖ postcard of the records ‖ CRC-32C: u32 LE`,
//! the checksum over everything before it. Indexes are not stored: reading rebuilds them. Archived records are
//! not part of it: whoever installs a snapshot fetches those it lacks up to `archived_up_to`.
//!
//! From level 2 on the records begin with the first version of `muxd` that knows the level: one that does not can
//! say which is needed.
//!
//! The format is the feature level of the state, so that a version that knows only level 1 reads the snapshots
//! of a cluster that is still at level 1.

use super::command::COMMAND_FORMAT;
use super::index::Index;
use super::level;
use super::recall::Recalled;
use super::state::{Core, More, State};
use crate::mutant::{Mutant, planted};

/// Format, archived_up_to, archive_hash.
const HEADER_LEN: usize = 2 + 8 + 32;

/// A longer one is none.
const VERSION_LEN_MAX: usize = 32;

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
    #[error(
        "the snapshot is of feature level {found}, which needs {needed}; this is muxd {}, which knows up to \
         {COMMAND_FORMAT}: upgrade this replica",
        env!("CARGO_PKG_VERSION")
    )]
    UnknownFormat {
        /// Its level.
        found: u16,
        /// The first version that knows it.
        needed: String,
    },
    /// Intact, but not what its format says.
    #[error("the snapshot does not decode: {0}")]
    Malformed(String),
}

impl State {
    /// The state as bytes, for [`State::decode_snapshot`].
    #[must_use]
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(self.feature_level().to_le_bytes());
        bytes.extend(self.more.archive.next.to_le_bytes());
        bytes.extend(self.more.archive.hash);
        if planted(Mutant::DedupeNotInSnapshot) && !self.core.requests.is_empty() {
            let core = Core { requests: Default::default(), ..self.core.clone() };
            return Self { core, ..self.clone() }.encode_snapshot();
        }
        let plain = "the records are plain data";
        let bytes = if self.feature_level() == level::FIRST {
            postcard::to_extend(&self.core, bytes).expect(plain)
        } else {
            let version = level::version_of(self.feature_level());
            postcard::to_extend(&(version, &self.core, &self.more), bytes).expect(plain)
        };
        let checksum = crc32c::crc32c(&bytes);
        let mut bytes = bytes;
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// As it goes into a backup: without what applications asked for and nothing has decided yet, whose preimages
    /// nobody may see before. They ask again.
    #[must_use]
    pub fn for_backup(&self) -> Self {
        let mut state = self.clone();
        state.core.intents.clear();
        for invoice in state.core.invoices.values_mut() {
            if let Some(set) = invoice.set.as_mut().filter(|_| !invoice.state.is_decided()) {
                set.settle_intent = false;
            }
        }
        state.rebuild_index();
        state
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
        if format == 0 || format > COMMAND_FORMAT {
            return Err(SnapshotError::UnknownFormat { found: format, needed: version_needed(body) });
        }
        let (_, records) = body.split_first_chunk::<HEADER_LEN>().ok_or_else(truncated)?;
        let malformed = |error: postcard::Error| SnapshotError::Malformed(error.to_string());
        let ((core, more), rest) = if format == level::FIRST {
            let (core, rest) = postcard::take_from_bytes::<Core>(records).map_err(malformed)?;
            ((core, More::default()), rest)
        } else {
            let ((_version, core, more), rest) =
                postcard::take_from_bytes::<(&str, Core, More)>(records).map_err(malformed)?;
            ((core, more), rest)
        };
        if !rest.is_empty() {
            return Err(SnapshotError::Malformed(format!("{} bytes too many", rest.len())));
        }
        let mut state = Self { core, more, index: Index::default(), recalled: Recalled::default() };
        state.rebuild_index();
        Ok(state)
    }

    /// Rebuilds what follows from the records.
    pub(super) fn rebuild_index(&mut self) {
        self.index = Index::of(&self.core);
        self.refresh_heights();
    }
}

/// What a snapshot of an unknown level says about itself.
fn version_needed(body: &[u8]) -> String {
    let records = body.split_first_chunk::<HEADER_LEN>().map(|(_, records)| records);
    let version = records.and_then(|records| postcard::take_from_bytes::<&str>(records).ok());
    match version {
        Some((version, _)) if is_version(version) => format!("muxd {version} or later"),
        _ => "a later version".to_owned(),
    }
}

fn is_version(text: &str) -> bool {
    (1..=VERSION_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

use crate::codec::entry::StoredMembers;
use crate::codec::{CodecError, open, seal};
use crate::fault;
use crate::machine::{ArchiveTip, State};
use crate::replica::opening::{CHECK_DISK, JOIN_ANEW};
use crate::replica::raft::{LogId, SnapshotMeta, StoredMembership, log_id};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"MUXSNAP\x01";
/// A header is a few hundred bytes; more is no header.
const HEADER_BYTES_MAX: u32 = 1 << 20;

/// A complete snapshot on disk, opened: it stays readable when a later one takes its place.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    file: Arc<File>,
}

/// `magic | header length u32 | header, sealed | body`. What follows the header within its seal is [`Origin`].
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    cluster_id: [u8; 32],
    last: Option<(u64, u64)>,
    members_at: Option<(u64, u64)>,
    members: StoredMembers,
    body_bytes: u64,
    body_crc: u32,
}

/// What its maker says of the state, by other means than the bytes' checksums. Versions before 0.3.0 do not write it and
/// do not read it.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    /// The rolling hash.
    state_hash: [u8; 32],
    /// SHA-256 of the encoded state.
    digest: [u8; 32],
}

impl Origin {
    /// What is wrong with a state that was decoded from these bytes.
    fn contradiction(&self, body: &[u8], state: &State) -> Option<&'static str> {
        if self.digest != <[u8; 32]>::from(Sha256::digest(body)) {
            return Some("it is not the state that was sent: its digest is another");
        }
        if self.state_hash != state.chain_hash() {
            return Some("it is not the state that was sent: its rolling hash is another");
        }
        // Whatever was not understood as it was meant would be written otherwise.
        (state.encode_snapshot() != body).then_some("the state that it decodes to would be encoded otherwise")
    }
}

/// Why a file is no snapshot, or none of ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("snapshot {path}: {source}; {CHECK_DISK}")]
    Io { path: PathBuf, source: io::Error },
    #[error("snapshot {path} is damaged: {reason}; {JOIN_ANEW}")]
    Damaged { path: PathBuf, reason: String },
    #[error("snapshot {0} belongs to another cluster")]
    Foreign(PathBuf),
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        Self::other(error)
    }
}

impl SnapshotFile {
    /// Writes a snapshot and makes the file (not yet its name) durable; says how many bytes the state has. Blocks.
    pub(crate) fn write(
        path: &Path,
        cluster_id: [u8; 32],
        meta: &SnapshotMeta,
        state: &State,
    ) -> Result<(Self, usize), SnapshotError> {
        let body = state.encode_snapshot();
        let origin = Origin { state_hash: state.chain_hash(), digest: Sha256::digest(&body).into() };
        let position = |id: &LogId| (id.leader_id.term, id.index);
        let header = Header {
            cluster_id,
            last: meta.last_log_id.as_ref().map(position),
            members_at: meta.last_membership.log_id().as_ref().map(position),
            members: meta.last_membership.membership().into(),
            body_bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
            body_crc: crc32c::crc32c(&body),
        };
        let failed = |source| SnapshotError::Io { path: path.to_path_buf(), source };
        let mut bytes =
            postcard::to_stdvec(&(header, origin)).map_err(|error| failed(io::Error::other(error)))?;
        seal(&mut bytes);
        let length = u32::try_from(bytes.len()).map_err(|error| failed(io::Error::other(error)))?;
        let write = || -> io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(MAGIC)?;
            file.write_all(&length.to_le_bytes())?;
            file.write_all(&bytes)?;
            fault::point("snapshot.half");
            file.write_all(&body)?;
            file.sync_all()
        };
        write().map_err(failed)?;
        Ok((Self::open(path)?, body.len()))
    }

    /// Opens a file without looking at its content.
    pub(crate) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file =
            File::open(path).map_err(|source| SnapshotError::Io { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), file: Arc::new(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole file, for sending. Blocks.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>, SnapshotError> {
        // By position: clones of the handle share one offset, and two peers may be sent it at once.
        let read = || -> io::Result<Vec<u8>> {
            let length = usize::try_from(self.file.metadata()?.len()).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        read().map_err(|source| SnapshotError::Io { path: self.path.clone(), source })
    }

    /// Checks everything, as a snapshot from outside needs before it is handed on, and says which archive goes
    /// with it. Blocks.
    pub(crate) fn verify(&self, cluster_id: &[u8; 32]) -> Result<(SnapshotMeta, ArchiveTip), SnapshotError> {
        self.load(cluster_id).map(|(meta, state)| (meta, *state.archive_tip()))
    }

    /// What the snapshot contains, without the state. Blocks.
    pub(crate) fn meta(&self, cluster_id: &[u8; 32]) -> Result<SnapshotMeta, SnapshotError> {
        let bytes = self.read_all()?;
        let (header, ..) = self.split(&bytes, cluster_id)?;
        self.meta_of(header)
    }

    /// Checks everything and decodes the state. Blocks.
    pub(super) fn load(&self, cluster_id: &[u8; 32]) -> Result<(SnapshotMeta, State), SnapshotError> {
        let bytes = self.read_all()?;
        let (header, origin, body) = self.split(&bytes, cluster_id)?;
        let found = crc32c::crc32c(body);
        if header.body_crc != found {
            let written = header.body_crc;
            return Err(self.damaged(CodecError::Checksum { written, found }));
        }
        let state = State::decode_snapshot(body).map_err(|error| self.damaged(error))?;
        if let Some(why) = origin.and_then(|origin| origin.contradiction(body, &state)) {
            return Err(self.damaged(why));
        }
        Ok((self.meta_of(header)?, state))
    }

    fn split<'bytes>(
        &self,
        bytes: &'bytes [u8],
        cluster_id: &[u8; 32],
    ) -> Result<(Header, Option<Origin>, &'bytes [u8]), SnapshotError> {
        let truncated = || self.damaged(CodecError::Truncated(bytes.len()));
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| self.damaged(CodecError::Malformed("magic")))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
        let length = u32::from_le_bytes(*length);
        if length > HEADER_BYTES_MAX {
            return Err(self.damaged(CodecError::Malformed("header length")));
        }
        let length = usize::try_from(length).map_err(|_| truncated())?;
        let (header, body) = rest.split_at_checked(length).ok_or_else(truncated)?;
        let header = open(header).map_err(|error| self.damaged(error))?;
        let malformed = |_| self.damaged(CodecError::Malformed("header"));
        let (header, rest) = postcard::take_from_bytes::<Header>(header).map_err(malformed)?;
        let origin =
            if rest.is_empty() { None } else { Some(postcard::from_bytes(rest).map_err(malformed)?) };
        if &header.cluster_id != cluster_id {
            return Err(SnapshotError::Foreign(self.path.clone()));
        }
        if u64::try_from(body.len()).ok() != Some(header.body_bytes) {
            return Err(truncated());
        }
        Ok((header, origin, body))
    }

    fn meta_of(&self, header: Header) -> Result<SnapshotMeta, SnapshotError> {
        let position = |(term, index): (u64, u64)| log_id(term, index);
        let membership = header.members.try_into().map_err(|error| self.damaged(error))?;
        Ok(SnapshotMeta {
            last_log_id: header.last.map(position),
            last_membership: StoredMembership::new(header.members_at.map(position), membership),
        })
    }

    fn damaged(&self, error: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.clone(), reason: error.to_string() }
    }
}

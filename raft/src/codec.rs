//! How entries stand on disk and on the wire, and how this crate's messages map to openraft's types.
//!
//! The formats are this crate's own and versioned; no type of openraft is ever encoded, since their layout
//! changes between its versions. An entry carries a CRC-32C over all of it, checked at every start, on every
//! receipt. Entries carry no leader's id: with one leader per term (textbook Raft, `leader_id_std`) the term
//! names it.
//!
//! * `command`: a command as openraft carries it: encoded once, decoded when applied.
//! * `entry`: entries.
//! * `marks`: votes and log ids.
//! * `wire`: protobuf messages.

pub(crate) mod command;
pub(crate) mod entry;
pub(crate) mod marks;
pub(crate) mod wire;

pub(crate) use command::LoggedCommand;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Shorter than its own format.
    #[error("truncated at {0} bytes")]
    Truncated(usize),
    /// Changed since it was written.
    #[error("checksum mismatch: written {written:08x}, found {found:08x}")]
    Checksum {
        /// As written.
        written: u32,
        /// Over what is there now.
        found: u32,
    },
    /// Written by a later version of this program, or not by it at all.
    #[error("unknown format {0}; a later version may have written it")]
    Format(u16),
    /// Well-formed outside, not inside.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// Appends the CRC-32C of everything in `bytes`.
pub(crate) fn seal(bytes: &mut Vec<u8>) {
    let crc = crc32c::crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// The content of sealed bytes.
pub(crate) fn open(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or(CodecError::Truncated(bytes.len()))?;
    let (written, found) = (u32::from_le_bytes(*crc), crc32c::crc32c(content));
    if written == found { Ok(content) } else { Err(CodecError::Checksum { written, found }) }
}

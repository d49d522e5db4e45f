use super::error::StoreError;
use crate::machine::archive::ArchiveRecord;

/// `CRC-32C: u32 LE ‖ rolling hash after it: 32 ‖ the record in postcard`; the checksum is over the number (LE)
/// and what follows it.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) number: u64,
    pub(super) hash_after: [u8; 32],
    pub(super) record: ArchiveRecord,
}

impl StoredRecord {
    pub(super) fn decode(number: u64, value: &[u8]) -> Result<Self, StoreError> {
        let (hash_after, bytes) = open(number, value)?;
        let record = postcard::from_bytes(bytes).map_err(|error| damaged(number, &error.to_string()))?;
        Ok(Self { number, hash_after, record })
    }
}

pub(super) fn encode(number: u64, hash_after: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    let crc = checksum(number, [hash_after, bytes]);
    [&crc.to_le_bytes(), hash_after.as_slice(), bytes].concat()
}

pub(super) fn hash_after(number: u64, value: &[u8]) -> Result<[u8; 32], StoreError> {
    open(number, value).map(|(hash_after, _)| hash_after)
}

/// The record as it was archived.
pub(super) fn bytes_of(number: u64, value: &[u8]) -> Result<&[u8], StoreError> {
    open(number, value).map(|(_, bytes)| bytes)
}

fn open(number: u64, value: &[u8]) -> Result<([u8; 32], &[u8]), StoreError> {
    let short = || damaged(number, "it is cut off");
    let (crc, rest) = value.split_first_chunk::<4>().ok_or_else(short)?;
    let (hash_after, bytes) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    if u32::from_le_bytes(*crc) != checksum(number, [hash_after, bytes]) {
        return Err(damaged(number, "its checksum is wrong"));
    }
    Ok((*hash_after, bytes))
}

fn checksum(number: u64, parts: [&[u8]; 2]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    parts.into_iter().fold(crc, crc32c::crc32c_append)
}

fn damaged(number: u64, reason: &str) -> StoreError {
    StoreError::Damaged(format!("record {number} is damaged: {reason}"))
}

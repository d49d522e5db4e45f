use crate::machine::LogPosition;
use crate::machine::archive::ArchiveTip;
use crate::types::{LogTimeMs, ReplicaId};
use serde::{Deserialize, Serialize};

pub(super) const MAGIC: &[u8; 8] = b"MUXBKUP\x01";

pub(super) const HEADER: u8 = 1;
pub(super) const STATE: u8 = 2;
pub(super) const RECORDS: u8 = 3;
pub(super) const END: u8 = 4;

/// Kind and length.
pub(super) const FRAME_HEAD_BYTES: usize = 5;

/// More in one frame is no frame of ours.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// What the cluster is called, by whoever makes the backup. The restoring replica must be of the same seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupLabel {
    /// The cluster's name.
    pub cluster_name: String,
    /// bitcoin, testnet, signet, regtest.
    pub network: String,
    /// The virtual node's key, in hex: tells the seed.
    pub node_pubkey: String,
    /// Version of the program.
    pub version: String,
}

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupHeader {
    /// The cluster.
    pub cluster_id: [u8; 32],
    /// For people, and to check before restoring.
    pub label: BackupLabel,
    /// Who made it.
    pub replica: ReplicaId,
    /// By that replica's wall clock.
    pub taken_at_ms: u64,
    /// The last entry in it.
    pub at: LogPosition,
    /// Log time of that entry.
    pub log_time_ms: LogTimeMs,
    /// The cluster's feature level.
    pub feature_level: u16,
    /// The state's rolling hash.
    pub state_hash: [u8; 32],
    /// The archive's records in it.
    pub archive: ArchiveTip,
}

/// Follows the last records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) state_bytes: u64,
    pub(super) records: u64,
    pub(super) hash: [u8; 32],
}

/// A chunk of records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Records {
    pub(super) first: u64,
    pub(super) records: Vec<Vec<u8>>,
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("payloads are cut far below 4 GiB");
    let mut bytes = Vec::with_capacity(payload.len().saturating_add(FRAME_HEAD_BYTES).saturating_add(4));
    bytes.push(kind);
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

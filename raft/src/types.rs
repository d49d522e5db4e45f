//! The words of the domain: small types with one meaning each.
//!
//! Secrets ([`Preimage`], [`PaymentSecret`]) print as `…` and compare in constant time. Amounts only have
//! checked arithmetic.

mod amount;
mod circuit_key;
mod hash;
mod secret;

pub use amount::Msat;
pub use circuit_key::CircuitKey;
pub use hash::{NodePubkey, ParseHexError, PaymentHash, SetId, StoreId};
pub use secret::{PaymentSecret, Preimage};

/// A replica's number, unique in its cluster for ever: a wiped replica comes back under a new one.
pub type ReplicaId = u64;

/// A block height.
pub type BlockHeight = u32;

/// Log time: milliseconds since the Unix epoch as stamped by leaders; never runs backwards.
pub type LogTimeMs = u64;

/// The number of a link's session, counted per front node by the state machine. 0 is never given.
pub type SessionId = u64;

/// Index of an entry in the Raft log.
pub type LogIndex = u64;

/// Bytes of a cluster's id that tell its seed; the rest follows from name and network.
const SEED_FINGERPRINT_BYTES: usize = 8;

/// Whether two clusters' ids differ, but their seeds do not: then one was renamed, or is on another network.
#[must_use]
pub(crate) fn differ_in_name_only(one: &[u8], other: &[u8]) -> bool {
    one != other && one.get(..SEED_FINGERPRINT_BYTES) == other.get(..SEED_FINGERPRINT_BYTES)
}

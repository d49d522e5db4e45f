//! The cluster's secrets at rest and in memory.
//!
//! One 32-byte [`ClusterSeed`], the same on every replica, is all there is to keep safe and to back up.
//! Everything else is derived from it by HKDF-SHA256 under a label of its own ([`ClusterKeys`]), so that
//! no sub-key says anything about another one or about the seed: the virtual node's identity, the
//! preimages of own invoices, encryption and authentication of payment secrets, virtual short channel
//! ids, the macaroon root.
//!
//! Invariants: nothing in here prints itself; derivation is a function of the seed alone and never
//! changes (a changed label would orphan every invoice that was handed out).

mod cluster;
mod network;
mod scid;
mod seed;

pub use cluster::{ClusterKeys, Fingerprint};
pub use network::{Network, UnknownNetwork};
pub use scid::{SCID_BLOCK_MAX, SCID_BLOCK_MIN, is_virtual_scid};
pub use seed::{ClusterSeed, SeedError};

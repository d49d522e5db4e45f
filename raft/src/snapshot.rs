//! Snapshots as plain files, and the state machine behind openraft's traits.
//!
//! The state lives in memory only. A restart installs the last snapshot and re-applies the log up to the last
//! entry known to be committed; a lost tail of that knowledge is learnt again from the leader.
//!
//! A snapshot file appears under its name only when it is complete: written under a temporary name, synced,
//! renamed, the directory synced, and only then the others deleted. Header and body carry checksums.
//!
//! * `file`: the format.
//! * `directory`: which files there are.
//! * `machine`: apply, build, install.

mod directory;
mod file;
mod journal;
mod machine;

pub(crate) use directory::SnapshotDirectory;
pub(crate) use file::{SnapshotError, SnapshotFile};
pub(crate) use machine::Machine;

#[cfg(test)]
mod tests;

//! A host's disk: what a process has written, what of it is durable, and what a crash leaves.
//!
//! * `log`: below the replica's log, written in batches and synced. `archive`: the same for what left the state.
//! * `state`: both, how the disk fares, and what an ending does to it.
//!
//! Snapshots are real files below a temporary directory: they are written once, synced and renamed, and the named points
//! (`mux_raft::fault`) cut that in two.

mod archive;
mod log;
mod state;

pub use log::{LogNews, Remains};
pub use state::{Latency, Mood, SimDisk};

#[cfg(test)]
mod tests;

//! The replicated state machine: what the cluster knows and how it decides.
//!
//! Pure and synchronous: a function of the log alone. No IO, no clock, no randomness, no map whose order
//! is unstable; time, block heights and the leader's term reach it only through entries. Same log prefix,
//! same [`State`], same hash on every replica.
//!
//! * [`command`]: what can be proposed, and [`Envelope`], how it stands in the log.
//! * [`reply`]: what applying a command answers.
//! * [`model`]: the records that make up the state and that readers see.
//! * [`state`]: the state and its readers; [`apply`]: its only writer.
//! * [`gate`]: when a complete set may be decided, and what is in the way.
//! * [`archive`]: the records of what is finished, and what applying asks of the archive.
//! * [`level`]: feature levels, which let old and new versions share a log.
//! * [`snapshot`]: the state as bytes.
//!
//! Arithmetic is checked or saturating and nothing indexes: outside input never panics a replica.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod apply;
pub mod archive;
mod archiving;
pub mod command;
mod events;
mod finals;
mod front_nodes;
pub mod gate;
mod heights;
mod index;
mod invoices;
mod keeping;
pub mod level;
mod links;
pub mod model;
mod offer;
mod readers;
mod recall;
pub mod reply;
pub mod restoring;
mod sets;
mod settle;
pub mod snapshot;
pub mod state;
mod stores;
mod timers;

pub use apply::FatalApply;
pub use archive::{ArchiveLookup, ArchiveRecord, ArchiveTip, ArchiveUnreadable, NewRecord};
pub use command::{Command, Envelope, RequestId};
pub use gate::{GateObstacle, GateReport, ObstacleCause};
pub use reply::{Alarm, Applied, Rejection, Reply};
pub use snapshot::SnapshotError;
pub use state::{LogPosition, State};

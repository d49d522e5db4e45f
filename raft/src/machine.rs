//! The replicated state machine: what the cluster knows and how it decides.
//!
//! Pure and synchronous: a function of the log alone. No IO, no clock, no randomness, no map whose order
//! is unstable; time, block heights and the leader's term reach it only through entries. Same log prefix,
//! same [`State`], same hash on every replica.
//!
//! * [`command`]: what can be proposed, and [`Envelope`], how it stands in the log.
//! * [`reply`]: what applying a command answers.
//! * [`model`]: the records that make up the state and that readers see.
//! * [`state`]: the state, its readers and `apply`.

pub mod command;
pub mod model;
pub mod reply;
pub mod state;

pub use command::{Command, Envelope, RequestId};
pub use reply::{Applied, Rejection, Reply};
pub use state::{LogPosition, State};

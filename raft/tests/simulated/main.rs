//! Whole replicas on one thread of a paused runtime: no sockets, no threads, and time passes only when nobody has
//! anything to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod cluster;
mod disk;
mod net;
#[cfg(feature = "faults")]
mod points;
mod rules;
mod speed;

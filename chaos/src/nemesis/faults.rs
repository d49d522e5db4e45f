//! Faults: which, when, to whom, and back.
//!
//! A `deck` says from the seed what comes when; the `engine` owns the cluster, begins each fault, looks after those
//! that go on (several at a time, or one: `alone`), ends them, and notices replicas that end by themselves. Whom a fault hits is decided
//! when it begins, so that without a plan to the contrary a majority always works.

mod alone;
mod begin;
mod deck;
mod disk;
mod engine;
mod kind;
mod lnd;
mod replacing;
mod target;
mod versions;

pub(crate) use deck::Deck;
pub(crate) use disk::SlowDisk;
pub(crate) use engine::{Engine, Happened, Toolbox};
pub(crate) use kind::Kind;
pub(crate) use lnd::mine;
pub(crate) use versions::Upgrade;

//! The engine below the log: where entries, votes and marks are durable.
//!
//! * `engine`: what the log asks of an engine.
//! * `sled`: the engine in use.
//! * `inspect`: what is in a store, for simulations.

mod engine;
#[cfg(any(test, feature = "faults"))]
mod inspect;
mod sled;

pub use self::sled::SledEngine;
pub use engine::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};
#[cfg(any(test, feature = "faults"))]
pub use inspect::{Inspected, InspectedMark, InspectedVote, written};

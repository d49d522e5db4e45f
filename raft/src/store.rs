//! The engine below the log: where entries, votes and marks are durable.
//!
//! * `engine`: what the log asks of an engine.
//! * `sled`: the engine in use.

mod engine;
mod sled;

pub use self::sled::SledEngine;
pub use engine::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};

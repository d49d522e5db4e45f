//! The replica's process: starts everything in order, watches it, stops it in order.
//!
//! Order of starting: seed and keys → HTTP (probes answer while the log is read) → consensus → links →
//! client API → readiness. Of stopping: not ready → links handed over → leadership handed over → API →
//! links → consensus, all within `shutdown.grace_secs` (or what a drain was given).

mod grpc;
mod handled;
mod http;
mod readiness;
mod reload;
mod reloading;
mod run;
pub(crate) mod settings;

pub use grpc::{ApiServer, ApiTls};
pub use http::{HttpServer, router};
pub use readiness::{Check, Readiness};
pub use run::{RunError, run};

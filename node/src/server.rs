//! A replica: starts everything in order, watches it, stops it in order.
//!
//! [`Node`] is all of a replica around its consensus; [`run()`] is the process around both, with listeners, files and
//! signals, and nothing else that decides anything.
//!
//! Order of starting: seed and keys → HTTP (probes answer while the log is read) → consensus → links →
//! client API → readiness. Of stopping: not ready → links handed over → leadership handed over → API →
//! links → consensus, all within `shutdown.grace_secs` (or what a drain was given).

mod grpc;
mod handled;
mod http;
mod node;
mod readiness;
mod reload;
mod reloading;
mod run;
pub(crate) mod settings;

pub use grpc::{ApiRoutes, ApiServer, ApiTls};
pub use http::{HttpServer, router};
pub use node::{Node, NodeConfig, NodeEnd};
pub use readiness::{Check, Readiness};
pub use run::{RunError, run};
pub use settings::replica as replica_config;

//! The replica: onions, invoices, links to LND, and the client API, around the replicated state machine of
//! `mux_raft`.
//!
//! * [`config`], [`init`]: one replica's configuration, and how a cluster's is made.
//! * [`keys`], [`secrets`]: what follows from the cluster's seed.
//! * [`invoice`], [`onion`], [`screen`]: what payers see, and what is made of what they send.
//! * [`link`], [`lnd`]: from LND's interceptor streams to the log and back.
//! * [`api`]: the client API. [`muxcli`]: its command line client. `assign`: who holds which stream.
//! * [`server`]: all of it together ([`server::Node`]), and the process around that, with [`cli`], [`telemetry`],
//!   [`shutdown`]. [`NodeWiring`]: what simulations replace; [`fault`]: where they
//!   step in.

pub mod api;
mod assign;
pub mod cli;
pub mod config;
pub mod fault;
pub mod init;
pub mod invoice;
pub mod keys;
pub mod link;
pub mod lnd;
pub mod muxcli;
pub mod onion;
pub mod restore;
pub mod screen;
pub mod secrets;
pub mod server;
pub mod shutdown;
pub mod telemetry;
mod wiring;

pub use wiring::NodeWiring;

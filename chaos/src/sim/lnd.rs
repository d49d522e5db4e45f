//! Simulated LND nodes as hosts of the simulated world.
//!
//! * `host`: a node's process, its database, the chain that all see. `net`: how replicas reach it. `peer`: how payers do,
//!   who stand for the peers of its channels, and so are part of the node rather than of the network.

mod host;
mod net;
mod peer;

pub use host::{Chain, FORWARD_CHANNEL, LndHost, Running};
pub use net::SimLnds;
pub use peer::{Desk, SimPeer};

use crate::lnd::{LndNet, TlsNet};
use mux_raft::blocking::Blocking;
use mux_raft::clock::{Clock, SystemClock};
use std::sync::Arc;

/// What a replica meets besides consensus: front nodes, time, threads. Simulations bring their own.
#[derive(Clone)]
pub struct NodeWiring {
    /// How front nodes are reached.
    pub lnd: Arc<dyn LndNet>,
    /// How what blocks is run. Never waits for a network.
    pub blocking: Blocking,
    /// The wall clock that invoices are dated by.
    pub clock: Arc<dyn Clock>,
}

impl Default for NodeWiring {
    fn default() -> Self {
        Self { lnd: Arc::new(TlsNet), blocking: Blocking::on_threads(), clock: Arc::new(SystemClock::new()) }
    }
}

//! What breaks things and keeps the books while they break: the simulated LND, the simulated payer, the money
//! ledger, the cluster of real processes, and the demo that tells about it, the nemesis, the benchmark, and the
//! deterministic simulation.

pub mod bench;
pub mod check;
mod child;
pub mod cluster;
pub mod demo;
pub mod ledger;
pub mod lndsim;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod nemesis;
pub mod payer;
pub mod provenance;
pub mod report;
pub mod sim;
pub mod storage;
pub mod story;

//! The parts of the deterministic simulation: what the operating system gives, hosts, and the network between them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

// What is tested here needs the symbols that the program `simulate` has.
#[path = "../../src/sim/entropy/symbols.rs"]
mod symbols;

mod bench;
mod entropy;
mod hosts;
mod network;
mod network_faults;
mod toy;

//! The deterministic simulation: `simulate --help`.

// All randomness of this program follows from seeds. That is why nothing else may be built with this file.
#[path = "../sim/entropy/symbols.rs"]
mod symbols;

use clap::Parser as _;
use mux_chaos::sim::command::{SimulateArgs, simulate};
use std::process::ExitCode;

/// A simulation is one thread that makes small things and forgets them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    simulate(&SimulateArgs::parse())
}

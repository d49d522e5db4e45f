//! Whether the tests find deliberate bugs: `mutants --help`.

// All randomness of this program follows from seeds. That is why nothing else may be built with this file.
#[path = "../sim/entropy/symbols.rs"]
mod symbols;

use clap::Parser as _;
use mux_chaos::mutants::{MutantsArgs, mutants};
use std::process::ExitCode;

fn main() -> ExitCode {
    mutants(&MutantsArgs::parse())
}

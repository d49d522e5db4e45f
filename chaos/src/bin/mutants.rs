//! Whether the tests find deliberate bugs: `mutants --help`.

// All randomness of this program follows from seeds. That is why nothing else may be built with this file.
#[path = "../sim/entropy/symbols.rs"]
mod symbols;

use clap::Parser as _;
use mux_chaos::mutants::{MutantsArgs, STORAGE, mutants};
use std::process::ExitCode;

/// A simulation is one thread that makes small things and forgets them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = std::env::args_os();
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        // The storage suite with a mutant in it, itself with mounts of its own, and the children of that.
        Some(STORAGE) => mux_chaos::storage::main(arguments.skip(1)),
        Some("--inside" | "write" | "read") => mux_chaos::storage::main(arguments),
        _ => mutants(&MutantsArgs::parse()),
    }
}

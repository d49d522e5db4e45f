//! `lndsim`: a simulated LND. See [`mux_chaos::lndsim::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mux_chaos::lndsim::cli::main(std::env::args_os())
}

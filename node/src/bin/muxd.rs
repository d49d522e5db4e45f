//! `muxd`: makes clusters and runs replicas. See [`muxd::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    muxd::cli::main(std::env::args_os())
}

//! `cargo run --release --bin nemesis`: a cluster of real processes, tormented. See `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mux_chaos::nemesis::main(std::env::args_os())
}

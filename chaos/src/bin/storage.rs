//! `cargo run --release --bin storage -- [--rounds N] [--seed S] [--json]`. See `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mux_chaos::storage::main(std::env::args_os())
}

//! `cargo run --release --bin report`: what the tools found, as a page. See `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mux_chaos::report::main(std::env::args_os())
}

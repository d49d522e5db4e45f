//! `cargo run --release --bin demo`: a cluster at work, losing replicas and no money. See `--help`.

use clap::Parser as _;
use mux_chaos::demo;
use std::process::ExitCode;

fn main() -> ExitCode {
    demo::main(demo::Arguments::parse())
}

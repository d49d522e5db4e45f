//! `cargo run --release --bin bench -- [latency|throughput|failover|history|all] [--json]`. See `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mux_chaos::bench::main(std::env::args_os())
}

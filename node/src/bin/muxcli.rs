//! `muxcli`: see [`muxd::muxcli`].

use clap::Parser as _;
use muxd::muxcli::{Cli, Failure, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap's own exit code for a wrong command line is 2 as well.
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::Refused(error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("muxcli: {failure}");
            failure.exit_code()
        }
    }
}

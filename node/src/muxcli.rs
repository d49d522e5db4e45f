//! `muxcli`: the operator's and the shell script's way to the client API.
//!
//! Tables for people, `--json` for programs (its fields only ever grow). Every command says in its exit code
//! what can be done about a failure: see [`Failure`].

mod amount;
mod args;
mod backup;
mod connect;
mod drain;
mod failure;
mod front_node;
mod htlc;
mod invoice;
mod member;
mod output;
mod settings;
mod status;
mod time;
mod watch;

pub use amount::{format_amount, parse_amount};
pub use args::Cli;
pub use failure::Failure;

use args::{Command, RestoreCommand};
use clap::Parser as _;
use connect::Client;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `muxcli` with these arguments, the program's name first.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // clap's own exit code for a wrong command line is 2 as well.
        Err(error) => error.exit(),
    };
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

/// Runs one command, writing its result to standard output.
///
/// # Errors
/// [`Failure`], with the exit code.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let json = cli.json;
    if let Command::Backup(command) = &cli.command
        && let Some(done) = backup::run_here(command, json)
    {
        return output::print(&done?);
    }
    let mut client = Client::connect(&cli.target).await?;
    let text = match cli.command {
        Command::Status => status::status(&mut client, json).await?,
        Command::TransferLeader { target } => status::transfer_leader(&mut client, target, json).await?,
        Command::Invoice(command) => return invoice::run(client, command, json).await,
        Command::Htlc(command) => htlc::run(&mut client, command, json).await?,
        Command::Backup(command) => backup::run(&mut client, command, json).await?,
        Command::Restore(RestoreCommand::Accept) => backup::accept(&mut client, json).await?,
        Command::FrontNode(command) => front_node::run(&mut client, command, json).await?,
        Command::Member(command) => member::run(&mut client, command, json).await?,
        Command::Drain { force } => drain::run(&client, force, json).await?,
        Command::Settings(changes) => settings::run(&mut client, &changes, json).await?,
    };
    output::print(&text)
}

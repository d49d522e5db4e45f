//! The benchmark: three replica processes with durable writes and two simulated LND processes on one machine,
//! measured from the LND nodes' side.
//!
//! * `mint` makes payments ahead of time, `drive` offers them in bulk and keeps the times, which the simulated
//!   LND nodes take;
//! * `latency`, `throughput` (with `invoices`), `failover` and `history` (with `catch_up`) are the measurements;
//! * `machine`, `usage` and `report` say what was measured, on what, and what it came to.

mod args;
mod catch_up;
mod drive;
mod failover;
mod history;
mod invoices;
mod latency;
mod machine;
mod mint;
mod quantiles;
mod report;
mod setup;
mod throughput;
mod usage;

pub use args::{Arguments, Command, Options};
pub use catch_up::CatchUp;
pub use drive::Counts;
pub use failover::Failover;
pub use history::{History, Point, Restart, Size};
pub use invoices::Creation;
pub use latency::Latency;
pub use machine::{Machine, commit, commit_time, machine_in_words};
pub use quantiles::Quantiles;
pub use report::Report;
pub use throughput::{Saturation, Throughput, Trial};
pub use usage::CpuShare;

use crate::{child, cluster::ClusterError, story::Story};
use clap::Parser as _;
use muxd::cli::Disguise;
use std::{ffi::OsString, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Exit codes of a benchmark that was interrupted, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] std::io::Error),
    /// Something that must be there is not.
    #[error("{0}")]
    Missing(String),
}

/// Runs whatever the command line asks for; the first argument is the program's name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // The cluster's processes have command lines of their own, which must not be taken for the benchmark's.
    match arguments.get(1).and_then(|first| first.to_str()) {
        Some("__muxd") => return child::muxd(arguments.split_off(2), Disguise::default()),
        Some("__lndsim") => return child::lndsim(arguments.split_off(2)),
        _ => {}
    }
    let arguments = Arguments::parse_from(arguments);
    let command = arguments.command.unwrap_or(Command::All);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    runtime.block_on(interruptible(command, arguments.options)).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &BenchError) -> ExitCode {
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}

async fn interruptible(command: Command, options: Options) -> Result<ExitCode, BenchError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = Box::pin(measure(command, &options)) => done.map(|()| ExitCode::SUCCESS),
        // Dropping the measurement's future ends every process and removes the directory.
        _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => Ok(ExitCode::from(TERMINATED)),
    }
}

async fn measure(command: Command, options: &Options) -> Result<(), BenchError> {
    let story = Story::begin(
        "Benchmark: three replicas with durable writes and two simulated LND nodes, as processes.",
    );
    let mut report = Report::new(Machine::look(&setup::data_root(options)?)?, options);
    let all = command == Command::All;
    if all || command == Command::Latency {
        report.latency = Some(Box::pin(latency::measure(options, &story)).await?);
    }
    if all || command == Command::Throughput {
        report.throughput = Some(Box::pin(throughput::measure(options, &story)).await?);
    }
    if all || command == Command::Failover {
        report.failover = Some(Box::pin(failover::measure(options, &story)).await?);
    }
    if all || command == Command::History {
        report.history = Some(Box::pin(history::measure(options, &story)).await?);
    }
    report.print(&story);
    if options.json {
        let json = serde_json::to_string(&report).map_err(std::io::Error::from)?;
        story.print(&json);
    }
    Ok(())
}

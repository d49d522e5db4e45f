//! The demo: a cluster of real processes is paid, loses its leader and then a link owner while payments run,
//! and the money is counted at the end.
//!
//! What it does is in `scenario`, who is paid and how in `load`, what it costs to lose a replica in
//! `failover`, what is told at the end in `report`.

mod args;
mod failover;
mod load;
mod report;
mod scenario;
mod try_out;

pub use args::{Arguments, Command, DemoOptions, PayOptions};
pub use failover::{Kill, failover_ms, percentile};
pub use load::{Job, Load, Mix};

use crate::{
    child,
    cluster::{Cluster, ClusterError, ClusterOptions, Executable},
    ledger::{Totals, check::Violation},
    story::Story,
};
use muxd::cli::Disguise;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Exit codes of a demo that was interrupted, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Why the demo could not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] std::io::Error),
    /// A payment that could not even be planned.
    #[error(transparent)]
    Plan(#[from] crate::payer::plan::PlanError),
    /// Something that must be there is not.
    #[error("{0}")]
    Missing(String),
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// Payments by their ends.
    pub totals: Totals,
    /// Replicas that got SIGKILL.
    pub kills: Vec<Kill>,
    /// From a kill to the next answer at a front node concerned, sorted.
    pub failover_ms: Vec<u64>,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
}

/// Runs whatever the command line asks for.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Some(Command::Muxd { feature_level_max, wall_offset_ms, arguments }) => {
            let default = Disguise::default();
            let feature_level_max = feature_level_max.unwrap_or(default.feature_level_max);
            child::muxd(arguments, Disguise { feature_level_max, wall_offset_ms })
        }
        Some(Command::Muxcli { arguments }) => child::muxcli(arguments),
        Some(Command::Lndsim { arguments }) => child::lndsim(arguments),
        Some(Command::Pay(options)) => with_runtime(try_out::pay(options)),
        None => with_runtime(demo(arguments.demo)),
    }
}

fn with_runtime(work: impl Future<Output = Result<ExitCode, DemoError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(work).unwrap_or_else(|error| {
        eprintln!("demo: {error}");
        ExitCode::FAILURE
    })
}

async fn demo(options: DemoOptions) -> Result<ExitCode, DemoError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (cluster, code) = tokio::select! {
        told = Box::pin(tell(&options)) => told?,
        // Dropping the story's future ends every process and removes the directory.
        _ = interrupt.recv() => return Ok(ExitCode::from(INTERRUPTED)),
        _ = terminate.recv() => return Ok(ExitCode::from(TERMINATED)),
    };
    if options.keep {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    drop(cluster);
    Ok(code)
}

async fn tell(options: &DemoOptions) -> Result<(Cluster, ExitCode), DemoError> {
    let story =
        Story::begin("Replicated Lightning multiplexer: one virtual node, two LND nodes, three replicas.");
    let mut setup = ClusterOptions::new(Executable::this()?);
    setup.dir.clone_from(&options.dir);
    setup.seed = options.seed;
    story.say("Starting 2 simulated LND nodes and 3 replicas, each a process of its own, on loopback.");
    let mut cluster = Cluster::start(setup).await?;
    let outcome = scenario::run(&mut cluster, options, &story).await;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            cluster.keep_files();
            eprintln!("demo: data and logs are kept in {}", cluster.dir().display());
            return Err(error);
        }
    };
    let balanced = outcome.violations.is_empty();
    if !balanced {
        cluster.keep_files();
    }
    report::summary(&story, &outcome, &cluster, options.keep || options.dir.is_some() || !balanced);
    let endpoints = if options.keep {
        try_out::commands(&story, &cluster);
        Some(report::endpoints(&cluster))
    } else {
        None
    };
    if options.keep {
        story.say("The cluster stays until SIGINT (Ctrl-C) or SIGTERM.");
    }
    if options.json {
        story.print(&report::json(&outcome, endpoints).to_string());
    }
    Ok((cluster, if balanced { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

//! The program `simulate`: many seeds, each in a process of its own.
//!
//! * `one`: runs a seed, and reports in one line of JSON. `child`: starts that in a process. `many`: starts those, and sums up.

mod child;
mod many;
mod one;

pub use child::{Child, Here};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Of a run, unless something else is asked for.
const SECONDS: u64 = 60;

/// Simulated clusters under faults, deterministically. Exits with 0 if nothing went wrong, and everything happened that
/// must have happened for the runs to count; with 5 if something of that never did; with 1 if something went wrong. Fewer than
/// 200 seeds cannot meet everything: nothing is asked of them, and they never count. What is rare must have happened from 1,000
/// on.
#[derive(Clone, Debug, Parser)]
#[command(name = "simulate")]
pub struct SimulateArgs {
    /// How many seeds
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated hours in all, divided among the seeds
    #[arg(long, conflicts_with = "seconds")]
    hours: Option<f64>,
    /// Simulated seconds with faults of each seed [default: 60]
    #[arg(long)]
    seconds: Option<u64>,
    /// Seeds that run at the same time [default: as many as there are cores]
    #[arg(long)]
    jobs: Option<usize>,
    /// Print one JSON object with the result as the last line
    #[arg(long)]
    json: bool,
    /// Runs each seed twice and compares what happened
    #[arg(long)]
    twice: bool,
    /// Prints what happened, one column a host
    #[arg(long)]
    trace: bool,
    /// Where to write what happened in seeds that fail [default: the directory for temporary files]
    #[arg(long)]
    traces: Option<PathBuf>,
    /// Calls every seed a failure, to show what becomes of one
    #[arg(long, hide = true)]
    doctor: bool,
    #[command(flatten)]
    here: Here,
}

impl SimulateArgs {
    fn child(&self, seed: u64) -> Child {
        Child { seed, time: self.each(), trace: self.trace, mutant: None, doctored: self.doctor }
    }

    fn each(&self) -> Duration {
        match (self.seconds, self.hours) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, Some(hours)) => {
                let seconds = hours * 3600.0 / to_f64(self.seeds.max(1));
                Duration::from_secs(Duration::from_secs_f64(seconds.max(1.0)).as_secs())
            }
            (None, None) => Duration::from_secs(SECONDS),
        }
    }
}

/// For ratios that people read.
fn to_f64(number: u64) -> f64 {
    // Exact up to 2^32, which is enough here.
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Runs the program.
#[must_use]
pub fn simulate(args: &SimulateArgs) -> ExitCode {
    args.here.run().unwrap_or_else(|| many::run(args))
}

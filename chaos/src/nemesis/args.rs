//! The command line.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;

/// Torments a cluster of real processes, each replica in a network namespace of its own, while clients pay, settle,
/// cancel and look; then compares what they saw with what was promised.
///
/// Exit codes: 0 everything that was promised was kept; 1 something was not; 5 nothing was found, but some kind of fault that
/// this machine allows never happened, or there was nothing to judge, so the run does not count; 4 it could not be run; 2 the
/// command line is wrong.
#[derive(Clone, Debug, Parser)]
#[command(name = "nemesis", version)]
pub struct Arguments {
    /// How long faults are made, in minutes.
    #[arg(long, default_value_t = 3.0, value_name = "M")]
    pub minutes: f64,
    /// Of everything that is left to chance. Printed if it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print one JSON object with the result as the last line.
    #[arg(long)]
    pub json: bool,
    /// Only these kinds of faults, by their names in the report.
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    pub kinds: Vec<String>,
    /// After so many seconds of faults everything is mended and must recover; the next round follows. In one
    /// round the cluster settles by itself, in the next an application does, in the third faults come one at a time.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub round: u64,
    /// Where the processes run.
    #[arg(long, value_enum, default_value_t = Network::Auto)]
    pub network: Network,
    /// An older `muxd`, for the faults in which versions change. Without it this one stands in, as it was at the first
    /// feature level.
    #[arg(long, value_name = "PATH")]
    pub previous: Option<PathBuf>,
    /// The commit that it is of, for the report: it does not tell itself.
    #[arg(long, value_name = "COMMIT", requires = "previous")]
    pub previous_commit: Option<String>,
    /// Build that binary from the last commit of the version before this one.
    #[arg(long, conflicts_with = "previous")]
    pub build_previous: bool,
    /// Keep data and logs here instead of in a temporary directory. Must be empty or absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Falsifies what was seen before it is checked: the checks must notice.
    #[arg(long, value_enum, value_delimiter = ',', hide = true)]
    pub doctor: Vec<Doctor>,
    /// It runs in namespaces of its own, made by the run of this number.
    #[arg(long, hide = true, value_name = "RUN")]
    pub inside: Option<u32>,
    /// Only tries whether zones can be made.
    #[arg(long, hide = true)]
    pub probe: bool,
}

/// Where the processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// In zones where they can be made, else on loopback.
    Auto,
    /// Each in a network namespace of its own, or not at all.
    Zones,
    /// On loopback, with relays between them.
    Loopback,
}

/// What is falsified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Doctor {
    /// A lookup that finds nothing.
    History,
    /// A payment that was settled and is not.
    Ledger,
    /// An event that nobody saw.
    Events,
}

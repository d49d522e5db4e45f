//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures a cluster of three replica processes with durable writes and two simulated LND nodes, all on this
/// machine. Everything runs on loopback in a temporary directory. Without a command: all of them.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How.
    #[command(flatten)]
    pub options: Options,
}

/// How it is measured.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Print one JSON object with the result as the last line.
    #[arg(long, global = true)]
    pub json: bool,
    /// Small counts, a few seconds each: shows that it works, measures nothing.
    #[arg(long, global = true)]
    pub quick: bool,
    /// Keep data and logs below this directory (and measure its file system) instead of in a temporary one.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// latency: payments through each link.
    #[arg(long, global = true, value_name = "N", default_value_t = 2_000)]
    pub samples: usize,
    /// throughput, history: how long each measurement at saturation lasts.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    pub seconds: u64,
    /// throughput, history: payments under way at a time; by default several are tried.
    #[arg(long, global = true, value_name = "N")]
    pub window: Option<usize>,
    /// failover: how often each kind.
    #[arg(long, global = true, value_name = "N", default_value_t = 30)]
    pub kills: usize,
    /// failover: only these kinds (see the report for their names).
    #[arg(long, global = true, value_name = "KIND")]
    pub kind: Vec<String>,
    /// history: settled invoices.
    #[arg(long, global = true, value_name = "N", default_value_t = 1_000_000)]
    pub invoices: usize,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Offered → SETTLE at low load, the link owner being leader and follower.
    Latency,
    /// Payments a second at saturation, and the making of invoices.
    Throughput,
    /// From SIGKILL or SIGSTOP of a replica to the next HTLC that is settled.
    Failover,
    /// Memory, disk, restart and throughput after many settled invoices.
    History,
    /// All of these.
    All,
}

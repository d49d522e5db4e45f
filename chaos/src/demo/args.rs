//! The command line.

use clap::{Args, Parser, Subcommand};
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

/// Pays a cluster of three replicas and two simulated LND nodes, kills replicas meanwhile, and counts the
/// money. Everything runs on loopback in a temporary directory. Exit code 0 only if the ledger balances.
#[derive(Debug, Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Something else than the demo.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The demo.
    #[command(flatten)]
    pub demo: DemoOptions,
}

/// How the demo runs.
#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// How many payments to make.
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub payments: usize,
    /// Print one JSON object with the result as the last line.
    #[arg(long)]
    pub json: bool,
    /// Leave the cluster running until SIGINT or SIGTERM.
    #[arg(long)]
    pub keep: bool,
    /// Keep data and logs here instead of in a temporary directory. Must be empty or absent.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Of every random choice of the payer and the LND nodes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Everything but the demo.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pays an invoice of a cluster that `demo --keep` left running.
    Pay(PayOptions),
    /// A replica, as a child of the demo.
    #[command(name = "__muxd", hide = true, disable_help_flag = true)]
    Muxd {
        /// It stands in for an older version, which knows the log's feature levels up to this one.
        #[arg(long, value_name = "LEVEL")]
        feature_level_max: Option<u16>,
        /// It stands in for one with a wrong clock: added to its wall clock, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 0, allow_hyphen_values = true)]
        wall_offset_ms: i64,
        /// Those of `muxd`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// The operator's command, as a child of the demo.
    #[command(name = "__muxcli", hide = true, disable_help_flag = true)]
    Muxcli {
        /// Those of `muxcli`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// A simulated LND, as a child of the demo.
    #[command(name = "__lndsim", hide = true, disable_help_flag = true)]
    Lndsim {
        /// Those of `lndsim`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Who pays what.
#[derive(Debug, Args)]
pub struct PayOptions {
    /// BOLT 11.
    pub invoice: String,
    /// Control port of a simulated LND that the payer has channels to; may be repeated.
    #[arg(long, required = true, value_name = "IP:PORT")]
    pub lnd: Vec<SocketAddr>,
    /// For an invoice that leaves the amount to the payer.
    #[arg(long, value_name = "MSAT")]
    pub amount_msat: Option<u64>,
    /// Into how many parts to split it.
    #[arg(long, default_value_t = 1)]
    pub parts: usize,
}

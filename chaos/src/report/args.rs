//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Writes down what the tools found: adds up the JSON that their runs wrote, together with the list of bugs found so far.
///
/// A file may be JSON, or whatever a tool printed with --json as its last line. Figures come from these files alone.
#[derive(Clone, Debug, Parser)]
#[command(name = "report", version)]
pub struct Arguments {
    /// Of nemesis --json.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub nemesis: Vec<PathBuf>,
    /// Of simulate --json.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub simulate: Vec<PathBuf>,
    /// Of simulate, nemesis or storage with --json, of an earlier commit: listed with what failed there, and not summed up. For
    /// runs that were made again after what failed was mended. Refused if a --simulate file has seeds of one and is not of a
    /// later commit (git is asked)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub superseded: Vec<PathBuf>,
    /// Of storage --json.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub storage: Vec<PathBuf>,
    /// Of mutants --json.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub mutants: Vec<PathBuf>,
    /// The bugs found so far.
    #[arg(long, value_name = "FILE", default_value = "chaos/bugs.toml")]
    pub bugs: PathBuf,
    /// What is written.
    #[arg(long, value_name = "FILE", default_value = "chaos/REPORT.md")]
    pub out: PathBuf,
}

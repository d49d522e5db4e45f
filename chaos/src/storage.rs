//! What a replica has acknowledged is there after the worst that may happen to its machine.
//!
//! A replica runs as a child process on a file system of its own (ext4 on a loop device) and says what it has
//! acknowledged. Then the power goes: the file system is shut down without flushing its journal, so that dirty
//! pages and whatever was not committed are gone. (Killing a process proves nothing about that: the kernel keeps
//! what it wrote. The disk's own cache survives here, so this finds missing syncs, not lying disks.) It is mounted
//! again, another child opens it, and everything that was acknowledged must be found as it was.
//!
//! * `enclosure`: mounts of its own. `disk`: the file system. `writer` and `reader`: the children. `rounds`: what happens in each round, `turns`: at which
//!   point; `damage`: bytes that flip and files that are cut short. `report`: what it came to.

mod damage;
mod disk;
mod enclosure;
mod ledger;
mod reader;
mod report;
mod rounds;
mod turns;
mod writer;

pub(crate) use rounds::{POINTS, ROUNDS_PER_DISK, ROUNDS_THAT_COUNT};

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Nothing was shown, because this machine cannot show it.
pub(crate) const NOT_RUN: u8 = 3;

/// Runs a replica on a file system whose power fails, whose space ends, whose writes fail or are short, whose bytes flip, and looks whether
/// everything that it acknowledged is there afterwards.
#[derive(Debug, Parser)]
#[command(name = "storage", version)]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    /// How often something happens to the replica.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// The same choices again. The moments are real time: a run with the same seed is alike, not the same.
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object with the result as the last line.
    #[arg(long)]
    json: bool,
    /// The mounts are this run's own already: of the process with this number.
    #[arg(long, hide = true)]
    inside: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// A child: runs the replica and says what it acknowledges.
    #[command(hide = true)]
    Write {
        dir: PathBuf,
        /// The number of the first invoice.
        first: u64,
        /// Stop at this point,
        #[arg(long, requires = "nth")]
        point: Option<String>,
        /// when it is met for this time.
        #[arg(long)]
        nth: Option<u64>,
        /// Once it leads, its log's file may get only so many bytes longer. It makes no snapshots then.
        #[arg(long)]
        short: Option<u64>,
    },
    /// A child: looks whether what it reads from its standard input is there.
    #[command(hide = true)]
    Read { dir: PathBuf },
}

/// Runs whatever the command line asks for; the first argument is the program's name.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = Arguments::parse_from(&given);
    match arguments.child {
        Some(Child::Write { dir, first, point, nth, short }) => {
            writer::main(&dir, first, point.zip(nth.or(Some(1))), short)
        }
        Some(Child::Read { dir }) => reader::main(&dir),
        None if arguments.inside.is_some() => disk::obstacle().map_or_else(|| torment(&arguments), not_run),
        None => enclosure::obstacle().map_or_else(|| enclosed(&given), not_run),
    }
}

fn not_run(obstacle: String) -> ExitCode {
    println!("NOT RUN: {obstacle}. Nothing is shown about power cuts on this machine.");
    ExitCode::from(NOT_RUN)
}

fn enclosed(given: &[OsString]) -> ExitCode {
    let error = enclosure::enter(given.get(1..).unwrap_or_default());
    eprintln!("storage: the run cannot be started with mounts of its own: {error}");
    ExitCode::FAILURE
}

fn torment(arguments: &Arguments) -> ExitCode {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!("storage: {} rounds, seed {seed}. {}", arguments.rounds, again(arguments.rounds, seed));
    match rounds::run(arguments.rounds, seed) {
        Ok(report) => {
            report.print(arguments.json);
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("storage: {error:#}. {}", again(arguments.rounds, seed));
            ExitCode::FAILURE
        }
    }
}

/// The command that does the same again, as far as that is possible.
fn again(rounds: usize, seed: u64) -> String {
    format!(
        "Again: cargo run --release --bin storage -- --rounds {rounds} --seed {seed} (the same choices; moments are real \
         time, so what is under way at one differs)"
    )
}

//! Whether the suite finds bugs that are planted on purpose ([`mux_raft::mutant`]): a suite that passes whatever is
//! broken proves nothing.
//!
//! Each mutant lives through the simulation's seeds, one after the other, until something that must not happen is noticed.
//! The same seeds must pass without it, so that it is the mutant that was found. Five of one replica's disk
//! meet the storage suite as well, which must pass without them, too.
//!
//! * `hunt`: looks for one in the simulation; `disk`: in the storage suite. `report`: what it came to.

mod disk;
mod hunt;
mod report;

pub use disk::STORAGE;

use crate::provenance::Provenance;
use crate::sim::command::Here;
use clap::Parser;
use hunt::Hunter;
use mux_raft::mutant::Mutant;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Plants one bug after the other and looks whether the simulation finds it, and the storage suite those of the disk (where
/// this machine cannot run it, it says so and only the simulation's word counts). Exits with 0 if they find all.
#[derive(Clone, Debug, Parser)]
#[command(name = "mutants")]
pub struct MutantsArgs {
    /// Only this one (may be repeated)
    #[arg(long, value_parser = named)]
    only: Vec<Mutant>,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated seconds with faults of each seed
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Real seconds after which a mutant has survived
    #[arg(long, default_value_t = 300)]
    budget_seconds: u64,
    /// Seeds that run at the same time [default: as many as there are cores]
    #[arg(long)]
    jobs: Option<usize>,
    /// Writes what it came to as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes what it came to as a page of documentation
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Says what the mutants are, and ends
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    here: Here,
}

fn named(name: &str) -> Result<Mutant, String> {
    Mutant::named(name).ok_or_else(|| "no such mutant; --list names them".to_owned())
}

/// Runs the program.
#[must_use]
pub fn mutants(args: &MutantsArgs) -> ExitCode {
    if let Some(code) = args.here.run() {
        return code;
    }
    if args.list {
        Mutant::ALL.iter().for_each(|mutant| println!("{:28} {}", mutant.name(), mutant.what()));
        return ExitCode::SUCCESS;
    }
    // Before anything else: what is checked out at the end may be another commit.
    drop(Provenance::here());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let hunter = Hunter::new(
        args.seed,
        Duration::from_secs(args.seconds),
        Duration::from_secs(args.budget_seconds),
        args.jobs.unwrap_or(cores).max(1),
    );
    let chosen = if args.only.is_empty() { Mutant::ALL } else { &args.only };
    let on_disk = chosen.iter().any(|mutant| disk::concerns(*mutant));
    let mut report = Report::new(args.seconds, args.budget_seconds, on_disk.then(|| disk::run(None)));
    for mutant in chosen {
        let mut found = hunter.hunt(*mutant);
        if disk::concerns(*mutant) {
            found.on_disk = Some(disk::run(Some(*mutant)));
        }
        println!("{found}");
        report.add(found);
    }
    println!("\n{}", report.table());
    let files = [(&args.json, report.json()), (&args.markdown, report.markdown())];
    for (path, text) in files {
        let Some(path) = path else { continue };
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("mutants: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

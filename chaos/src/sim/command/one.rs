use crate::sim::swarm::Swarm;
use crate::sim::world::{Outcome, World};
use crate::sim::{entropy, panics, random};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;

/// Lines of the trace that are kept, if it is asked for: far more than a run of some minutes has.
const LINES: usize = 200_000;
/// Unoptimised futures are large.
const STACK_BYTES: usize = 64 << 20;
/// Linux: nanoseconds on a CPU, nanoseconds waiting for one, turns.
const SCHEDULED: &str = "/proc/thread-self/schedstat";
/// Where files cost nothing, if the system has it.
const MEMORY: &str = "/dev/shm";

/// What a process reports of its seed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// Milliseconds of CPU time, which do not depend on what else the machine does.
    pub(crate) cpu_ms: u64,
}

/// Runs a seed in this process, which must be fresh, and prints the report as the last line.
pub(super) fn run(seed: u64, time: Duration, with_trace: bool, doctored: bool) -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stderr).init();
    }
    panics::keep();
    // Threads of their own have not drawn anything yet.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        entropy::seed_thread(random::seed_of(seed, "operating system"));
        simulate(seed, time, with_trace, doctored)
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(report))) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Ok(Ok(Err(error))) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: starting a thread: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Of this thread so far, which is the only one that simulates; 0 if the system does not say.
fn cpu_ms() -> u64 {
    let text = std::fs::read_to_string(SCHEDULED).unwrap_or_default();
    let nanoseconds: u64 = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0);
    nanoseconds / 1_000_000
}

fn simulate(seed: u64, time: Duration, with_trace: bool, doctored: bool) -> Result<String, String> {
    let dir = if Path::new(MEMORY).is_dir() { TempDir::new_in(MEMORY) } else { TempDir::new() };
    let dir = dir.map_err(|error| format!("a directory for snapshots: {error}"))?;
    let started = cpu_ms();
    let keep = if with_trace { LINES } else { 0 };
    let (mut outcome, trace) = World::new(Swarm::draw(seed), dir.path(), keep).run(time);
    let cpu_ms = cpu_ms().saturating_sub(started);
    if doctored {
        outcome.violations.push("doctored: nothing else is wrong".into());
    }
    if with_trace {
        println!("{}", trace.table());
    }
    serde_json::to_string(&Report { outcome, cpu_ms }).map_err(|error| error.to_string())
}

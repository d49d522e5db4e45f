mod told;

use super::one::Report;
use super::{SimulateArgs, to_f64};
use crate::sim::coverage::Coverage;
use crate::sim::swarm::FaultKind;
use crate::sim::world::PaymentCounts;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use told::{Failure, Told};

/// Real time after which a seed is taken to hang: this, and as long as it would take at real speed.
const PATIENCE: Duration = Duration::from_secs(120);
/// From so many seeds on everything required must have happened.
const SEEDS_THAT_COUNT: u64 = 200;
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(2);

/// What all seeds add up to.
#[derive(Debug, Default)]
struct Sum {
    coverage: Coverage,
    faults: BTreeMap<FaultKind, u64>,
    seeds: u64,
    failed: u64,
    simulated_ms: u64,
    cpu_ms: u64,
    acknowledged: u64,
    entries: u64,
    terms: u64,
    healed_ms_max: u64,
    failures: Vec<Failure>,
    payments: PaymentCounts,
}

pub(super) fn run(args: &SimulateArgs) -> ExitCode {
    let (sum, next, started) = (Mutex::new(Sum::default()), AtomicU64::new(0), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds {
                        return;
                    }
                    let seed = args.seed.saturating_add(number);
                    let result = run_seed(args, seed);
                    add(args, seed, result, &mut sum.lock());
                }
            });
        }
    });
    tell(args, &sum.into_inner(), started.elapsed())
}

/// Runs a seed, twice if asked for.
fn run_seed(args: &SimulateArgs, seed: u64) -> Result<Report, String> {
    let first = run_process(args, seed)?;
    if args.twice {
        let second = run_process(args, seed)?;
        if first.outcome != second.outcome {
            return Err(format!(
                "it does not repeat: {} events with hash {}, then {} with {}",
                first.outcome.events,
                first.outcome.trace_hash,
                second.outcome.events,
                second.outcome.trace_hash
            ));
        }
    }
    Ok(first)
}

fn run_process(args: &SimulateArgs, seed: u64) -> Result<Report, String> {
    let failed = |doing: &str, error: &dyn std::fmt::Display| format!("{doing}: {error}");
    let program = std::env::current_exe().map_err(|error| failed("finding this program", &error))?;
    let mut command = Command::new(program);
    command.args(["--here", "--seed", &seed.to_string(), "--seconds", &args.each().as_secs().to_string()]);
    if args.trace {
        command.arg("--trace");
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(if args.trace || std::env::var_os("RUST_LOG").is_some() {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .spawn()
        .map_err(|error| failed("starting a process", &error))?;
    let Some(mut output) = child.stdout.take() else { return Err("a process without output".into()) };
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE + args.each();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("it hangs".into());
            }
            Err(error) => return Err(failed("waiting for a process", &error)),
        }
    };
    let text = reader.join().map_err(|_| "reading a process's output panicked".to_owned())?;
    let text = text.map_err(|error| failed("reading a process's output", &error))?;
    let text = text.trim_end();
    let (before, last) = text.rsplit_once('\n').unwrap_or(("", text));
    if args.trace {
        println!("{before}");
    }
    serde_json::from_str(last)
        .map_err(|error| format!("its process ended with {status} and no report ({error})"))
}

fn add(args: &SimulateArgs, seed: u64, result: Result<Report, String>, sum: &mut Sum) {
    sum.seeds += 1;
    let problems = match result {
        Ok(report) => {
            let outcome = report.outcome;
            sum.coverage.add(&outcome.coverage);
            for (kind, times) in &outcome.faults {
                *sum.faults.entry(*kind).or_default() += times;
            }
            sum.simulated_ms += outcome.simulated_ms;
            sum.cpu_ms += report.cpu_ms;
            sum.acknowledged += outcome.proposals.acknowledged;
            sum.entries += outcome.entries;
            sum.terms += outcome.terms;
            sum.payments.add(&outcome.payments);
            sum.healed_ms_max = sum.healed_ms_max.max(outcome.healed_in_ms.unwrap_or(0));
            if args.seeds == 1 {
                println!("trace {} of {} events", outcome.trace_hash, outcome.events);
            }
            outcome.violations
        }
        Err(problem) => vec![problem],
    };
    if !problems.is_empty() {
        sum.failed += 1;
        println!("seed {seed} FAILED");
        problems.iter().for_each(|problem| println!("  {problem}"));
        sum.failures.extend(problems.into_iter().map(|evidence| Failure { seed, evidence }));
        let seconds = args.each().as_secs();
        println!(
            "  again: cargo run --release --bin simulate -- --seeds 1 --seed {seed} --seconds {seconds} --trace"
        );
    }
}

fn tell(args: &SimulateArgs, sum: &Sum, took: Duration) -> ExitCode {
    println!("\n{} seeds of {} s with faults, {} failed", sum.seeds, args.each().as_secs(), sum.failed);
    println!(
        "simulated {:.2} h in {:.1} s: {:.0} times real time on a core (by CPU time)",
        to_f64(sum.simulated_ms / 1000) / 3600.0,
        took.as_secs_f64(),
        to_f64(sum.simulated_ms) / to_f64(sum.cpu_ms.max(1))
    );
    println!(
        "{} terms with a leader, {} entries, {} acknowledged; longest time to heal {} ms",
        sum.terms, sum.entries, sum.acknowledged, sum.healed_ms_max
    );
    let PaymentCounts { begun, settled, failed, htlcs, forwards, calls, events } = sum.payments;
    println!(
        "{begun} payments in {htlcs} HTLCs ({settled} settled, {failed} failed), {forwards} forwards passed; {calls} calls \
         and {events} events checked"
    );
    println!("faults: {:?}", sum.faults);
    println!("happened:");
    for (condition, times) in sum.coverage.counts() {
        println!("  {times:>8}  {}", condition.text());
    }
    let missing = sum.coverage.missing();
    for condition in &missing {
        println!("     NEVER  {}", condition.text());
    }
    let counts = missing.is_empty() || args.seeds < SEEDS_THAT_COUNT;
    if !counts {
        println!("the runs do not count: not everything happened that must");
    }
    if args.json {
        println!("{}", serde_json::to_string(&Told::new(args, sum, counts)).unwrap_or_default());
    }
    if sum.failed == 0 && counts { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

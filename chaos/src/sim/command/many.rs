mod told;

use super::child::Child;
use super::one::Report;
use super::{SimulateArgs, to_f64};
use crate::sim::coverage::{Coverage, Need};
use crate::sim::swarm::FaultKind;
use crate::sim::world::{PaymentCounts, needed_points};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use told::{Failure, Told};

/// From so many seeds on everything required must have happened.
const SEEDS_THAT_COUNT: u64 = 200;
/// From so many on what is rare must have happened, too.
const SEEDS_FOR_RARE: u64 = 1_000;

/// What all seeds add up to.
#[derive(Debug, Default)]
struct Sum {
    coverage: Coverage,
    faults: BTreeMap<FaultKind, u64>,
    points: BTreeMap<String, u64>,
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

impl Sum {
    /// What must have happened, as this says, and never did.
    fn missing(&self, need: Need) -> Vec<String> {
        let conditions = self.coverage.missing(need).into_iter().map(|condition| condition.text().to_owned());
        let points = needed_points(need).filter(|point| !self.points.contains_key(*point));
        conditions.chain(points.map(|point| format!("a replica died at {point}"))).collect()
    }
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
    let child = Child { seed, time: args.each(), trace: args.trace, mutant: None };
    let first = child.run()?;
    if args.twice {
        let second = child.run()?;
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

fn add(args: &SimulateArgs, seed: u64, result: Result<Report, String>, sum: &mut Sum) {
    sum.seeds += 1;
    let problems = match result {
        Ok(report) => {
            let outcome = report.outcome;
            sum.coverage.add(&outcome.coverage);
            for (kind, times) in &outcome.faults {
                *sum.faults.entry(*kind).or_default() += times;
            }
            for (point, times) in &outcome.points {
                *sum.points.entry(point.clone()).or_default() += times;
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
    println!("died at: {:?}", sum.points);
    let (missing, rare) = (sum.missing(Need::Required), sum.missing(Need::InMany));
    missing.iter().for_each(|text| println!("     NEVER  {text}"));
    rare.iter().for_each(|text| println!("     NEVER  {text} (which is rare)"));
    let counts = (missing.is_empty() || args.seeds < SEEDS_THAT_COUNT)
        && (rare.is_empty() || args.seeds < SEEDS_FOR_RARE);
    if !counts {
        println!("the runs do not count: not everything happened that must");
    }
    if args.json {
        println!("{}", serde_json::to_string(&Told::new(args, sum, counts)).unwrap_or_default());
    }
    if sum.failed == 0 && counts { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

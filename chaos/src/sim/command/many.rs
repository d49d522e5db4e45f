mod told;

use super::one::Report;
use super::{SimulateArgs, to_f64};
use crate::provenance::Provenance;
use crate::sim::coverage::{Coverage, Need};
use crate::sim::swarm::FaultKind;
use crate::sim::world::{PaymentCounts, needed_points};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use told::{Failure, Told};

/// From so many seeds on everything required must have happened; fewer do not count.
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
    /// Every seed that healed, and how long it took.
    healed_ms: Vec<(u64, u64)>,
    failures: Vec<Failure>,
    payments: PaymentCounts,
}

impl Sum {
    /// What must have happened, as this says, and never did.
    fn missing(&self, need: Need) -> Vec<String> {
        let conditions = self.coverage.missing(need).into_iter().map(|condition| condition.text().to_owned());
        let points = needed_points(need).filter(|point| !self.points.contains_key(*point));
        let points = points.map(|point| format!("a replica died at {point}"));
        // A run has some kinds of faults and not others: few runs need not have met all.
        let kinds = FaultKind::ALL.into_iter().filter(|_| need == Need::InMany);
        let faults = kinds.filter(|kind| !self.faults.contains_key(kind));
        conditions.chain(points).chain(faults.map(|kind| format!("the fault {kind:?}"))).collect()
    }
}

pub(super) fn run(args: &SimulateArgs) -> ExitCode {
    // Before anything else: what is checked out at the end may be another commit.
    drop(Provenance::here());
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
                    // Not while others wait to add theirs.
                    let kept = keep_trace(args, seed, &result);
                    add(args, seed, (result, kept), &mut sum.lock());
                }
            });
        }
    });
    tell(args, &sum.into_inner(), started.elapsed())
}

/// Runs a seed, twice if asked for.
fn run_seed(args: &SimulateArgs, seed: u64) -> Result<Report, String> {
    let child = args.child(seed);
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

fn add(
    args: &SimulateArgs,
    seed: u64,
    (result, kept): (Result<Report, String>, Option<String>),
    sum: &mut Sum,
) {
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
            sum.healed_ms.extend(outcome.healed_in_ms.map(|ms| (seed, ms)));
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
        problems.iter().chain(&kept).for_each(|line| println!("  {line}"));
        sum.failures.extend(problems.into_iter().map(|evidence| Failure { seed, evidence }));
        let seconds = args.each().as_secs();
        println!(
            "  again: cargo run --release --bin simulate -- --seeds 1 --seed {seed} --seconds {seconds} --trace"
        );
    }
}

/// Where what happened was written, if something went wrong: the seed is run once more for that. None: all is well, or it was
/// printed already.
fn keep_trace(args: &SimulateArgs, seed: u64, result: &Result<Report, String>) -> Option<String> {
    let failed = result.as_ref().map_or(true, |report| !report.outcome.violations.is_empty());
    if args.trace || !failed {
        return None;
    }
    let dir = args.traces.clone().unwrap_or_else(std::env::temp_dir);
    if result.is_err() {
        let path = dir.join(format!("simulate-{seed}.stderr"));
        let opened = std::fs::create_dir_all(&dir).and_then(|()| std::fs::File::create(&path));
        return Some(match opened.map(|file| args.child(seed).last_words(file)) {
            Ok(()) => format!("what it said: {}", path.display()),
            Err(error) => format!("what it said could not be written down: {error}"),
        });
    }
    let trace = args.child(seed).trace();
    Some(match trace.and_then(|trace| write_trace(&dir, seed, &trace).map_err(|error| error.to_string())) {
        Ok(path) => format!("what happened: {}", path.display()),
        Err(error) => format!("what happened could not be written down: {error}"),
    })
}

fn write_trace(dir: &Path, seed: u64, trace: &str) -> std::io::Result<PathBuf> {
    let path = dir.join(format!("simulate-{seed}.trace"));
    std::fs::create_dir_all(dir)?;
    std::fs::write(&path, trace)?;
    Ok(path)
}

/// Exit code: nothing was wrong, and not everything happened that must. As that of the nemesis.
const DOES_NOT_COUNT: u8 = 5;

fn tell_payments(paid: &PaymentCounts) {
    let PaymentCounts { begun, settled, failed, failed_unintended, partial, undecided, .. } = *paid;
    println!(
        "{begun} payments in {} HTLCs: {settled} settled, {} failed as they must or may, {failed_unintended} though they \
         were right, {partial} in part, {undecided} without an end",
        paid.htlcs,
        failed.saturating_sub(failed_unintended)
    );
    println!(
        "{} of {} forwards passed; {} calls and {} events checked",
        paid.forwards, paid.forwards_begun, paid.calls, paid.events
    );
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
        sum.terms,
        sum.entries,
        sum.acknowledged,
        sum.healed_ms.iter().map(|(_, ms)| *ms).max().unwrap_or(0)
    );
    tell_payments(&sum.payments);
    println!("faults: {:?}", sum.faults);
    println!("happened:");
    for (condition, times) in sum.coverage.counts() {
        println!("  {times:>8}  {}", condition.text());
    }
    println!("died at: {:?}", sum.points);
    let (missing, rare) = (sum.missing(Need::Required), sum.missing(Need::InMany));
    missing.iter().for_each(|text| println!("     NEVER  {text}"));
    rare.iter().for_each(|text| println!("     NEVER  {text} (which is rare)"));
    let few = sum.seeds < SEEDS_THAT_COUNT;
    let lacks = !few && !missing.is_empty() || sum.seeds >= SEEDS_FOR_RARE && !rare.is_empty();
    if few {
        println!("fewer than {SEEDS_THAT_COUNT} seeds: a look, and not a run that counts");
    }
    if lacks {
        println!("the runs do not count: not everything happened that must");
    }
    if args.json {
        println!("{}", serde_json::to_string(&Told::new(args, sum, !few && !lacks)).unwrap_or_default());
    }
    match (sum.failed, lacks) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(DOES_NOT_COUNT),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn what_the_report_tells_of_healing_is_of_the_seeds_that_were_written() {
        let line: Line = clap::Parser::parse_from(["simulate", "--seeds", "300"]);
        let healed_ms = vec![(1, 70), (5, 900), (4, 900), (2, 30)];
        let sum = Sum { seeds: 300, healed_ms, ..Sum::default() };
        let mut told = serde_json::to_value(Told::new(&line.args, &sum, true)).unwrap();
        // A test is no release build of what is checked out.
        told["run"] = serde_json::json!({"commit": "abc1234", "release_build": true});
        let page = crate::report::of_simulation(&told.to_string());
        let healed = "(simulated), of 4 seeds: p50 70 ms, p95 – ms, max 900 ms (seed 4).";
        assert!(page.contains(healed), "{page}");
        let row = |line: &str| {
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
                == ["log.synced", "0"]
        };
        assert!(page.lines().any(row), "a point that nobody died at is told:\n{page}");
    }

    #[test]
    fn a_kind_of_fault_that_never_happened_is_missing_in_many_seeds() {
        let kinds = FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::LndFails);
        let sum = Sum { faults: kinds.map(|kind| (kind, 1)).collect(), ..Sum::default() };
        let faults = |need| {
            sum.missing(need).into_iter().filter(|text| text.starts_with("the fault ")).collect::<Vec<_>>()
        };
        assert_eq!(faults(Need::InMany), ["the fault LndFails"]);
        assert_eq!(faults(Need::Required), [""; 0]);
    }

    #[test]
    fn what_happened_is_written_to_a_file_of_the_seed() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = write_trace(&dir.path().join("new"), 17, "what happened").unwrap();
        assert!(path.ends_with("simulate-17.trace"), "{}", path.display());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "what happened");
    }
}

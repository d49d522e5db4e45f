use super::report::Found;
use crate::sim::command::Child;
use mux_raft::mutant::Mutant;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// By what it was caught.
struct Caught {
    seed: u64,
    how: String,
    seconds: f64,
}

/// Looks for mutants.
#[derive(Debug)]
pub(super) struct Hunter {
    first_seed: u64,
    time: Duration,
    budget: Duration,
    jobs: usize,
    /// What is wrong with a seed that has no mutant, by seed. It is the same for all mutants.
    sound: Mutex<BTreeMap<u64, Option<String>>>,
}

impl Hunter {
    pub(super) fn new(first_seed: u64, time: Duration, budget: Duration, jobs: usize) -> Self {
        Self { first_seed, time, budget, jobs, sound: Mutex::default() }
    }

    /// Runs seeds with the mutant until one is not as it must be, then the same ones without it.
    pub(super) fn hunt(&self, mutant: Mutant) -> Found {
        let (started, next) = (Instant::now(), AtomicU64::new(self.first_seed));
        let caught: Mutex<Option<Caught>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while caught.lock().is_none() && started.elapsed() < self.budget {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let Some(how) = self.problem(seed, Some(mutant)) else { continue };
                        let after = started.elapsed();
                        let mut caught = caught.lock();
                        // Of those that run at the same time the first seed counts.
                        if caught.as_ref().is_none_or(|other| seed < other.seed) {
                            *caught = Some(Caught { seed, how, seconds: after.as_secs_f64() });
                        }
                    }
                });
            }
        });
        let (caught, end) = (caught.into_inner(), next.into_inner());
        let took = started.elapsed().as_secs_f64();
        let last = caught.as_ref().map_or_else(|| end.saturating_sub(1), |caught| caught.seed);
        let unsound = self.unsound(self.first_seed..=last);
        Found {
            name: mutant.name(),
            description: mutant.what(),
            caught: caught.is_some() && unsound.is_empty(),
            seed: caught.as_ref().map(|caught| caught.seed),
            seconds: caught.as_ref().map_or(took, |caught| caught.seconds),
            how: caught.map(|caught| caught.how),
            seeds: last + 1 - self.first_seed,
            unsound,
        }
    }

    /// What is wrong with these seeds although nothing is planted.
    fn unsound(&self, seeds: std::ops::RangeInclusive<u64>) -> Vec<String> {
        let known: Vec<u64> = self.sound.lock().keys().copied().collect();
        let todo: Vec<u64> = seeds.clone().filter(|seed| !known.contains(seed)).collect();
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while let Some(seed) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                        .ok()
                        .and_then(|number| todo.get(number))
                    {
                        let problem = self.problem(*seed, None);
                        self.sound.lock().insert(*seed, problem);
                    }
                });
            }
        });
        let sound = self.sound.lock();
        let problems = sound.range(seeds).filter_map(|(seed, problem)| {
            problem.as_ref().map(|problem| format!("seed {seed} without it: {problem}"))
        });
        problems.collect()
    }

    /// What is wrong with a seed.
    fn problem(&self, seed: u64, mutant: Option<Mutant>) -> Option<String> {
        let child = Child { seed, time: self.time, trace: false, mutant: mutant.map(Mutant::name) };
        match child.run() {
            Ok(report) => report.outcome.violations.into_iter().next(),
            Err(problem) => Some(problem),
        }
    }
}

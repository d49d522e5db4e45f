use super::report::Found;
use crate::sim::command::Child;
use mux_raft::mutant::Mutant;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is wrong with a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    /// Something that must not happen: a panic of a replica is among these.
    Violation(String),
    /// There is no report: no process could be started, it hangs, it ended without one.
    Error(String),
}

/// What a seed shows.
fn problem_of(result: Result<Vec<String>, String>) -> Option<Problem> {
    match result {
        Ok(violations) => violations.into_iter().next().map(Problem::Violation),
        Err(error) => Some(Problem::Error(error)),
    }
}

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
    sound: Mutex<BTreeMap<u64, Option<Problem>>>,
}

impl Hunter {
    pub(super) fn new(first_seed: u64, time: Duration, budget: Duration, jobs: usize) -> Self {
        Self { first_seed, time, budget, jobs, sound: Mutex::default() }
    }

    /// Runs seeds with the mutant until one is not as it must be, then the same ones without it.
    pub(super) fn hunt(&self, mutant: Mutant) -> Found {
        let (started, next) = (Instant::now(), AtomicU64::new(self.first_seed));
        let caught: Mutex<Option<Caught>> = Mutex::new(None);
        let errors = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    while caught.lock().is_none() && started.elapsed() < self.budget {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let how = match self.problem(seed, Some(mutant)) {
                            None => continue,
                            Some(Problem::Violation(how)) => how,
                            Some(Problem::Error(error)) => {
                                errors.lock().insert(seed, format!("seed {seed}: {error}"));
                                // The next one would most likely come to the same.
                                return;
                            }
                        };
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
        let (unsound, without) = self.unsound(self.first_seed..=last);
        let errors: Vec<_> = errors.into_inner().into_values().chain(without).collect();
        Found {
            name: mutant.name(),
            description: mutant.what(),
            caught: caught.is_some() && unsound.is_empty() && errors.is_empty(),
            seed: caught.as_ref().map(|caught| caught.seed),
            seconds: caught.as_ref().map_or(took, |caught| caught.seconds),
            how: caught.map(|caught| caught.how),
            seeds: last + 1 - self.first_seed,
            unsound,
            errors,
            on_disk: None,
        }
    }

    /// What is wrong with these seeds although nothing is planted, and which of them have no result.
    fn unsound(&self, seeds: std::ops::RangeInclusive<u64>) -> (Vec<String>, Vec<String>) {
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
        let (mut unsound, mut errors) = (Vec::new(), Vec::new());
        for (seed, problem) in sound.range(seeds) {
            match problem {
                None => {}
                Some(Problem::Violation(how)) => unsound.push(format!("seed {seed} without it: {how}")),
                Some(Problem::Error(error)) => errors.push(format!("seed {seed} without it: {error}")),
            }
        }
        (unsound, errors)
    }

    /// What is wrong with a seed.
    fn problem(&self, seed: u64, mutant: Option<Mutant>) -> Option<Problem> {
        let child =
            Child { seed, time: self.time, trace: false, mutant: mutant.map(Mutant::name), doctored: false };
        problem_of(child.run().map(|report| report.outcome.violations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_without_a_report_catches_nothing() {
        assert_eq!(problem_of(Ok(Vec::new())), None);
        let violations = vec!["lost".to_owned(), "twice".to_owned()];
        assert_eq!(problem_of(Ok(violations)), Some(Problem::Violation("lost".into())));
        assert_eq!(problem_of(Err("it hangs".into())), Some(Problem::Error("it hangs".into())));
    }

    #[test]
    fn a_hunt_whose_seeds_have_no_report_has_errors_and_has_caught_nothing() {
        // This test's program knows nothing of seeds: it ends without a report.
        let hunter = Hunter::new(3, Duration::from_secs(1), Duration::from_secs(60), 1);
        let found = hunter.hunt(Mutant::ALL[0]);
        assert!(!found.caught && found.seed.is_none() && found.unsound.is_empty(), "{found}");
        assert!(found.errors.iter().any(|error| error.starts_with("seed 3: ")), "{found}");
        assert!(found.errors.iter().any(|error| error.starts_with("seed 3 without it: ")), "{found}");
    }
}

//! Several runs of a tool as one, and whether a run counts.

use super::read::{Mutants, Nemesis, Payments, Simulate, Storage};
use crate::provenance::Provenance;
use std::collections::BTreeMap;

/// One run, for the list of all.
pub(super) struct Run<'a> {
    pub(super) provenance: &'a Provenance,
    /// How much of it: minutes, hours, rounds.
    pub(super) extent: String,
    pub(super) violations: usize,
    /// Why it does not count.
    pub(super) void: Option<String>,
}

/// A tool's result.
pub(super) trait Result {
    /// See [`Run`].
    fn run(&self) -> Run<'_>;
}

/// Those that count.
pub(super) fn counting<T: Result>(results: &[T]) -> impl Iterator<Item = &T> {
    results.iter().filter(|result| result.run().void.is_none())
}

/// A build without optimisation shows no times, and a run of unknown origin nothing.
fn void(provenance: &Provenance, own: Option<String>) -> Option<String> {
    if provenance.commit.is_empty() {
        return Some("of unknown commit and machine".into());
    }
    if provenance.commit.starts_with("before ") {
        return Some(format!("built {}, from nobody knows what", provenance.commit));
    }
    own.or_else(|| (!provenance.release_build).then(|| "not a release build".into()))
}

fn never(what: &[String]) -> Option<String> {
    (!what.is_empty()).then(|| format!("never happened: {}", what.join(", ")))
}

impl Result for Nemesis {
    fn run(&self) -> Run<'_> {
        let never_happened = self.faults_by_kind.iter().filter(|(_, times)| **times == 0);
        let never_happened: Vec<String> = never_happened.map(|(kind, _)| kind.clone()).collect();
        let own = match never(&never_happened) {
            // A run that found something ends early. What it found counts.
            _ if !self.violations.is_empty() || self.counts => None,
            None => Some("it says so itself".into()),
            some => some,
        };
        let network = if self.zones { "zones" } else { "loopback" };
        Run {
            provenance: &self.run,
            extent: format!(
                "{} min, seed {}, {network}, versions: {}",
                self.minutes,
                self.seed,
                self.versions()
            ),
            violations: self.violations.len(),
            void: void(&self.run, own),
        }
    }
}

impl Nemesis {
    /// Without the place of the other binary.
    fn versions(&self) -> String {
        match self.versions.split_once(" and /") {
            Some((this, _)) => format!("{this} and a previous binary"),
            None if self.versions.is_empty() => "not told".into(),
            None => self.versions.clone(),
        }
    }
}

impl Result for Simulate {
    fn run(&self) -> Run<'_> {
        let first = self.seed.unwrap_or(1);
        let last = first.saturating_add(self.seeds.saturating_sub(1));
        let own = match (self.counts, never(&self.missing)) {
            (Some(false), None) => Some("it says so itself".into()),
            (Some(true), _) => None,
            (_, never) => never,
        };
        Run {
            provenance: &self.run,
            extent: format!("{:.2} h simulated, seeds {first} to {last}", self.hours()),
            violations: self.violations.len().max(usize::try_from(self.failed).unwrap_or(usize::MAX)),
            void: void(&self.run, own),
        }
    }
}

impl Result for Storage {
    fn run(&self) -> Run<'_> {
        let rounds: u64 = self.rounds.values().sum();
        Run {
            provenance: &self.run,
            extent: format!("{rounds} rounds, seed {}", self.seed),
            violations: self.violations.len(),
            void: void(&self.run, never(&self.missed)),
        }
    }
}

impl Result for Mutants {
    fn run(&self) -> Run<'_> {
        let caught = self.mutants.iter().filter(|mutant| mutant.caught).count();
        Run {
            provenance: &self.run,
            extent: format!("{caught} of {} found", self.mutants.len()),
            violations: 0,
            // Its times are not told.
            void: void(&Provenance { release_build: true, ..self.run.clone() }, None),
        }
    }
}

/// By name, added up.
pub(super) fn add<'a>(maps: impl IntoIterator<Item = &'a BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (name, times) in maps.into_iter().flatten() {
        *sum.entry(name.clone()).or_default() += times;
    }
    sum
}

/// Every measured value of every run, by name, in order.
pub(super) fn merge<'a>(
    maps: impl IntoIterator<Item = &'a BTreeMap<String, Vec<u64>>>,
) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (name, values) in maps.into_iter().flatten() {
        all.entry(name.clone()).or_default().extend(values);
    }
    all.values_mut().for_each(|values| values.sort_unstable());
    all
}

/// Of several runs.
pub(super) fn payments(all: impl Iterator<Item = Payments>) -> Payments {
    all.fold(Payments::default(), |sum, one| Payments {
        payments: sum.payments + one.payments,
        settled: sum.settled + one.settled,
        failed: sum.failed + one.failed,
        failed_unintended: sum.failed_unintended + one.failed_unintended,
        partial: sum.partial + one.partial,
        undecided: sum.undecided + one.undecided,
        settled_msat: sum.settled_msat + one.settled_msat,
        htlcs: sum.htlcs + one.htlcs,
        forwards: sum.forwards + one.forwards,
        forwards_passed: sum.forwards_passed + one.forwards_passed,
    })
}

//! Several runs of a tool as one, and whether a run counts.

use super::read::{Mutants, Nemesis, OnDisk, Payments, Simulate, SimulatedPayments, Storage};
use crate::{provenance::Provenance, storage::ROUNDS_THAT_COUNT};
use std::collections::{BTreeMap, BTreeSet};

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

/// The commits of the runs that count, in order.
pub(super) fn commits<'a>(runs: impl IntoIterator<Item = &'a Run<'a>>) -> Vec<&'a str> {
    let counting = runs.into_iter().filter(|run| run.void.is_none());
    let commits: BTreeSet<_> = counting.map(|run| run.provenance.commit.as_str()).collect();
    commits.into_iter().collect()
}

/// Two runs of the simulation that count and have a seed in common, by their places: it would be counted twice.
pub(super) fn overlap(results: &[Simulate]) -> Option<(usize, usize)> {
    let counting: Vec<_> = results.iter().enumerate().filter(|(_, one)| one.run().void.is_none()).collect();
    counting.iter().enumerate().find_map(|(at, (one, first))| {
        let (from, to) = first.seeds();
        let meets = |other: &Simulate| other.seeds().0 <= to && from <= other.seeds().1;
        let other = counting[at + 1..].iter().find(|(_, other)| meets(other))?;
        Some((*one, other.0))
    })
}

/// A build without optimisation shows no times, and a run of unknown origin nothing.
fn void(provenance: &Provenance, own: Option<String>) -> Option<String> {
    if provenance.commit.is_empty() {
        return Some("of unknown commit and machine".into());
    }
    if provenance.commit.starts_with("before ") {
        return Some(format!("built {}, from nobody knows what", provenance.commit));
    }
    if provenance.commit.ends_with('+') {
        return Some(format!("of changed sources, and not of {}", provenance.commit.trim_end_matches('+')));
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
                "{}, seed {}, {network}, versions: {}, side by side: {}",
                self.minutes_in_words(),
                self.seed,
                self.versions(),
                self.mixed_versions_seconds
                    .map_or_else(|| "not told".into(), |seconds| format!("{seconds} s"))
            ),
            violations: self.violations.len(),
            void: void(&self.run, own),
        }
    }
}

impl Nemesis {
    /// For which faults were made.
    pub(super) fn minutes_run(&self) -> f64 {
        self.minutes_run.unwrap_or(self.minutes)
    }

    pub(super) fn minutes_in_words(&self) -> String {
        let (run, asked) = (self.minutes_run(), self.minutes);
        if run < asked { format!("{run:.1} of {asked} min") } else { format!("{asked} min") }
    }

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
        let (first, last) = self.seeds();
        let own = match (self.counts, never(&self.missing)) {
            (Some(false), None) => Some("it says so itself".into()),
            (Some(true), _) => None,
            (_, never) => never,
        };
        Run {
            provenance: &self.run,
            extent: format!(
                "{:.2} h simulated, seeds {first} to {last}, {} s each",
                self.hours(),
                self.seconds
            ),
            violations: self.violations.len().max(usize::try_from(self.failed).unwrap_or(usize::MAX)),
            void: void(&self.run, own),
        }
    }
}

impl Simulate {
    /// The first and the last.
    pub(super) fn seeds(&self) -> (u64, u64) {
        let first = self.seed.unwrap_or(1);
        (first, first.saturating_add(self.seeds.saturating_sub(1)))
    }
}

impl Result for Storage {
    fn run(&self) -> Run<'_> {
        let rounds: u64 = self.rounds.values().sum();
        let few = rounds < ROUNDS_THAT_COUNT && self.violations.is_empty();
        let few = few.then(|| format!("{rounds} rounds, fewer than {ROUNDS_THAT_COUNT}"));
        Run {
            provenance: &self.run,
            extent: format!("{rounds} rounds, seed {}", self.seed),
            violations: self.violations.len(),
            void: void(&self.run, never(&self.missed).or(few)),
        }
    }
}

impl Result for Mutants {
    fn run(&self) -> Run<'_> {
        let caught = self.mutants.iter().filter(|mutant| mutant.was_found()).count();
        Run {
            provenance: &self.run,
            extent: format!("{caught} of {} found", self.mutants.len()),
            violations: 0,
            // Its times are told only of release builds.
            void: void(&Provenance { release_build: true, ..self.run.clone() }, self.unsound()),
        }
    }
}

impl Mutants {
    /// Why nothing that was noticed is due to a mutant.
    fn unsound(&self) -> Option<String> {
        match self.sound_on_disk.as_ref()? {
            OnDisk::Noticed { what, .. } => {
                Some(format!("without any mutant the storage suite notices, too: {what}"))
            }
            OnDisk::Failed(why) => Some(format!("without any mutant the storage suite has no result: {why}")),
            OnDisk::Nothing { .. } | OnDisk::NotRun => None,
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

/// Of several runs of the simulation. What one of them did not count is not known of all.
pub(super) fn simulated(all: impl Iterator<Item = SimulatedPayments>) -> SimulatedPayments {
    let both = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
    let none = SimulatedPayments {
        failed_unintended: Some(0),
        partial: Some(0),
        undecided: Some(0),
        forwards_begun: Some(0),
        ..SimulatedPayments::default()
    };
    all.fold(none, |sum, one| SimulatedPayments {
        begun: sum.begun + one.begun,
        settled: sum.settled + one.settled,
        failed: sum.failed + one.failed,
        failed_unintended: both(sum.failed_unintended, one.failed_unintended),
        partial: both(sum.partial, one.partial),
        undecided: both(sum.undecided, one.undecided),
        htlcs: sum.htlcs + one.htlcs,
        forwards: sum.forwards + one.forwards,
        forwards_begun: both(sum.forwards_begun, one.forwards_begun),
        calls: sum.calls + one.calls,
        events: sum.events + one.events,
    })
}

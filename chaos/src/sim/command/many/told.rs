//! What all seeds came to, for machines.

use super::Sum;
use crate::provenance::Provenance;
use crate::sim::command::{SimulateArgs, to_f64};
use crate::sim::coverage::Need;
use crate::sim::swarm::FaultKind;
use crate::sim::world::PaymentCounts;
use serde::Serialize;
use std::collections::BTreeMap;

/// What went wrong with a seed.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) evidence: String,
}

/// The seed whose cluster took longest to heal.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct SlowestHeal {
    seed: u64,
    /// From its last fault until all had converged.
    seconds: f64,
}

impl SlowestHeal {
    /// Of what the seeds took. The first of those that took as long, whichever was done first.
    fn of(healed: &[(u64, u64)]) -> Option<Self> {
        let (seed, ms) = healed.iter().max_by_key(|(seed, ms)| (*ms, std::cmp::Reverse(*seed)))?;
        Some(Self { seed: *seed, seconds: to_f64(*ms) / 1000.0 })
    }
}

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    run: Provenance,
    /// The first.
    seed: u64,
    seeds: u64,
    /// Of each, with faults.
    seconds: u64,
    simulated_ms: u64,
    /// Of all seeds together.
    cpu_ms: u64,
    faults: &'a BTreeMap<FaultKind, u64>,
    happened: BTreeMap<&'static str, u64>,
    missing: Vec<String>,
    /// How often a replica died at each named point.
    points: &'a BTreeMap<String, u64>,
    counts: bool,
    failed: u64,
    violations: &'a [Failure],
    terms: u64,
    entries: u64,
    acknowledged: u64,
    payments: PaymentCounts,
    healed_ms_max: u64,
    /// Of every seed that healed, in order.
    healed_ms: Vec<u64>,
    slowest_heal: Option<SlowestHeal>,
}

impl<'a> Told<'a> {
    pub(super) fn new(args: &SimulateArgs, sum: &'a Sum, counts: bool) -> Self {
        let missing = [Need::Required, Need::InMany].map(|need| sum.missing(need)).concat();
        let mut healed_ms: Vec<u64> = sum.healed_ms.iter().map(|(_, ms)| *ms).collect();
        healed_ms.sort_unstable();
        Self {
            run: Provenance::here(),
            seed: args.seed,
            seeds: sum.seeds,
            seconds: args.each().as_secs(),
            simulated_ms: sum.simulated_ms,
            cpu_ms: sum.cpu_ms,
            faults: &sum.faults,
            happened: sum.coverage.counts().iter().map(|(met, times)| (met.text(), *times)).collect(),
            missing,
            points: &sum.points,
            counts,
            failed: sum.failed,
            violations: &sum.failures,
            terms: sum.terms,
            entries: sum.entries,
            acknowledged: sum.acknowledged,
            payments: sum.payments,
            healed_ms_max: healed_ms.last().copied().unwrap_or(0),
            healed_ms,
            slowest_heal: SlowestHeal::of(&sum.healed_ms),
        }
    }
}

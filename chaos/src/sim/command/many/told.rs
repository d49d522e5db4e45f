//! What all seeds came to, for machines.

use super::Sum;
use crate::provenance::Provenance;
use crate::sim::command::SimulateArgs;
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
}

impl<'a> Told<'a> {
    pub(super) fn new(args: &SimulateArgs, sum: &'a Sum, counts: bool) -> Self {
        let missing = [Need::Required, Need::InMany].map(|need| sum.missing(need)).concat();
        let mut healed_ms = sum.healed_ms.clone();
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
            healed_ms_max: sum.healed_ms.iter().copied().max().unwrap_or(0),
            healed_ms,
        }
    }
}

use crate::sim::coverage::Counts;
use crate::sim::net::Traffic;
use crate::sim::payments::Payments;
use crate::sim::swarm::FaultKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it followed from.
    pub seed: u64,
    /// Over everything that happened. The same for the same seed, time and program.
    pub trace_hash: String,
    /// How much that was.
    pub events: u64,
    /// How long it was in the world.
    pub simulated_ms: u64,
    /// From the last fault until all had converged.
    pub healed_in_ms: Option<u64>,
    /// Terms that had a leader.
    pub terms: u64,
    /// The last entry that was applied.
    pub entries: u64,
    /// What applications asked for.
    pub proposals: Proposals,
    /// What payers did.
    pub payments: PaymentCounts,
    /// What passed between hosts.
    pub traffic: Traffic,
    /// Faults, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How often a replica died at each named point.
    pub points: BTreeMap<String, u64>,
    /// What happened that must happen.
    pub coverage: Counts,
    /// What must not happen and did.
    pub violations: Vec<String>,
}

/// How payments ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentCounts {
    /// All.
    pub begun: u64,
    /// Settled.
    pub settled: u64,
    /// Failed, as they should have or not.
    pub failed: u64,
    /// HTLCs sent.
    pub htlcs: u64,
    /// Forwards that passed.
    pub forwards: u64,
    /// Calls that are checked for an order.
    pub calls: u64,
    /// Events that all subscribers saw.
    pub events: u64,
}

impl PaymentCounts {
    pub(super) fn of(payments: &Payments) -> Self {
        let totals = payments.totals();
        Self {
            begun: totals.payments,
            settled: totals.settled,
            failed: totals.failed,
            htlcs: totals.htlcs,
            forwards: totals.forwards_passed,
            calls: payments.calls(),
            events: payments.events_seen(),
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.settled += other.settled;
        self.failed += other.failed;
        self.htlcs += other.htlcs;
        self.forwards += other.forwards;
        self.calls += other.calls;
        self.events += other.events;
    }
}

/// What became of the commands that applications proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Certainly not in the log.
    pub unavailable: u64,
    /// Nobody knew; most were proposed again.
    pub unknown: u64,
    /// Died with their process.
    pub abandoned: u64,
}

use crate::sim::coverage::Counts;
use crate::sim::net::Traffic;
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
    /// What passed between hosts.
    pub traffic: Traffic,
    /// Faults, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// What happened that must happen.
    pub coverage: Counts,
    /// What must not happen and did.
    pub violations: Vec<String>,
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

//! What the tools write, as far as it is of interest here. Fields that are not known are passed over, and those that
//! are missing are none: the tools may change, and other tools' words for the same are understood.

use crate::provenance::Provenance;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// A file that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct ReadError {
    pub(super) file: String,
    pub(super) why: String,
}

impl ReadError {
    pub(super) fn new(file: &Path, why: impl ToString) -> Self {
        Self { file: file.display().to_string(), why: why.to_string() }
    }
}

/// Of `nemesis`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Nemesis {
    pub(super) run: Provenance,
    pub(super) seed: u64,
    pub(super) minutes: f64,
    /// Fewer if it ended early; not told by older ones.
    pub(super) minutes_run: Option<f64>,
    pub(super) counts: bool,
    pub(super) zones: bool,
    pub(super) versions: String,
    /// While two versions ran and faults were made; not told by older ones.
    pub(super) mixed_versions_seconds: Option<u64>,
    /// How clocks were made wrong.
    pub(super) clocks: String,
    pub(super) faults_by_kind: BTreeMap<String, u64>,
    pub(super) left_out: Vec<LeftOut>,
    /// Those of older runs were of other faults, too, and are not read.
    pub(super) waits_ms: BTreeMap<String, Vec<u64>>,
    pub(super) healed_ms: Vec<u64>,
    pub(super) payments: Payments,
    pub(super) invoices: u64,
    pub(super) calls: u64,
    pub(super) calls_unknown: u64,
    pub(super) events: u64,
    pub(super) violations: Vec<Value>,
}

/// A kind of fault that the machine did not allow.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeftOut {
    pub(super) kind: String,
    pub(super) why: String,
}

/// As [`crate::ledger::Totals`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payments {
    pub(super) payments: u64,
    pub(super) settled: u64,
    pub(super) failed: u64,
    pub(super) failed_unintended: u64,
    pub(super) partial: u64,
    pub(super) undecided: u64,
    pub(super) settled_msat: u64,
    pub(super) htlcs: u64,
    pub(super) forwards: u64,
    pub(super) forwards_passed: u64,
}

/// As [`crate::sim::world::PaymentCounts`]: the simulation counts other things than the nemesis. What older runs did not
/// count is `None`, not 0.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SimulatedPayments {
    pub(super) begun: u64,
    pub(super) settled: u64,
    pub(super) failed: u64,
    pub(super) failed_unintended: Option<u64>,
    pub(super) partial: Option<u64>,
    pub(super) undecided: Option<u64>,
    pub(super) htlcs: u64,
    /// Those that passed.
    pub(super) forwards: u64,
    pub(super) forwards_begun: Option<u64>,
    pub(super) calls: u64,
    pub(super) events: u64,
}

/// Of `simulate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Simulate {
    pub(super) run: Provenance,
    #[serde(alias = "first_seed")]
    pub(super) seed: Option<u64>,
    pub(super) seeds: u64,
    /// Of each seed, with faults.
    pub(super) seconds: u64,
    pub(super) simulated_ms: Option<u64>,
    pub(super) cpu_ms: u64,
    #[serde(alias = "hours")]
    pub(super) simulated_hours: Option<f64>,
    pub(super) faults: BTreeMap<String, u64>,
    #[serde(alias = "coverage", alias = "conditions")]
    pub(super) happened: BTreeMap<String, u64>,
    #[serde(alias = "never")]
    pub(super) missing: Vec<String>,
    /// How often a replica died at each named point.
    pub(super) points: BTreeMap<String, u64>,
    pub(super) counts: Option<bool>,
    pub(super) failed: u64,
    #[serde(alias = "failures", alias = "failed_seeds")]
    pub(super) violations: Vec<Value>,
    pub(super) payments: SimulatedPayments,
    pub(super) acknowledged: u64,
    pub(super) entries: u64,
    pub(super) terms: u64,
    pub(super) healed_ms_max: u64,
    /// Of every seed that healed; older runs tell only the longest.
    pub(super) healed_ms: Vec<u64>,
    /// Not told by older ones.
    pub(super) slowest_heal: Option<SlowestHeal>,
}

/// The seed that took longest to heal.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SlowestHeal {
    pub(super) seed: u64,
}

impl Simulate {
    pub(super) fn hours(&self) -> f64 {
        let of_ms =
            self.simulated_ms.map(|ms| f64::from(u32::try_from(ms / 1000).unwrap_or(u32::MAX)) / 3600.0);
        of_ms.or(self.simulated_hours).unwrap_or(0.0)
    }
}

/// Of `storage`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Storage {
    pub(super) run: Provenance,
    pub(super) seed: u64,
    pub(super) rounds: BTreeMap<String, u64>,
    pub(super) points: BTreeMap<String, u64>,
    pub(super) missed: Vec<String>,
    pub(super) refused: u64,
    pub(super) unharmed: u64,
    /// Rounds in which a write was really short.
    pub(super) short: u64,
    /// Each once; not told by older ones.
    pub(super) acknowledged: Option<u64>,
    /// Looks for one of them; not told by older ones.
    pub(super) looked_for: Option<u64>,
    /// Looks that found it.
    pub(super) found: u64,
    pub(super) violations: Vec<Value>,
}

/// Of `mutants`: deliberate bugs, and whether they were found.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mutants {
    pub(super) run: Provenance,
    /// Simulated seconds of a seed.
    pub(super) seconds: u64,
    #[serde(alias = "results")]
    pub(super) mutants: Vec<Mutant>,
    /// What the storage suite says without any.
    pub(super) sound_on_disk: Option<OnDisk>,
}

/// As the mutants' own: what the storage suite came to with one of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnDisk {
    Noticed { what: String, seconds: f64 },
    Nothing { seconds: f64 },
    NotRun,
    Failed(String),
}

/// One of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mutant {
    #[serde(alias = "mutant")]
    pub(super) name: String,
    #[serde(alias = "what", alias = "text")]
    pub(super) description: String,
    #[serde(alias = "found", alias = "killed")]
    pub(super) caught: bool,
    #[serde(alias = "by", alias = "evidence", alias = "violation")]
    pub(super) how: Value,
    pub(super) seed: Option<u64>,
    #[serde(alias = "seeds_tried")]
    pub(super) seeds: Option<u64>,
    /// Real time until it was caught.
    #[serde(rename = "seconds")]
    pub(super) real_seconds: Option<f64>,
    /// Seeds that fail without it as well: they show nothing.
    pub(super) unsound: Vec<String>,
    /// Seeds that came to no result, with it or without.
    pub(super) errors: Vec<String>,
    /// Only of those that the storage suite is tried on.
    pub(super) on_disk: Option<OnDisk>,
}

impl Mutant {
    /// By everybody who should have.
    pub(super) fn was_found(&self) -> bool {
        self.no_result().is_none()
            && self.caught
            && !matches!(self.on_disk, Some(OnDisk::Nothing { .. } | OnDisk::Failed(_)))
    }
}

impl Mutant {
    /// Why whatever was noticed shows nothing.
    pub(super) fn no_result(&self) -> Option<String> {
        let unsound = self.unsound.first().map(|why| format!("NOTHING SHOWN: {why}"));
        unsound.or_else(|| self.errors.first().map(|why| format!("NO RESULT: {why}")))
    }

    /// Whether it was found, in words.
    pub(super) fn found(&self) -> String {
        let told = match (self.caught, &self.on_disk) {
            (false, _) => "NOT FOUND",
            (true, Some(OnDisk::Nothing { .. })) => "NOT on a real disk",
            (true, Some(OnDisk::Failed(_))) => "NO RESULT on a real disk",
            (true, _) => "yes",
        };
        self.no_result().unwrap_or_else(|| told.to_owned())
    }
}

/// The whole file is JSON, or its last line that looks like it.
pub(super) fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ReadError> {
    let text = std::fs::read_to_string(file).map_err(|error| ReadError::new(file, error))?;
    parse(&text).map_err(|error| ReadError::new(file, error))
}

pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    match serde_json::from_str(text) {
        Err(error) => {
            let last = text.lines().rev().find(|line| line.starts_with('{'));
            last.map_or(Err(error), serde_json::from_str)
        }
        read => read,
    }
}

use super::rounds::{Kind, ROUNDS_THAT_COUNT};
use crate::provenance::Provenance;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) run: Provenance,
    pub(super) seed: u64,
    /// Rounds by kind.
    pub(super) rounds: BTreeMap<Kind, u64>,
    /// How often the power went, or the process was killed, at each point.
    pub(super) points: BTreeMap<&'static str, u64>,
    /// Points that must be met and were not, in a run that is long enough.
    pub(super) missed: Vec<&'static str>,
    /// Damaged directories that were refused, and those that the damage did no harm.
    pub(super) refused: u64,
    pub(super) unharmed: u64,
    /// Rounds in which a write of the log was really short: some of it was written, the rest refused.
    pub(super) short: u64,
    /// Acknowledgements that were found again, each as often as it was looked for.
    pub(super) found: u64,
    /// What was not as it was acknowledged.
    pub(super) violations: Vec<String>,
}

impl Report {
    pub(super) fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }

    /// Too short to show anything.
    fn is_short(&self) -> bool {
        self.rounds.values().sum::<u64>() < ROUNDS_THAT_COUNT
    }

    pub(super) fn print(&self, json: bool) {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["What happened", "times"]);
        for (kind, times) in &self.rounds {
            table.add_row([kind.text().to_owned(), times.to_string()]);
        }
        for (point, times) in &self.points {
            table.add_row([format!("… at {point}"), times.to_string()]);
        }
        println!("\n{table}");
        println!(
            "Damaged directories: {} refused, {} unharmed. Writes cut short: {}. Acknowledgements looked for and found: {}.",
            self.refused, self.unharmed, self.short, self.found
        );
        for violation in &self.violations {
            println!("VIOLATION: {violation}");
        }
        if !self.missed.is_empty() {
            println!("The run does not count: never: {}.", self.missed.join(", "));
        }
        if self.is_short() {
            println!("Fewer than {ROUNDS_THAT_COUNT} rounds: a look, and not a run that counts.");
        }
        if json {
            println!("{}", serde_json::to_string(self).unwrap_or_default());
        }
    }
}

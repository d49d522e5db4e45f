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
    /// Acknowledgements that the replica made, each once: what it may have lost is among these.
    pub(super) acknowledged: u64,
    /// How often one was looked for: after every round all of the data directory's so far.
    pub(super) looked_for: u64,
    /// Of these looks, those after rounds with nothing amiss.
    pub(super) found: u64,
    /// What was not as it was acknowledged.
    pub(super) violations: Vec<String>,
}

impl Report {
    /// So many acknowledgements were looked for at once, and the reader said this.
    pub(super) fn looked(&mut self, acknowledgements: u64, said: &str) {
        self.looked_for += acknowledgements;
        match said {
            "good" => self.found += acknowledgements,
            other => self.violations.push(other.to_owned()),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }

    /// Too short to show anything.
    fn is_short(&self) -> bool {
        self.rounds.values().sum::<u64>() < ROUNDS_THAT_COUNT
    }

    fn acknowledgements(&self) -> String {
        format!(
            "Acknowledgements: {} were made. After every round all so far were looked for: {} looks, {} found.",
            self.acknowledged, self.looked_for, self.found
        )
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
            "Damaged directories: {} refused, {} unharmed. Writes cut short: {}.",
            self.refused, self.unharmed, self.short
        );
        println!("{}", self.acknowledgements());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_counted_once_and_each_look_for_it_too() {
        let mut report = Report::default();
        report.looked(3, "good");
        report.looked(5, "good");
        report.acknowledged += 5;
        let told = report.acknowledgements();
        assert!(told.contains("5 were made") && told.contains("8 looks, 8 found"), "{told}");
        assert!(report.violations.is_empty());
    }

    #[test]
    fn what_was_looked_for_where_something_was_lost_is_not_told_as_found() {
        let mut report = Report::default();
        report.looked(3, "good");
        report.looked(4, "bad 1 things: invoice 2 is lost");
        report.acknowledged += 4;
        let json = serde_json::to_value(&report).unwrap();
        for (field, count) in [("acknowledged", 4), ("looked_for", 7), ("found", 3)] {
            assert_eq!(json[field], count, "{field}");
        }
        assert_eq!(report.violations, ["bad 1 things: invoice 2 is lost"]);
    }
}

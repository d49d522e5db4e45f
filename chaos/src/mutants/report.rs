use crate::provenance::Provenance;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use std::fmt;

/// How this crate was optimised.
const OPT_LEVEL: &str = env!("MUX_CHAOS_OPT_LEVEL");
/// Longer texts are cut in the table.
const HOW_CHARS_MAX: usize = 160;

/// What became of a mutant.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Found {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) caught: bool,
    /// What was noticed.
    pub(super) how: Option<String>,
    pub(super) seed: Option<u64>,
    /// How many seeds it lived through, the one that caught it included.
    pub(super) seeds: u64,
    /// Real time since the first of them was started.
    pub(super) seconds: f64,
    /// Seeds that fail without it as well: they catch nothing.
    pub(super) unsound: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seeds, seconds) = (self.name, self.seeds, self.seconds);
        match (self.seed, &self.how) {
            (Some(seed), Some(how)) => write!(f, "{name}: seed {seed} in {seconds:.1} s: {how}")?,
            _ => write!(f, "{name}: SURVIVED {seeds} seeds in {seconds:.1} s")?,
        }
        self.unsound.iter().try_for_each(|problem| write!(f, "\n  UNSOUND: {problem}"))
    }
}

/// What became of all.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    run: Provenance,
    /// Simulated seconds of a seed.
    seconds: u64,
    budget_seconds: u64,
    mutants: Vec<Found>,
}

impl Report {
    pub(super) fn new(seconds: u64, budget_seconds: u64) -> Self {
        Self { run: Provenance::here(), seconds, budget_seconds, mutants: Vec::new() }
    }

    pub(super) fn add(&mut self, found: Found) {
        self.mutants.push(found);
    }

    pub(super) fn survivors(&self) -> usize {
        self.mutants.iter().filter(|found| !found.caught).count()
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new();
        let header = ["Mutant", "What is wrong", "Noticed", "Seed", "Seeds", "Time"];
        table.load_preset(ASCII_MARKDOWN).set_header(header);
        for found in &self.mutants {
            let seed = found.seed.map_or_else(|| "–".to_owned(), |seed| seed.to_string());
            let how = match (&found.how, found.unsound.as_slice()) {
                (_, [problem, ..]) => format!("NOTHING SHOWN: {problem}"),
                (Some(how), []) => how.clone(),
                (None, []) => "SURVIVED".to_owned(),
            };
            // A bar would be the end of the cell.
            let how = how.replace('\n', " ").replace('|', "\\|");
            let short: String = how.chars().take(HOW_CHARS_MAX).collect();
            let how = if short.len() < how.len() { format!("{short} …") } else { how };
            let (name, time) = (format!("`{}`", found.name), format!("{:.1} s", found.seconds));
            table.add_row([name, found.description.to_owned(), how, seed, found.seeds.to_string(), time]);
        }
        table
    }

    /// The page that is kept with the sources.
    pub(super) fn markdown(&self) -> String {
        let (all, left) = (self.mutants.len(), self.survivors());
        let (caught, seconds, budget) = (all - left, self.seconds, self.budget_seconds);
        let Provenance { commit, machine, .. } = &self.run;
        format!(
            "# Deliberate bugs, and what finds them\n\nWritten by `cargo run --release -p mux-chaos --features mutants \
             --bin mutants -- --markdown FILE`, of commit {commit} (`mux-chaos` with opt-level {OPT_LEVEL}), on {machine}.\n\nEach bug of \
             `raft/src/mutant.rs` is planted alone and lives through seeds of the simulation, {seconds} simulated \
             seconds with faults each, until something is noticed, or {budget} s have passed. Every seed up to the one \
             that caught it was run without any bug, too, and passed.\n\n{caught} of {all} were caught. *Seeds*: how \
             many it took. *Time*: real time until then.\n\n{}\n",
            self.table()
        )
    }
}

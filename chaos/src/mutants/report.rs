use super::disk::{OnDisk, ROUNDS, SEED};
use crate::provenance::Provenance;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use std::fmt;

/// How this crate was optimised.
const OPT_LEVEL: &str = env!("MUX_CHAOS_OPT_LEVEL");
/// Longer texts are cut in the table.
const HOW_CHARS_MAX: usize = 160;

/// A text as it may stand in a table: a bar would be the end of the cell.
fn cell(text: &str) -> String {
    let text = text.replace('\n', " ").replace('|', "\\|");
    let short: String = text.chars().take(HOW_CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short} …") } else { text }
}

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
    /// Seeds that came to no result, with it or without: neither do they.
    pub(super) errors: Vec<String>,
    /// What the storage suite says, if it is one of the disk.
    pub(super) on_disk: Option<OnDisk>,
}

impl Found {
    /// Nobody found it, or not everybody who should have.
    fn survived(&self) -> bool {
        !self.caught || matches!(self.on_disk, Some(OnDisk::Nothing { .. } | OnDisk::Failed(_)))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seeds, seconds) = (self.name, self.seeds, self.seconds);
        match (self.seed, &self.how) {
            (None, _) if !self.errors.is_empty() => write!(f, "{name}: NO RESULT of {seeds} seeds")?,
            (Some(seed), Some(how)) => write!(f, "{name}: seed {seed} in {seconds:.1} s: {how}")?,
            _ => write!(f, "{name}: SURVIVED {seeds} seeds in {seconds:.1} s")?,
        }
        if let Some(on_disk) = &self.on_disk {
            write!(f, "\n  on a real disk: {on_disk}")?;
        }
        self.errors.iter().try_for_each(|error| write!(f, "\n  ERROR: {error}"))?;
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
    /// What the storage suite says without any, if it was asked.
    sound_on_disk: Option<OnDisk>,
}

impl Report {
    pub(super) fn new(seconds: u64, budget_seconds: u64, sound_on_disk: Option<OnDisk>) -> Self {
        Self { run: Provenance::here(), seconds, budget_seconds, mutants: Vec::new(), sound_on_disk }
    }

    pub(super) fn add(&mut self, found: Found) {
        self.mutants.push(found);
    }

    fn survivors(&self) -> usize {
        self.mutants.iter().filter(|found| found.survived()).count()
    }

    /// All were caught, and by what is silent without them.
    pub(super) fn is_good(&self) -> bool {
        let unsound = matches!(self.sound_on_disk, Some(OnDisk::Noticed { .. } | OnDisk::Failed(_)));
        self.survivors() == 0 && !unsound
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
            let how = match (&found.how, found.unsound.first(), found.errors.first()) {
                (_, Some(problem), _) => format!("NOTHING SHOWN: {problem}"),
                (_, None, Some(error)) => format!("NO RESULT: {error}"),
                (Some(how), None, None) => how.clone(),
                (None, None, None) => "SURVIVED".to_owned(),
            };
            let how = cell(&how);
            let (name, time) = (format!("`{}`", found.name), format!("{:.1} s", found.seconds));
            table.add_row([name, found.description.to_owned(), how, seed, found.seeds.to_string(), time]);
        }
        table
    }

    /// What the storage suite says of those of the disk.
    fn disk_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header(["Mutant", "Noticed"]);
        let sound = self.sound_on_disk.iter().map(|on_disk| ("none".to_owned(), on_disk));
        let mutants = self.mutants.iter();
        let mutants =
            mutants.filter_map(|found| Some((format!("`{}`", found.name), found.on_disk.as_ref()?)));
        for (name, on_disk) in sound.chain(mutants) {
            table.add_row([name, cell(&on_disk.to_string())]);
        }
        table
    }

    /// The command that catches each of those again that were caught, a line each.
    fn commands(&self) -> String {
        let caught = self.mutants.iter().filter_map(|found| Some((found.name, found.seed?)));
        let lines = caught.map(|(name, seed)| {
            let seconds = self.seconds;
            format!(
                "$ cargo run --release -p mux-chaos --features mutants --bin mutants -- --only {name} --seed {seed} \
                 --seconds {seconds}\n"
            )
        });
        lines.collect()
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
             many it took. *Time*: real time until then.\n\n{}\n\nEach again, in that commit, with the seed that caught \
             it:\n\n```console\n{}```\n\n## On a real disk\n\nThe storage suite is tried on these of \
             them, too: a real file system, shut down so that it forgets what was not synced ({ROUNDS} rounds, seed \
             {SEED}).\n\n{}\n",
            self.table(),
            self.commands(),
            self.disk_table()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &'static str, seed: Option<u64>) -> Found {
        Found {
            name,
            description: "x",
            caught: seed.is_some(),
            how: None,
            seed,
            seeds: 1,
            seconds: 0.5,
            unsound: Vec::new(),
            errors: Vec::new(),
            on_disk: None,
        }
    }

    #[test]
    fn one_with_an_error_is_told_as_that_and_is_not_good() {
        let mut report = Report::new(30, 120, None);
        let errors = vec!["seed 1: it hangs".to_owned()];
        report.add(Found { caught: false, errors, ..found("one", None) });
        assert!(report.markdown().contains("NO RESULT: seed 1: it hangs"), "{}", report.markdown());
        assert!(!report.is_good(), "the exit code tells it");
    }

    #[test]
    fn the_page_has_the_command_of_each_that_was_caught() {
        let mut report = Report::new(30, 120, None);
        report.add(found("one", Some(31)));
        report.add(found("two", None));
        let page = report.markdown();
        let command = "$ cargo run --release -p mux-chaos --features mutants --bin mutants -- --only one --seed 31 --seconds 30\n";
        assert!(page.contains(command), "{page}");
        assert!(!page.contains("--only two"), "{page}");
    }
}

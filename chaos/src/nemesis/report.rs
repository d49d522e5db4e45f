//! How it is told: to people, and to machines.

use super::{Arguments, faults::Kind, previous, verdict::Verdict, waits};
use crate::{demo::percentile, provenance::Provenance, story::Story};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Violations shown to people; machines get them all.
const SHOWN_MAX: usize = 20;

/// A kind of fault that this machine does not allow.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) kind: Kind,
    pub(super) why: String,
}

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Times {
    count: usize,
    p50_ms: u64,
    p95_ms: u64,
    max_ms: u64,
}

impl Times {
    fn of(sorted: &[u64]) -> Option<Self> {
        let max_ms = *sorted.last()?;
        Some(Self {
            count: sorted.len(),
            p50_ms: percentile(sorted, 50),
            p95_ms: percentile(sorted, 95),
            max_ms,
        })
    }
}

/// The whole of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    run: Provenance,
    seed: u64,
    /// Asked for.
    minutes: f64,
    /// Of faults that were made: fewer if the run ended early, by what it found.
    minutes_run: f64,
    repeat: String,
    /// In zones, or why not.
    zones: bool,
    no_zones_because: Option<String>,
    versions: String,
    /// Of the minutes that were run, for how long these ran side by side: 0 where there was only one.
    mixed_versions_seconds: u64,
    /// The older `muxd`, if there is one.
    previous: Option<String>,
    clocks: &'static str,
    /// Kinds of faults that had to happen, and how often they did.
    faults_by_kind: BTreeMap<Kind, usize>,
    left_out: Vec<Skipped>,
    /// Every kind happened.
    pub(super) counts: bool,
    /// Of [`Verdict::waits_ms`], and of how many values.
    failover: BTreeMap<String, Times>,
    heal: Option<Times>,
    dir: PathBuf,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

/// The command that does the same again, as far as chance is concerned.
pub(super) fn repeat(arguments: &Arguments, zones: bool) -> String {
    let mut text = format!(
        "Again: cargo run --release --bin nemesis -- --minutes {} --round {} --seed {}",
        arguments.minutes,
        arguments.round,
        arguments.seed.unwrap_or_default()
    );
    if !arguments.kinds.is_empty() {
        text.push_str(&format!(" --kinds {}", arguments.kinds.join(",")));
    }
    // Which kinds are possible, and so which come when, depends on it.
    text.push_str(if zones { " --network zones" } else { " --network loopback" });
    if let Some(previous) = &arguments.previous {
        text.push_str(&format!(" --previous {}", previous.display()));
        if let Some(commit) = &arguments.previous_commit {
            text.push_str(&format!(" --previous-commit {commit}"));
        }
    }
    text
}

impl Report {
    pub(super) fn new(
        arguments: &Arguments,
        loopback: Option<String>,
        kinds: &[Kind],
        left_out: Vec<Skipped>,
        verdict: Verdict,
        dir: &Path,
    ) -> Self {
        let mut faults_by_kind: BTreeMap<Kind, usize> = kinds.iter().map(|kind| (*kind, 0)).collect();
        for happened in &verdict.faults {
            *faults_by_kind.entry(happened.kind).or_default() += 1;
        }
        let mut healed = verdict.healed_ms.clone();
        healed.sort_unstable();
        let commit = arguments.previous_commit.as_deref();
        let previous = arguments.previous.as_ref().map(|path| previous::name(path, commit));
        let versions = match &previous {
            Some(name) => format!("this one and {name}"),
            None => "this one, and as it was at the first feature level".into(),
        };
        Self {
            run: Provenance::here(),
            seed: arguments.seed.unwrap_or_default(),
            minutes: arguments.minutes,
            minutes_run: verdict.tormented.as_secs_f64() / 60.0,
            repeat: repeat(arguments, loopback.is_none()),
            zones: loopback.is_none(),
            no_zones_because: loopback,
            versions,
            mixed_versions_seconds: verdict.mixed_versions.as_secs(),
            previous,
            clocks: "an offset where muxd reads its wall clock (hidden option of the test executable), not libfaketime",
            counts: faults_by_kind.values().all(|count| *count > 0) && verdict.saw_something(),
            faults_by_kind,
            left_out,
            failover: verdict
                .waits_ms
                .iter()
                .filter_map(|(cause, waits)| Some((cause.clone(), Times::of(waits)?)))
                .collect(),
            heal: Times::of(&healed),
            dir: dir.to_owned(),
            verdict,
        }
    }

    /// For people.
    pub(super) fn tell(&self, story: &Story) {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header(["fault", "times", "left out", "longest wait: n", "p50", "p95", "max"]);
        let dash = || "–".to_owned();
        let row = |cause: &str, times: String, left_out: String| {
            let waits = self.failover.get(cause);
            let ms = |of: fn(&Times) -> u64| waits.map_or_else(dash, |waits| format!("{} ms", of(waits)));
            let count = waits.map_or(0, |waits| waits.count).to_string();
            let (p50, p95, max) = (ms(|one| one.p50_ms), ms(|one| one.p95_ms), ms(|one| one.max_ms));
            [cause.to_owned(), times, left_out, count, p50, p95, max]
        };
        for (kind, times) in &self.faults_by_kind {
            let left_out = self.verdict.left_out_turns.get(kind).copied().unwrap_or(0);
            table.add_row(row(kind.name(), times.to_string(), left_out.to_string()));
        }
        table.add_row(row(waits::SEVERAL, dash(), dash()));
        for column in 1..7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        story.print(&format!("\n{table}"));
        story.print(waits::POPULATION);
        if let Some(heal) = self.heal {
            story.print(&format!(
                "Time to heal after each round: p50 {} ms, p95 {} ms, max {} ms.",
                heal.p50_ms, heal.p95_ms, heal.max_ms
            ));
        }
        story.print(&format!(
            "Two versions ({}) ran side by side for {} of {:.0} seconds of faults.",
            self.versions,
            self.mixed_versions_seconds,
            self.minutes_run * 60.0
        ));
        self.tell_payments(story);
        self.tell_verdict(story);
    }

    fn tell_payments(&self, story: &Story) {
        let totals = &self.verdict.payments;
        story.print(&format!(
            "{} payments ({} HTLCs): {} settled, {} failed as they must or may, {} though they were right, {} in part, \
             {} without an end. {} of {} forwards passed.",
            totals.payments,
            totals.htlcs,
            totals.settled,
            totals.failed - totals.failed_unintended,
            totals.failed_unintended,
            totals.partial,
            totals.undecided,
            totals.forwards_passed,
            totals.forwards
        ));
        story.print(&format!(
            "{} calls on {} invoices, {} of unknown outcome; {} events for each of the subscribers.",
            self.verdict.calls, self.verdict.invoices, self.verdict.calls_unknown, self.verdict.events
        ));
    }

    fn tell_verdict(&self, story: &Story) {
        for left_out in &self.left_out {
            story.print(&format!("LEFT OUT: {}: {}", left_out.kind.name(), left_out.why));
        }
        if let Some(why) = &self.no_zones_because {
            story.print(&format!("ON LOOPBACK, WITHOUT ZONES: {why}"));
        }
        for violation in self.verdict.violations.iter().take(SHOWN_MAX) {
            story.print(&format!("VIOLATION {}: {}", violation.rule, violation.evidence));
        }
        for history in &self.verdict.histories {
            story.print(history);
        }
        if !self.verdict.violations.is_empty() {
            story.print(&format!("Seed {}. {}", self.seed, self.repeat));
            story.print(&format!("Data, logs, payments.json and verdict.json: {}", self.dir.display()));
            return;
        }
        if self.counts {
            story.print("Everything that was promised was kept.");
            return;
        }
        if !self.verdict.saw_something() {
            story.print("Nothing was found, but the run DOES NOT COUNT: no call, no event or no settled payment was seen");
            return;
        }
        let never = self.faults_by_kind.iter().filter(|(_, count)| **count == 0);
        let never: Vec<_> = never.map(|(kind, _)| kind.name()).collect();
        story.print(&format!(
            "Nothing was found, but the run DOES NOT COUNT: these never happened: {}",
            never.join(", ")
        ));
    }

    /// Beside the files that are kept.
    pub(super) fn write_evidence(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::write(dir.join("verdict.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(dir.join("histories.txt"), self.verdict.histories.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use std::time::Duration;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::parse_from(["nemesis"].iter().chain(words))
    }

    #[test]
    fn the_command_that_does_it_again_names_the_network_that_was_used() {
        let asked = arguments(&["--minutes", "2", "--seed", "7", "--kinds", "kill,pause"]);
        let again =
            "Again: cargo run --release --bin nemesis -- --minutes 2 --round 60 --seed 7 --kinds kill,pause";
        assert_eq!(repeat(&asked, true), format!("{again} --network zones"));
        assert_eq!(repeat(&asked, false), format!("{again} --network loopback"));
    }

    #[test]
    fn the_minutes_are_those_that_were_run() {
        let (tormented, mixed_versions) = (Duration::from_secs(90), Duration::from_millis(41_900));
        let verdict = Verdict { tormented, mixed_versions, ..Verdict::default() };
        let asked = arguments(&["--minutes", "15"]);
        let report = Report::new(&asked, None, &[], Vec::new(), verdict, Path::new("x"));
        let told = serde_json::to_value(&report).unwrap();
        assert_eq!((&told["minutes"], &told["minutes_run"]), (&15.0.into(), &1.5.into()));
        assert_eq!(told["mixed_versions_seconds"], 41);
    }
}

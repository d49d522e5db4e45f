//! How it is told: to people, and to machines.

use super::{Arguments, faults::Kind, verdict::Verdict};
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
    minutes: f64,
    repeat: String,
    /// In zones, or why not.
    zones: bool,
    no_zones_because: Option<String>,
    versions: String,
    clocks: &'static str,
    /// Kinds of faults that had to happen, and how often they did.
    faults_by_kind: BTreeMap<Kind, usize>,
    left_out: Vec<Skipped>,
    /// Every kind happened.
    pub(super) counts: bool,
    failover: BTreeMap<Kind, Times>,
    heal: Option<Times>,
    dir: PathBuf,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

/// The command that does the same again, as far as chance is concerned.
pub(super) fn repeat(arguments: &Arguments) -> String {
    let mut text = format!(
        "Again: cargo run --release --bin nemesis -- --minutes {} --round {} --seed {}",
        arguments.minutes,
        arguments.round,
        arguments.seed.unwrap_or_default()
    );
    if !arguments.kinds.is_empty() {
        text.push_str(&format!(" --kinds {}", arguments.kinds.join(",")));
    }
    if let Some(previous) = &arguments.previous {
        text.push_str(&format!(" --previous {}", previous.display()));
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
        let versions = match &arguments.previous {
            Some(path) => format!("this one and {}", path.display()),
            None => "this one, and as it was at the first feature level".into(),
        };
        Self {
            run: Provenance::here(),
            seed: arguments.seed.unwrap_or_default(),
            minutes: arguments.minutes,
            repeat: repeat(arguments),
            zones: loopback.is_none(),
            no_zones_because: loopback,
            versions,
            clocks: "an offset where muxd reads its wall clock (hidden option of the test executable), not libfaketime",
            counts: faults_by_kind.values().all(|count| *count > 0),
            faults_by_kind,
            left_out,
            failover: verdict
                .failover_ms
                .iter()
                .filter_map(|(kind, gaps)| Some((*kind, Times::of(gaps)?)))
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
        table.set_header(["fault", "times", "left out", "longest wait p50", "p95", "max"]);
        for (kind, times) in &self.faults_by_kind {
            let ms = |of: fn(&Times) -> u64| {
                self.failover.get(kind).map_or_else(|| "–".into(), |times| format!("{} ms", of(times)))
            };
            let left_out = self.verdict.left_out_turns.get(kind).copied().unwrap_or(0);
            table.add_row([
                kind.name().to_owned(),
                times.to_string(),
                left_out.to_string(),
                ms(|times| times.p50_ms),
                ms(|times| times.p95_ms),
                ms(|times| times.max_ms),
            ]);
        }
        for column in 1..6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        story.print(&format!("\n{table}"));
        story.print(
            "Waits: between two payments that a probe settled through one LND node, some of it during the fault. Faults \
             overlap, so a wait may be due to another one.",
        );
        if let Some(heal) = self.heal {
            story.print(&format!(
                "Time to heal after each round: p50 {} ms, p95 {} ms, max {} ms.",
                heal.p50_ms, heal.p95_ms, heal.max_ms
            ));
        }
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

//! The page.

use super::{
    Found,
    bugs::Bugs,
    read::{Mutants, Nemesis, OnDisk, Payments, Simulate, SimulatedPayments, SlowestHeal},
    storage,
    sums::{self, Result as _, counting},
    superseded,
};
use crate::{
    demo::percentile,
    nemesis::{POPULATION, SEVERAL},
    sim::swarm::FaultKind,
};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

const HEAD: &str = "# What the tools found

Written by `cargo run --release --bin report`; every figure comes from a file that one of the runs below wrote, the list
of bugs from `chaos/bugs.toml`. What a run that does not count found is not among the sums.
";

/// All of it, as Markdown.
pub(super) fn page(found: &Found) -> String {
    let mut page = HEAD.to_owned();
    runs(&mut page, found);
    superseded::tell(&mut page, &found.superseded);
    nemesis(&mut page, &found.nemesis);
    simulate(&mut page, &found.simulate);
    storage::tell(&mut page, &found.storage);
    mutants(&mut page, &found.mutants);
    if let Some(found) = &found.bugs {
        bugs(&mut page, found);
    }
    page
}

/// How the simulation begins what it says of a named point that no replica died at.
const DIED_AT: &str = "a replica died at ";

pub(super) fn line(page: &mut String, text: impl AsRef<str>) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{}", text.as_ref());
}

pub(super) fn table(
    page: &mut String,
    header: &[&str],
    figures_from: usize,
    rows: impl IntoIterator<Item = Vec<String>>,
) {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for row in rows {
        // A bar would be the end of the cell.
        table.add_row(row.into_iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")));
    }
    for column in table.column_iter_mut().skip(figures_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    line(page, format!("\n{table}"));
}

fn runs(page: &mut String, found: &Found) {
    line(page, "\n## Runs");
    let all: Vec<_> = found
        .nemesis
        .iter()
        .map(|one| ("nemesis", one.run()))
        .chain(found.simulate.iter().map(|one| ("simulate", one.run())))
        .chain(found.storage.iter().map(|one| ("storage", one.run())))
        .chain(found.mutants.iter().map(|one| ("mutants", one.run())))
        .collect();
    if all.is_empty() {
        return line(page, "\nNone.");
    }
    let rows = all.iter().map(|(tool, run)| {
        let word = |text: &str| if text.is_empty() { "not recorded".to_owned() } else { text.to_owned() };
        let counts = run.void.as_ref().map_or_else(|| "yes".into(), |why| format!("DOES NOT COUNT: {why}"));
        vec![
            (*tool).to_owned(),
            run.extent.clone(),
            counts,
            run.violations.to_string(),
            word(&run.provenance.commit),
            word(&run.provenance.machine),
            format!("`{}`", word(&run.provenance.command)),
        ]
    });
    table(page, &["tool", "how much", "counts", "violations", "commit", "machine", "command"], 7, rows);
    let commits = sums::commits(all.iter().map(|(_, run)| run));
    if commits.len() > 1 {
        line(
            page,
            format!(
                "\nATTENTION: the runs that count are of {} commits: {}. The sums below are of all of them.",
                commits.len(),
                commits.join(", ")
            ),
        );
    }
}

fn nemesis(page: &mut String, results: &[Nemesis]) {
    if results.is_empty() {
        return;
    }
    let good: Vec<_> = counting(results).collect();
    line(page, "\n## Nemesis: real processes");
    let minutes = good.iter().fold(0.0, |sum, one| sum + one.minutes_run());
    let healed = sums::merge(&[BTreeMap::from([(
        String::new(),
        good.iter().flat_map(|one| one.healed_ms.iter().copied()).collect::<Vec<_>>(),
    )])]);
    let healed = healed.into_values().next().unwrap_or_default();
    line(
        page,
        format!("\n{} runs that count, {minutes:.1} minutes of faults, {} rounds.", good.len(), healed.len()),
    );
    line(page, versions(&good));
    payments(page, sums::payments(good.iter().map(|one| one.payments)));
    let sum = |of: fn(&Nemesis) -> u64| good.iter().map(|one| of(one)).sum::<u64>();
    line(
        page,
        format!(
            "\nHistories: {} calls on {} invoices, {} of unknown outcome; {} events for each of the subscribers.",
            sum(|one| one.calls),
            sum(|one| one.invoices),
            sum(|one| one.calls_unknown),
            sum(|one| one.events)
        ),
    );
    let [p50, p95, max] = times(&healed);
    line(page, format!("\nTime to heal after a round: p50 {p50} ms, p95 {p95} ms, max {max} ms."));
    let faults = sums::add(good.iter().map(|one| &one.faults_by_kind));
    let waits = sums::merge(good.iter().map(|one| &one.waits_ms));
    let row = |cause: &str, count: String| {
        let waits = waits.get(cause).map_or(&[][..], Vec::as_slice);
        let mut row = vec![cause.to_owned(), count, waits.len().to_string()];
        row.extend(times(waits));
        row
    };
    let several = row(SEVERAL, "–".into());
    let rows = faults.iter().map(|(kind, count)| row(kind, count.to_string())).chain([several]);
    table(page, &["fault", "times", "longest wait: n", "p50 (ms)", "p95", "max"], 1, rows);
    line(page, format!("\n{POPULATION} p95 only of {FOR_P95} values or more: of fewer it is the longest."));
    let mut left_out: Vec<_> =
        good.iter().flat_map(|one| &one.left_out).map(|one| format!("{}: {}", one.kind, one.why)).collect();
    left_out.sort();
    left_out.dedup();
    for one in left_out {
        line(page, format!("\nLeft out where the machine did not allow it: {one}."));
    }
    let clocks: BTreeSet<&str> =
        good.iter().map(|one| one.clocks.as_str()).filter(|clocks| !clocks.is_empty()).collect();
    for clocks in clocks {
        line(page, format!("\nClocks are made wrong by {clocks}."));
    }
    violations(page, results.iter().flat_map(|one| one.violations.iter().map(move |what| (one.seed, what))));
}

/// For how long two versions ran at once: that a run was given two does not tell it.
fn versions(good: &[&Nemesis]) -> String {
    let told = good.iter().filter_map(|one| Some((one.mixed_versions_seconds?, one.minutes_run() * 60.0)));
    let (n, mixed, of) = told.fold((0, 0, 0.0), |sum, one| (sum.0 + 1, sum.1 + one.0, sum.2 + one.1));
    if n == 0 {
        return "\nVersions side by side: not told by any of these runs.".into();
    }
    format!(
        "\nVersions side by side: {mixed} s (of the {n} of {} runs that tell it: {of:.0} s of faults).",
        good.len()
    )
}

fn payments(page: &mut String, totals: Payments) {
    line(
        page,
        format!(
            "\nPayments: {} ({} HTLCs). {} settled ({} msat), {} failed as they must or may, {} though they were right, {} \
             in part, {} without an end. {} of {} forwards passed.",
            totals.payments,
            totals.htlcs,
            totals.settled,
            totals.settled_msat,
            totals.failed.saturating_sub(totals.failed_unintended),
            totals.failed_unintended,
            totals.partial,
            totals.undecided,
            totals.forwards_passed,
            totals.forwards
        ),
    );
}

/// Of fewer values the 95th percentile is the largest.
const FOR_P95: usize = 20;

/// Of values in order: p50, p95, max.
fn times(sorted: &[u64]) -> [String; 3] {
    let dash = || "–".to_owned();
    let Some(max) = sorted.last() else { return [dash(), dash(), dash()] };
    let p95 = if sorted.len() < FOR_P95 { dash() } else { percentile(sorted, 95).to_string() };
    [percentile(sorted, 50).to_string(), p95, max.to_string()]
}

pub(super) fn violations<'a>(page: &mut String, all: impl Iterator<Item = (u64, &'a Value)>) {
    let rows: Vec<_> = all
        .map(|(seed, what)| {
            let text = |key: &str| what.get(key).and_then(Value::as_str).map(str::to_owned);
            let told = what.as_str().map(str::to_owned).or_else(|| text("evidence"));
            let told = told.unwrap_or_else(|| what.to_string());
            vec![seed.to_string(), text("rule").unwrap_or_default(), told]
        })
        .collect();
    if rows.is_empty() {
        return line(page, "\nViolations: none.");
    }
    line(page, "\nViolations, also of runs that do not count:");
    table(page, &["seed", "rule", "evidence"], 3, rows);
}

pub(super) fn counts(page: &mut String, what: &str, sum: &BTreeMap<String, u64>) {
    if !sum.is_empty() {
        let rows = sum.iter().map(|(name, times)| vec![name.clone(), times.to_string()]);
        table(page, &[what, "times"], 1, rows);
    }
}

fn simulate(page: &mut String, results: &[Simulate]) {
    if results.is_empty() {
        return;
    }
    let good: Vec<_> = counting(results).collect();
    line(page, "\n## Simulation: one thread, everything from a seed");
    let hours = good.iter().fold(0.0, |sum, one| sum + one.hours());
    let sum = |of: fn(&Simulate) -> u64| good.iter().map(|one| of(one)).sum::<u64>();
    line(
        page,
        format!(
            "\n{} runs that count: {} seeds, {hours:.2} hours simulated, {} of these seeds failed{}. {} terms with a leader, \
             {} entries, {} proposals acknowledged.",
            good.len(),
            sum(|one| one.seeds),
            sum(|one| one.failed),
            failed_elsewhere(results, &good),
            sum(|one| one.terms),
            sum(|one| one.entries),
            sum(|one| one.acknowledged)
        ),
    );
    simulated_times(page, &good);
    simulated_payments(page, &sums::simulated(good.iter().map(|one| one.payments)));
    let none: BTreeMap<_, _> = FaultKind::ALL.iter().map(|kind| (format!("{kind:?}"), 0)).collect();
    let faults = good.iter().map(|one| &one.faults).chain((!good.is_empty()).then_some(&none));
    counts(page, "fault", &sums::add(faults));
    let (died, other) = never(&good);
    let happened = sums::add(good.iter().map(|one| &one.happened).chain([&other]));
    counts(page, "what happened", &happened);
    counts(page, "a replica died at", &sums::add(good.iter().map(|one| &one.points).chain([&died])));
    let seeds = results.iter().flat_map(|one| {
        let first = one.seed.unwrap_or(1);
        one.violations
            .iter()
            .map(move |what| (what.get("seed").and_then(Value::as_u64).unwrap_or(first), what))
    });
    violations(page, seeds);
}

/// How payments ended, so that it adds up to all that were begun.
fn simulated_payments(page: &mut String, paid: &SimulatedPayments) {
    let told = paid.failed_unintended.zip(paid.partial).zip(paid.undecided);
    let ends = match told {
        Some(((unintended, partial), undecided)) => format!(
            "{} failed as they must or may, {unintended} though they were right (a sale lost, no money), {partial} in part (LND lost \
             a part of a decided set), {undecided} without an end",
            paid.failed.saturating_sub(unintended)
        ),
        // Older runs count no more than this.
        None => format!(
            "{} failed, as they should have or not, {} in part or without an end (not all of these runs tell which)",
            paid.failed,
            paid.begun.saturating_sub(paid.settled + paid.failed)
        ),
    };
    let forwards = match paid.forwards_begun {
        Some(begun) => format!("{} of {begun} forwards passed", paid.forwards),
        None => format!("{} forwards passed", paid.forwards),
    };
    line(
        page,
        format!(
            "\nPayments: {} begun ({} HTLCs). {} settled, {ends}. {forwards}. Checked: {} calls for an order that explains \
             all answers, {} events that all subscribers saw.",
            paid.begun, paid.htlcs, paid.settled, paid.calls, paid.events
        ),
    );
}

/// Points at which no replica died, and everything else that never happened in one of these runs: it is not among what happened,
/// and shall be told as well.
fn never(good: &[&Simulate]) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let (mut died, mut other) = (BTreeMap::new(), BTreeMap::new());
    for what in good.iter().flat_map(|one| &one.missing) {
        match what.strip_prefix(DIED_AT) {
            Some(point) => died.insert(point.to_owned(), 0),
            None => other.insert(what.clone(), 0),
        };
    }
    (died, other)
}

/// Seeds that failed in runs that do not count.
fn failed_elsewhere(all: &[Simulate], good: &[&Simulate]) -> String {
    let failed = |one: &Simulate| one.failed.max(one.violations.len() as u64);
    let all: u64 = all.iter().map(failed).sum();
    match all.saturating_sub(good.iter().map(|one| failed(one)).sum()) {
        0 => String::new(),
        failed => format!(" (and {failed} of runs that do not count)"),
    }
}

/// How fast it was, and how long the simulated clusters took to heal.
fn simulated_times(page: &mut String, good: &[&Simulate]) {
    let timed: Vec<_> = good.iter().filter_map(|one| Some((one.simulated_ms?, one.cpu_ms))).collect();
    let (simulated, cpu) =
        timed.iter().filter(|(_, cpu)| *cpu > 0).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if let Some(speed) = simulated.checked_div(cpu) {
        line(page, format!("\nSpeed: {speed} times real time on a core (simulated by CPU time)."));
    }
    let slowest = good.iter().max_by_key(|one| one.healed_ms_max);
    let max = slowest.map_or(0, |one| one.healed_ms_max);
    let seed = slowest.and_then(|one| one.slowest_heal);
    let seed = seed.map_or_else(String::new, |SlowestHeal { seed }| format!(" (seed {seed})"));
    let mut healed: Vec<u64> = good.iter().flat_map(|one| one.healed_ms.iter().copied()).collect();
    healed.sort_unstable();
    // Percentiles are of every run, or of none.
    if healed.is_empty() || good.iter().any(|one| one.healed_ms.is_empty()) {
        return line(
            page,
            format!("\nTime to heal after the faults of a seed: at most {max} ms (simulated){seed}."),
        );
    }
    let [p50, p95, max] = times(&healed);
    line(
        page,
        format!(
            "\nTime to heal after the faults of a seed (simulated), of {} seeds: p50 {p50} ms, p95 {p95} ms, max {max} ms{seed}.",
            healed.len()
        ),
    );
}

fn mutants(page: &mut String, results: &[Mutants]) {
    if results.is_empty() {
        return;
    }
    line(page, "\n## Mutants: deliberate bugs, and whether the tools find them");
    line(
        page,
        "\n`cargo run --release -p mux-chaos --features mutants --bin mutants -- --only MUTANT --seed SEED` finds one again. \
         The storage suite is tried on those with an entry under *on a real disk*. *Time*: real time until it was caught.",
    );
    let dash = || "–".to_owned();
    let rows = counting(results).flat_map(|one| one.mutants.iter().map(move |mutant| (one, mutant)));
    let rows = rows.map(|(one, mutant)| {
        let how = match &mutant.how {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Without optimisation it means nothing.
        let seconds = mutant.real_seconds.filter(|_| one.run.release_build);
        vec![
            mutant.name.clone(),
            mutant.description.clone(),
            mutant.found(),
            how,
            mutant.on_disk.as_ref().map_or_else(dash, on_disk),
            mutant.seed.map_or_else(dash, |seed| seed.to_string()),
            mutant.seeds.map_or_else(dash, |seeds| seeds.to_string()),
            seconds.map_or_else(dash, |seconds| format!("{seconds:.1} s")),
        ]
    });
    table(page, &["mutant", "what", "found", "by", "on a real disk", "seed", "seeds tried", "time"], 5, rows);
    for sound in results.iter().filter_map(|one| one.sound_on_disk.as_ref()) {
        line(page, format!("\nThe storage suite without any of them: {}.", on_disk(sound)));
    }
}

fn on_disk(result: &OnDisk) -> String {
    match result {
        OnDisk::Noticed { what, seconds } => format!("in {seconds:.1} s: {what}"),
        OnDisk::Nothing { seconds } => format!("nothing in {seconds:.1} s"),
        OnDisk::NotRun => "not run: that machine could not make the file system".into(),
        OnDisk::Failed(why) => format!("no result: {why}"),
    }
}

fn bugs(page: &mut String, bugs: &Bugs) {
    line(page, "\n## Bugs found so far");
    line(
        page,
        "\nOf the replicas. `Again` finds it in the commit before the one that fixed it, with the seed where a run with one \
         showed it; the test fails without the fix. Errors that were found in the harness itself (checkers, simulated LND, \
         tools) are not among these: they are in git's log.",
    );
    let rows = bugs.bug.iter().map(|bug| {
        vec![
            bug.what.clone(),
            bug.found_by.clone(),
            bug.seed.clone().unwrap_or_else(|| "–".into()),
            format!("`{}`", bug.again),
            bug.commit.clone(),
            format!("`{}` in `{}`", bug.name, bug.test),
        ]
    });
    table(page, &["bug", "found by", "seed", "again", "fixed in", "test"], 6, rows);
}

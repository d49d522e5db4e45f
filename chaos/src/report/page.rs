//! The page.

use super::{
    Found,
    bugs::Bugs,
    read::{Mutants, Nemesis, Payments, Simulate, Storage},
    sums::{self, Result, counting},
};
use crate::demo::percentile;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _};

const HEAD: &str = "# What the tools found

Written by `cargo run --release --bin report`; every figure comes from a file that one of the runs below wrote, the list
of bugs from `chaos/bugs.toml`. What a run that does not count found is not among the sums.
";

/// All of it, as Markdown.
pub(super) fn page(found: &Found) -> String {
    let mut page = HEAD.to_owned();
    runs(&mut page, found);
    nemesis(&mut page, &found.nemesis);
    simulate(&mut page, &found.simulate);
    storage(&mut page, &found.storage);
    mutants(&mut page, &found.mutants);
    if let Some(found) = &found.bugs {
        bugs(&mut page, found);
    }
    page
}

fn line(page: &mut String, text: impl AsRef<str>) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "{}", text.as_ref());
}

fn table(
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
}

fn nemesis(page: &mut String, results: &[Nemesis]) {
    if results.is_empty() {
        return;
    }
    let good: Vec<_> = counting(results).collect();
    line(page, "\n## Nemesis: real processes");
    let minutes = good.iter().fold(0.0, |sum, one| sum + one.minutes);
    let healed = sums::merge(&[BTreeMap::from([(
        String::new(),
        good.iter().flat_map(|one| one.healed_ms.iter().copied()).collect::<Vec<_>>(),
    )])]);
    let healed = healed.into_values().next().unwrap_or_default();
    line(
        page,
        format!("\n{} runs that count, {minutes} minutes of faults, {} rounds.", good.len(), healed.len()),
    );
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
    let waits = sums::merge(good.iter().map(|one| &one.failover_ms));
    let rows = faults.iter().map(|(kind, count)| {
        let mut row = vec![kind.clone(), count.to_string()];
        row.extend(times(waits.get(kind).map_or(&[], Vec::as_slice)));
        row
    });
    table(page, &["fault", "times", "longest wait p50 (ms)", "p95", "max"], 1, rows);
    line(
        page,
        "\nWaits: between two payments that a probe settled through one LND node, some of it during the fault. Faults \
         overlap, so a wait may be due to another one.",
    );
    let mut left_out: Vec<_> =
        good.iter().flat_map(|one| &one.left_out).map(|one| format!("{}: {}", one.kind, one.why)).collect();
    left_out.sort();
    left_out.dedup();
    for one in left_out {
        line(page, format!("\nLeft out where the machine did not allow it: {one}."));
    }
    violations(page, results.iter().flat_map(|one| one.violations.iter().map(move |what| (one.seed, what))));
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

/// Of values in order: p50, p95, max.
fn times(sorted: &[u64]) -> [String; 3] {
    let Some(max) = sorted.last() else { return ["–".into(), "–".into(), "–".into()] };
    [percentile(sorted, 50), percentile(sorted, 95), *max].map(|ms| ms.to_string())
}

fn violations<'a>(page: &mut String, all: impl Iterator<Item = (u64, &'a Value)>) {
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

fn counts(page: &mut String, what: &str, sum: &BTreeMap<String, u64>) {
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
            "\n{} seeds, {hours:.2} hours simulated, {} seeds failed. {} terms with a leader, {} entries, {} proposals \
             acknowledged; longest time to heal {} ms.",
            sum(|one| one.seeds),
            sum(|one| one.failed),
            sum(|one| one.terms),
            sum(|one| one.entries),
            sum(|one| one.acknowledged),
            good.iter().map(|one| one.healed_ms_max).max().unwrap_or(0)
        ),
    );
    if good.iter().any(|one| one.payments.is_some()) {
        payments(page, sums::payments(good.iter().filter_map(|one| one.payments)));
    }
    counts(page, "fault", &sums::add(good.iter().map(|one| &one.faults)));
    counts(page, "what happened", &sums::add(good.iter().map(|one| &one.happened)));
    let seeds = results.iter().flat_map(|one| {
        let first = one.seed.unwrap_or(1);
        one.violations
            .iter()
            .map(move |what| (what.get("seed").and_then(Value::as_u64).unwrap_or(first), what))
    });
    violations(page, seeds);
}

fn storage(page: &mut String, results: &[Storage]) {
    if results.is_empty() {
        return;
    }
    let good: Vec<_> = counting(results).collect();
    line(page, "\n## Storage: power cuts, kills, full disks, damage");
    let sum = |of: fn(&Storage) -> u64| good.iter().map(|one| of(one)).sum::<u64>();
    line(
        page,
        format!(
            "\nAcknowledgements looked for and found: {}. Damaged directories: {} refused, {} unharmed.",
            sum(|one| one.found),
            sum(|one| one.refused),
            sum(|one| one.unharmed)
        ),
    );
    counts(page, "round", &sums::add(good.iter().map(|one| &one.rounds)));
    counts(page, "power cut or kill at", &sums::add(good.iter().map(|one| &one.points)));
    violations(page, results.iter().flat_map(|one| one.violations.iter().map(move |what| (one.seed, what))));
}

fn mutants(page: &mut String, results: &[Mutants]) {
    if results.is_empty() {
        return;
    }
    line(page, "\n## Mutants: deliberate bugs, and whether the tools find them");
    let rows = counting(results).flat_map(|one| &one.mutants).map(|mutant| {
        let how = match &mutant.how {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let seed = mutant.seed.map_or_else(|| "–".into(), |seed| seed.to_string());
        let seeds = mutant.seeds.map_or_else(|| "–".into(), |seeds| seeds.to_string());
        let found = if mutant.caught { "yes" } else { "NOT FOUND" };
        vec![mutant.name.clone(), mutant.description.clone(), found.into(), how, seed, seeds]
    });
    table(page, &["mutant", "what", "found", "by", "seed", "seeds tried"], 4, rows);
}

fn bugs(page: &mut String, bugs: &Bugs) {
    line(page, "\n## Bugs found so far");
    line(
        page,
        "\n`Again` finds it in the commit before the one that fixed it; the test fails without the fix.",
    );
    let rows = bugs.bug.iter().map(|bug| {
        vec![
            bug.what.clone(),
            bug.found_by.clone(),
            format!("`{}`", bug.again),
            bug.commit.clone(),
            format!("`{}` in `{}`", bug.name, bug.test),
        ]
    });
    table(page, &["bug", "found by", "again", "fixed in", "test"], 5, rows);
}

//! What is told at the end: tables for people, a line for machines.

use super::{
    CpuShare, Failover, History, Latency, Machine, Options, Quantiles, Saturation, Throughput, setup,
};
use crate::story::Story;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// With what settings, in words.
    pub settings: Vec<(&'static str, String)>,
    /// The small counts of `--quick`: the figures mean nothing.
    pub quick: bool,
    /// `bench latency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// `bench throughput`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// `bench failover`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// `bench history`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

impl Report {
    pub(super) fn new(machine: Machine, options: &Options) -> Self {
        Self {
            machine,
            settings: setup::settings(),
            quick: options.quick,
            latency: None,
            throughput: None,
            failover: None,
            history: None,
        }
    }

    /// For people, as Markdown.
    pub(super) fn print(&self, story: &Story) {
        story.print("");
        self.print_machine(story);
        if let Some(latency) = &self.latency {
            print_latency(story, latency);
        }
        if let Some(throughput) = &self.throughput {
            print_throughput(story, throughput);
        }
        if let Some(failover) = &self.failover {
            print_failover(story, failover);
        }
        if let Some(history) = &self.history {
            print_history(story, history);
        }
        if self.quick || !self.machine.release_build {
            story.print("\nThese figures mean nothing: --quick, or a build without optimisation.");
        }
    }

    fn print_machine(&self, story: &Story) {
        let machine = &self.machine;
        story.print(&format!(
            "{} cores of {}, {} MiB, Linux {}, {}; a 4 KiB write with fdatasync there: p50 {} ms, p99 {} ms. {}, version {}, commit {}.",
            machine.cores,
            machine.cpu,
            machine.memory_mib,
            machine.kernel,
            machine.file_system,
            number(machine.fsync.p50_ms),
            number(machine.fsync.p99_ms),
            machine.rustc,
            machine.version,
            machine.commit,
        ));
        for (what, value) in &self.settings {
            story.print(&format!("- {what}: {value}"));
        }
    }
}

/// A table whose columns but the first are figures.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The five that are told of every distribution.
pub(super) fn five(quantiles: &Quantiles) -> [String; 5] {
    [quantiles.p50_ms, quantiles.p90_ms, quantiles.p95_ms, quantiles.p99_ms, quantiles.max_ms].map(number)
}

/// A figure without more digits than it deserves.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn row(name: &str, count: usize, quantiles: &Quantiles) -> Vec<String> {
    let mut row = vec![name.to_owned(), count.to_string()];
    row.extend(five(quantiles));
    row
}

fn print_latency(story: &Story, latency: &Latency) {
    let mut table =
        table(&["Offered → SETTLE, low load (ms)", "payments", "p50", "p90", "p95", "p99", "max"]);
    let (leader, follower) = (&latency.owner_is_leader, &latency.owner_is_follower);
    table.add_row(row("link owner is leader", leader.count, leader));
    table.add_row(row("link owner is follower", follower.count, follower));
    story.print(&format!("\n{table}"));
    if latency.failed > 0 {
        story.print(&format!("{} payments failed.", latency.failed));
    }
}

fn print_throughput(story: &Story, throughput: &Throughput) {
    let mut rates = table(&["Saturation", "payments/s", "under way", "p50 ms", "p90", "p95", "p99", "max"]);
    for (name, saturation) in
        [("single-part", &throughput.single), ("4 parts over 2 nodes", &throughput.four_parts)]
    {
        let mut row = vec![name.to_owned(), number(saturation.payments_per_s), saturation.window.to_string()];
        row.extend(five(&saturation.offered_to_settled));
        rates.add_row(row);
    }
    story.print(&format!("\n{rates}"));
    print_saturation(story, "single-part", &throughput.single);
    print_saturation(story, "4 parts", &throughput.four_parts);
    let mut made = table(&[
        "Invoices over the API",
        "per second",
        "calls at a time",
        "p50 ms",
        "p90",
        "p95",
        "p99",
        "max",
    ]);
    for creation in &throughput.invoices {
        let mut row = vec![creation.kind.to_owned(), number(creation.per_s), creation.calls.to_string()];
        row.extend(five(&creation.answered));
        made.add_row(row);
    }
    story.print(&format!("\n{made}"));
    story.print(&format!(
        "The LND nodes received {} msat of {} msat that were paid.",
        throughput.received_msat, throughput.expected_msat
    ));
}

pub(super) fn print_saturation(story: &Story, name: &str, saturation: &Saturation) {
    let counts = &saturation.counts;
    // Unlike a rate it does not depend on who else uses the machine.
    let us_per_payment = |share: &CpuShare| share.cores / saturation.payments_per_s.max(1e-6) * 1e6;
    let cpu: Vec<String> = saturation
        .cpu
        .iter()
        .map(|share| format!("{} {:.0}", share.process, us_per_payment(share)))
        .collect();
    let tried: Vec<String> = saturation
        .tried
        .iter()
        .map(|trial| {
            format!("{}: {}/s, p99 {} ms", trial.window, number(trial.payments_per_s), number(trial.p99_ms))
        })
        .collect();
    story.print(&format!(
        "{name}: {} of {} payments settled in {:.1} s, locked in → settled p50 {} ms, p99 {} ms. CPU time per payment, µs: {}.{}",
        counts.settled,
        counts.payments,
        saturation.seconds,
        number(saturation.locked_to_settled.p50_ms),
        number(saturation.locked_to_settled.p99_ms),
        cpu.join(", "),
        if tried.is_empty() { String::new() } else { format!(" Tried: {}.", tried.join("; ")) },
    ));
    for (reason, count) in &counts.reasons {
        story.print(&format!("  {count} parts not settled: {reason}"));
    }
}

fn print_failover(story: &Story, failover: &[Failover]) {
    let mut all = table(&["Until the next HTLC is settled (ms)", "times", "p50", "p90", "p95", "p99", "max"]);
    for kind in failover {
        all.add_row(row(kind.what, kind.times, &kind.answered));
    }
    story.print(&format!("\n{all}"));
}

#[allow(clippy::cast_precision_loss, reason = "MiB of a replica")]
fn mib(bytes: u64) -> String {
    number(bytes as f64 / f64::from(1 << 20))
}

fn print_history(story: &Story, history: &History) {
    let mut growth = table(&["Settled invoices", "memory MiB", "disk MiB", "payments/s meanwhile"]);
    for point in &history.growth {
        growth.add_row([
            point.invoices.to_string(),
            mib(point.resident_bytes),
            mib(point.disk_bytes),
            number(point.payments_per_s),
        ]);
    }
    story.print(&format!("\n{growth}"));
    let mut restarts = table(&["Restart", "ready after s", "memory MiB then"]);
    for restart in &history.restarts {
        restarts.add_row([
            format!("{} {}", restart.replica, restart.signal),
            number(restart.ready_s),
            mib(restart.resident_bytes),
        ]);
    }
    story.print(&format!("\n{restarts}"));
    for size in &history.replicas {
        story.print(&format!(
            "{}: {} MiB in memory, {} MiB on disk after {} invoices.",
            size.replica,
            mib(size.resident_bytes),
            mib(size.disk_bytes),
            history.invoices
        ));
    }
    let catch_up = &history.catch_up;
    story.print(&format!(
        "An empty replica that is added then: a voter after {} s, {} MiB in memory, {} MiB on disk; {} payments/s and p99 {} ms for {} s meanwhile.",
        number(catch_up.voter_s),
        mib(catch_up.resident_bytes),
        mib(catch_up.disk_bytes),
        number(catch_up.payments_per_s),
        number(catch_up.p99_ms),
        number(catch_up.paying_s)
    ));
    let change = (history.full.payments_per_s / history.empty.payments_per_s - 1.0) * 100.0;
    story.print(&format!(
        "Throughput: {} payments/s empty, {} after {} invoices ({change:+.1} %).",
        number(history.empty.payments_per_s),
        number(history.full.payments_per_s),
        history.invoices
    ));
    print_saturation(story, "empty", &history.empty);
    print_saturation(story, "full", &history.full);
}

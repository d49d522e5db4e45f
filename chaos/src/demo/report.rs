//! What is told at the end: a table for people, a line for machines.

use super::{Outcome, percentile};
use crate::{cluster::Cluster, story::Story};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value, json};

/// Violations shown to people; machines get them all.
const SHOWN_MAX: usize = 20;

/// Prints the summary.
pub(super) fn summary(story: &Story, outcome: &Outcome, cluster: &Cluster, files_stay: bool) {
    let totals = &outcome.totals;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let mut row = |what: &str, value: String| {
        table.add_row([what.to_owned(), value]);
    };
    row("payments", totals.payments.to_string());
    row("  settled", totals.settled.to_string());
    row("  failed, as they must", (totals.failed - totals.failed_unintended).to_string());
    row("  failed, though they were right", totals.failed_unintended.to_string());
    row("  paid in part", totals.partial.to_string());
    row("  without an end", totals.undecided.to_string());
    row("forwards that are not ours, passed", format!("{} of {}", totals.forwards_passed, totals.forwards));
    row("HTLCs sent", totals.htlcs.to_string());
    row("received", format!("{} msat", totals.settled_msat));
    for kill in &outcome.kills {
        row("killed", format!("{} ({})", kill.replica, kill.role));
    }
    if let Some(max) = outcome.failover_ms.last() {
        let times = &outcome.failover_ms;
        row(
            "failover",
            format!("p50 {} ms, p95 {} ms, max {max} ms", percentile(times, 50), percentile(times, 95)),
        );
    }
    row("promises broken", outcome.violations.len().to_string());
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    story.print(&format!("\n{table}"));
    for violation in outcome.violations.iter().take(SHOWN_MAX) {
        story.print(&format!("VIOLATION {}: {}", violation.rule, violation.evidence));
    }
    if outcome.violations.is_empty() {
        story.print(
            "The ledger balances: what payers paid, the LND nodes received, and every replica says so.",
        );
    } else {
        story.print("The ledger does NOT balance.");
    }
    if files_stay {
        story.print(&format!("Data and logs: {}", cluster.dir().display()));
    } else {
        story.print("Data and logs are removed; `--dir DIR` keeps them, `--keep` keeps the cluster running.");
    }
}

/// The machines' line.
pub(super) fn json(outcome: &Outcome, endpoints: Option<Value>) -> Value {
    let totals = &outcome.totals;
    let times = &outcome.failover_ms;
    let mut line = json!({
        "payments": totals.payments,
        "settled": totals.settled,
        "failed": totals.failed,
        "failed_unintended": totals.failed_unintended,
        "partial": totals.partial,
        "undecided": totals.undecided,
        "forwards": totals.forwards,
        "forwards_passed": totals.forwards_passed,
        "htlcs": totals.htlcs,
        "settled_msat": totals.settled_msat,
        "replicas_killed": outcome.kills.len(),
        "failover_ms": {
            "p50": percentile(times, 50),
            "p95": percentile(times, 95),
            "max": times.last().copied().unwrap_or(0),
            "samples": times,
        },
        "violations": outcome.violations.len(),
        "violation_details": outcome.violations,
    });
    if let (Some(endpoints), Some(line)) = (endpoints, line.as_object_mut()) {
        line.insert("endpoints".into(), endpoints);
    }
    line
}

/// Where everything answers.
pub(super) fn endpoints(cluster: &Cluster) -> Value {
    let replicas: Vec<_> = cluster
        .replicas
        .iter()
        .map(|replica| {
            json!({
                "id": replica.id,
                "grpc": replica.grpc.to_string(),
                "metrics": replica.metrics.to_string(),
                "tls_cert": cluster.tls_cert,
                "macaroon": cluster.macaroon,
                "pid": replica.process.pid(),
            })
        })
        .collect();
    let lnd: Vec<_> = cluster
        .lnds
        .iter()
        .map(|lnd| {
            json!({
                "alias": lnd.alias,
                "pubkey": lnd.node,
                "grpc": lnd.grpc.to_string(),
                "control": lnd.control_address.to_string(),
                "tls_cert": lnd.tls_cert,
                "macaroon": lnd.macaroon,
                "pid": lnd.process.pid(),
            })
        })
        .collect();
    json!({ "dir": cluster.dir(), "replicas": replicas, "lnd": lnd })
}

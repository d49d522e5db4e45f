//! The benchmark's command, with small counts: what it reports, not how fast it was.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

use serde_json::Value;
use std::process::Command;

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Everything that was measured is told, in order, and some of it took time.
fn assert_quantiles(value: &Value, samples: u64) {
    assert_eq!(count(value, "count"), samples, "{value}");
    let names = ["p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"];
    let all: Vec<f64> = names.iter().map(|name| value[*name].as_f64().unwrap()).collect();
    assert!(all.is_sorted() && all[0] > 0.0, "{value}");
}

/// Every payment has an end, and none failed.
fn assert_saturation(value: &Value, parts: u64) {
    let counts = &value["counts"];
    let payments = count(counts, "payments");
    assert!(payments > 0);
    assert_eq!(count(counts, "settled"), payments, "{value}");
    assert_eq!(count(counts, "failed"), 0, "{value}");
    assert_eq!(count(counts, "htlcs"), payments * parts);
    assert_eq!(count(counts, "htlcs_settled"), payments * parts);
    let by_node: Vec<_> =
        counts["htlcs_by_node"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(by_node.iter().sum::<u64>(), payments * parts);
    assert!(by_node[0].abs_diff(by_node[1]) <= 1, "the front nodes take turns: {by_node:?}");
    assert!(value["payments_per_s"].as_f64().unwrap() > 0.0);
    assert_quantiles(&value["offered_to_settled"], payments);
    assert_quantiles(&value["locked_to_settled"], payments);
    let processes: Vec<_> = value["cpu"].as_array().unwrap().iter().map(|cpu| &cpu["process"]).collect();
    assert_eq!(processes, ["replica-1", "replica-2", "replica-3", "lnd-alice", "lnd-bob", "bench"]);
}

#[test]
fn latency_and_throughput_are_reported_and_their_sums_add_up() {
    let report = bench(&["latency", "--quick", "--json"]);
    assert_quantiles(&report["machine"]["fsync"], 300);
    for name in ["cpu", "kernel", "file_system", "rustc", "version", "commit"] {
        assert!(!report["machine"][name].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(report["quick"], true);
    assert!(!report["settings"].as_array().unwrap().is_empty());
    let latency = &report["latency"];
    assert_quantiles(&latency["owner_is_leader"], 50);
    assert_quantiles(&latency["owner_is_follower"], 50);
    assert_eq!((count(latency, "settled"), count(latency, "failed")), (100, 0));
    assert!(report.get("throughput").is_none(), "was not asked for");

    let report = bench(&["throughput", "--quick", "--json"]);
    let throughput = &report["throughput"];
    assert_saturation(&throughput["single"], 1);
    assert_saturation(&throughput["four_parts"], 4);
    assert_eq!(count(throughput, "received_msat"), count(throughput, "expected_msat"));
    for (creation, kind) in throughput["invoices"].as_array().unwrap().iter().zip(["stored", "stateless"]) {
        assert_eq!(creation["kind"], kind);
        assert_quantiles(&creation["answered"], count(creation, "made"));
    }
}

#[test]
fn every_kind_of_failover_is_measured_once() {
    let report = bench(&["failover", "--quick", "--json"]);
    let kinds = report["failover"].as_array().unwrap();
    // Without a leader nobody can be paid at either node; without a link owner, not through its own.
    let expected =
        [("kill-leader", 2), ("kill-owner", 1), ("kill-both", 1), ("stop-leader", 2), ("stop-owner", 1)];
    for (kind, (name, samples)) in kinds.iter().zip(expected) {
        assert_eq!(kind["kind"], name);
        assert_eq!(count(kind, "times"), 1);
        assert_quantiles(&kind["answered"], samples);
        assert_eq!(kind["samples_ms"].as_array().unwrap().len() as u64, samples);
    }
    assert_eq!(kinds.len(), expected.len());
}

#[test]
fn a_history_is_measured_and_adds_up() {
    let report = bench(&["history", "--quick", "--json"]);
    let history = &report["history"];
    assert_eq!(count(history, "invoices"), 500);
    assert_saturation(&history["empty"], 1);
    assert_saturation(&history["full"], 1);
    assert_eq!(count(history, "received_msat"), count(history, "expected_msat"));
    let replicas = history["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    for replica in replicas {
        assert!(count(replica, "resident_bytes") > 1 << 20 && count(replica, "disk_bytes") > 0, "{replica}");
    }
    let restarts = history["restarts"].as_array().unwrap();
    assert_eq!(restarts.len(), 8, "each replica, the added one too, by SIGTERM and by SIGKILL");
    let catch_up = &history["catch_up"];
    for figure in ["voter_s", "payments_per_s", "paying_s", "p99_ms", "disk_bytes", "resident_bytes"] {
        assert!(catch_up[figure].as_f64().unwrap() > 0.0, "{catch_up}");
    }
    assert!(restarts.iter().all(|restart| restart["ready_s"].as_f64().unwrap() > 0.0));
    assert_eq!(history["growth"].as_array().unwrap().last().unwrap()["invoices"], 500);
}

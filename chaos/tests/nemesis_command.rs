//! The nemesis's command, for less than a minute and on loopback: that it breaks things, that payments are made
//! meanwhile, and that its verdict depends on what was seen.

#![allow(clippy::unwrap_used, clippy::panic)] // test code, outside of test functions

use serde_json::Value;
use std::process::Command;

/// Runs it on loopback; its exit code, what it told, and its last line.
fn nemesis(arguments: &[&str]) -> (Option<i32>, String, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nemesis"));
    verdict(command.args(["--network", "loopback", "--json"]).args(arguments))
}

fn verdict(command: &mut Command) -> (Option<i32>, String, Value) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}\n{errors}");
    let last = text.lines().last().unwrap_or_default();
    let report = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    (output.status.code(), text, report)
}

fn count(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {value:#}"))
}

#[test]
fn a_short_run_breaks_things_while_payments_are_made_and_comes_to_a_verdict() {
    const KINDS: [&str; 6] = ["kill", "pause", "minority-leader", "half-open", "lnd-restart", "block"];
    let kinds = KINDS.join(",");
    // Three rounds: the cluster settles by itself, then an application does, then faults come one at a time.
    let arguments = ["--minutes", "0.9", "--round", "18", "--seed", "11", "--kinds", &kinds];
    let (code, text, report) = nemesis(&arguments);
    assert_eq!(code, Some(0), "{:#}", report["violations"]);
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    assert!(text.contains("ATTENTION: NO ZONES"), "loopback is told loudly");
    assert_eq!(report["zones"], false);
    assert_eq!(count(&report, "/seed"), 11);
    for kind in KINDS {
        assert!(
            count(&report, &format!("/faults_by_kind/{kind}")) > 0,
            "{kind}: {}",
            report["faults_by_kind"]
        );
    }
    assert_eq!(report["counts"], true);
    let waits = report["failover"].as_object().unwrap();
    // Which of them it is told by is up to the machine: on a slow one more faults meet.
    assert!(waits.values().any(|times| count(times, "/max_ms") > 0), "{waits:?}");
    assert_eq!(count(&report, "/heal/count"), 3, "one a round");
    for what in ["/payments/settled", "/invoices", "/calls", "/events"] {
        assert!(count(&report, what) > 0, "{what}");
    }
    assert_eq!(count(&report, "/payments/undecided") + count(&report, "/payments/partial"), 0);
}

#[test]
fn where_no_zones_can_be_made_it_says_why_and_runs_on_loopback() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nemesis"));
    // Nothing that makes them is found.
    command.env("PATH", "/nonexistent");
    command.args(["--json", "--minutes", "0.08", "--seed", "12", "--kinds", "block"]);
    let (_, text, report) = verdict(&mut command);
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    assert_eq!(report["zones"], false);
    let why = report["no_zones_because"].as_str().unwrap();
    assert!(why.contains("unshare (util-linux) cannot be started"), "{why}");
    assert!(text.contains("ATTENTION: NO ZONES") && text.contains(why), "{text}");
}

#[test]
fn a_falsified_history_ledger_or_event_stream_is_found_and_the_evidence_is_kept() {
    let arguments =
        ["--minutes", "0.08", "--seed", "12", "--kinds", "block", "--doctor", "history,ledger,events"];
    let (code, text, report) = nemesis(&arguments);
    assert_eq!(code, Some(1));
    let violations = report["violations"].as_array().unwrap();
    let rules: Vec<_> = violations.iter().map(|violation| violation["rule"].as_str().unwrap()).collect();
    for rule in ["not_linearizable", "events", "received_unpaid"] {
        assert!(rules.contains(&rule), "{rule} in {rules:?}");
    }
    // One each, and what follows from it: nothing else was wrong.
    assert_eq!(rules.iter().filter(|rule| **rule == "not_linearizable").count(), 1, "{rules:?}");
    assert!(text.contains("does not fit"), "the history is told in a readable form");
    assert!(text.contains("Seed 12. Again: cargo run --release --bin nemesis -- --minutes 0.08"));
    let dir = std::path::PathBuf::from(report["dir"].as_str().unwrap());
    for file in ["verdict.json", "histories.txt", "payments.json", "logs/replica-1.log"] {
        assert!(dir.join(file).exists(), "{file}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

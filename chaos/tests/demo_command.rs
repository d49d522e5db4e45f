//! The README's first command, as a user runs it.

use serde_json::Value;
use std::process::Command;

#[test]
fn demo_pays_through_two_kills_and_its_ledger_balances() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--payments", "30", "--json", "--seed", "7"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let count = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
    assert_eq!(count("payments"), 30, "{line}");
    assert_eq!(count("settled") + count("failed") + count("partial"), 30, "{line}");
    assert_eq!(count("partial"), 0);
    assert_eq!(count("violations"), 0);
    assert_eq!(count("replicas_killed"), 2);
    assert_eq!(count("failed_unintended"), 0, "{line}");
    let failover = &line["failover_ms"];
    assert!(failover["p50"].as_u64() > Some(0), "measured: {line}");
    assert!(failover["p50"].as_u64() <= failover["p95"].as_u64());
    assert!(failover["p95"].as_u64() <= failover["max"].as_u64());
}

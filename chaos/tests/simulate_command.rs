//! The program `simulate`, with a few short runs: that it finds nothing, repeats itself, and says how to repeat.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

fn simulate(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

fn trace_of(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("trace ")).unwrap()
}

#[test]
fn some_seeds_find_nothing_and_repeat() {
    let (output, text) = simulate(&["--seeds", "4", "--seconds", "8", "--twice", "--json"]);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("4 seeds of 8 s with faults, 0 failed"), "{text}");
    let told: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&told["seeds"], &told["failed"], &told["seed"]),
        (&4.into(), &0.into(), &1.into()),
        "{told:#}"
    );
    assert_eq!(told["counts"], false, "so few seeds cannot meet what must be met: {told:#}");
    assert!(told["simulated_ms"].as_u64().unwrap() >= 32_000 && told["faults"].is_object(), "{told:#}");
    assert!(
        told["run"]["command"].as_str().unwrap().ends_with("--seeds 4 --seconds 8 --twice --json"),
        "{told:#}"
    );
}

#[test]
fn a_seed_always_gives_the_same_trace_and_another_seed_another() {
    let run = |seed: &str| {
        let (output, text) = simulate(&["--seeds", "1", "--seed", seed, "--seconds", "5"]);
        assert!(output.status.success(), "{text}");
        trace_of(&text).to_owned()
    };
    let first = run("7");
    assert_eq!(first, run("7"));
    assert_ne!(first, run("8"));
}

#[test]
fn the_trace_has_a_column_for_each_host() {
    let (output, text) = simulate(&["--seeds", "1", "--seconds", "5", "--trace"]);
    assert!(output.status.success(), "{text}");
    for name in ["| world", "| replica 1", "| replica 2", "| replica 3", "| alice", "| bob", "| payers"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(text.contains("leads, term"), "{text}");
    // What an LND node does is told in its own column.
    let table: Vec<&str> = text.lines().take_while(|line| !line.starts_with("trace ")).collect();
    let place = |text: &str| table.iter().find_map(|line| line.find(text));
    let alice = place("| alice").unwrap();
    assert!(
        table.iter().any(|line| line.get(alice..).is_some_and(|cell| cell.starts_with("| starts"))),
        "{text}"
    );
    assert!(table.iter().any(|line| line.contains("| HTLC ")), "{text}");
}

#[test]
fn a_seed_that_fails_is_told_with_a_command_that_repeats_it_and_what_happened_is_kept() {
    let dir = tempfile::TempDir::new().unwrap();
    let traces = dir.path().to_str().unwrap();
    let arguments = ["--seeds", "1", "--seed", "3", "--seconds", "4", "--traces", traces, "--doctor"];
    let (output, text) = simulate(&arguments);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let kept = dir.path().join("simulate-3.trace");
    for line in [
        "seed 3 FAILED".to_owned(),
        "  doctored: nothing else is wrong".to_owned(),
        format!("  what happened: {}", kept.display()),
        "  again: cargo run --release --bin simulate -- --seeds 1 --seed 3 --seconds 4 --trace".to_owned(),
        "1 seeds of 4 s with faults, 1 failed".to_owned(),
    ] {
        assert!(text.lines().any(|told| told == line), "{line}: {text}");
    }
    let trace = std::fs::read_to_string(kept).unwrap();
    assert!(
        trace.contains("| replica 1") && trace.contains("| alice") && trace.contains("starts"),
        "{trace}"
    );
    // The command it tells is one that finds the same.
    let (_, again) = simulate(&["--seeds", "1", "--seed", "3", "--seconds", "4"]);
    assert!(
        again.contains("1 seeds of 4 s with faults, 0 failed"),
        "only the doctor found something: {again}"
    );
}

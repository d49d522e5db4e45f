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
fn the_trace_has_a_column_for_each_replica() {
    let (output, text) = simulate(&["--seeds", "1", "--seconds", "5", "--trace"]);
    assert!(output.status.success(), "{text}");
    for name in ["| world", "| replica 1", "| replica 2", "| replica 3"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(text.contains("leads, term"), "{text}");
}

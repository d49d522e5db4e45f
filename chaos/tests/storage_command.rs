//! `storage`: a short run of it. Power cuts need root, loop devices, mkfs.ext4 and python3; where they cannot be had
//! the command must say that nothing was shown.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use serde_json::Value;
use std::process::Command;

#[test]
fn what_was_acknowledged_is_found_after_power_cuts_or_the_command_says_that_it_cannot_tell() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_storage")).args(["--rounds", "21", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(3) {
        assert!(said.contains("NOT RUN"), "{said}");
        println!("nothing was shown on this machine");
        return;
    }
    assert!(output.status.success(), "{}", output.status);
    let report: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(report["violations"].as_array().unwrap().len(), 0);
    let rounds = |kind: &str| report["rounds"][kind].as_u64().unwrap();
    assert_eq!((rounds("power-at-point"), rounds("damage")), (11, 4));
    for kind in ["power-at-random", "kill-at-point", "kill-at-random", "full", "broken", "short"] {
        assert!(rounds(kind) > 0, "{kind}");
    }
    assert_eq!(report["short"], 1, "a write was really short");
    assert!(said.contains("Again: cargo run --release --bin storage -- --rounds 21 --seed"), "{said}");
    assert!(report["found"].as_u64().unwrap() > 100, "{report}");
    // Not every byte matters, and of some file every one does.
    let (refused, unharmed) = (report["refused"].as_u64().unwrap(), report["unharmed"].as_u64().unwrap());
    assert!(refused >= 1 && refused + unharmed >= 4, "{report}");
    assert!(said.contains("a look, and not a run that counts"), "{said}");
}

//! The page of small files.

use super::{Found, bugs::Bugs, page::page, read::parse};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const COMMAND: &str = "nemesis --minutes 3";

fn run() -> Value {
    json!({"command": COMMAND, "commit": "abc1234", "machine": "2 cores of a CPU", "release_build": true})
}

fn of<T: DeserializeOwned>(mut value: Value) -> T {
    value["run"] = run();
    value["what nobody knows"] = json!({"a": [1]});
    parse(&value.to_string()).unwrap()
}

fn nemesis(kills: u64, gaps: &[u64], healed: &[u64]) -> Value {
    json!({
        "seed": 7, "minutes": 1.5, "counts": kills > 0, "zones": true,
        "versions": "this one and /somewhere/muxd",
        "faults_by_kind": {"kill": kills, "pause": 2}, "failover_ms": {"kill": gaps}, "healed_ms": healed,
        "left_out": [{"kind": "slow-disk", "why": "no throttle"}],
        "payments": {"payments": 10, "settled": 6, "failed": 3, "failed_unintended": 1, "partial": 1, "htlcs": 14,
            "settled_msat": 600, "forwards": 2, "forwards_passed": 2},
        "calls": 100, "calls_unknown": 5, "invoices": 20, "events": 50, "violations": []
    })
}

fn has(page: &str, what: &str) {
    assert!(page.contains(what), "{what:?} is not in\n{page}");
}

/// A row of a table, whatever its columns are filled with.
fn has_row(page: &str, cells: &[&str]) {
    let row = |line: &str| {
        line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>() == cells
    };
    assert!(page.lines().any(row), "no row {cells:?} in\n{page}");
}

#[test]
fn runs_of_a_tool_add_up_and_percentiles_are_of_all_values() {
    let found = Found {
        nemesis: vec![of(nemesis(3, &[40, 10], &[5, 9])), of(nemesis(1, &[900, 20], &[7]))],
        ..Found::default()
    };
    let page = page(&found);
    has(&page, "2 runs that count, 3 minutes of faults, 3 rounds.");
    has_row(&page, &["kill", "4", "20", "900", "900"]);
    has_row(&page, &["pause", "4", "–", "–", "–"]);
    has(&page, "Time to heal after a round: p50 7 ms, p95 9 ms, max 9 ms.");
    has(
        &page,
        "Payments: 20 (28 HTLCs). 12 settled (1200 msat), 4 failed as they must or may, 2 though they were right",
    );
    has(&page, "Histories: 200 calls on 40 invoices, 10 of unknown outcome; 100 events");
    has(&page, "slow-disk: no throttle.");
    has(&page, "Violations: none.");
    has(&page, COMMAND);
    assert!(!page.contains("/somewhere"), "a place of the machine it ran on");
}

#[test]
fn a_run_that_does_not_count_says_so_and_adds_nothing() {
    let mut unknown = nemesis(9, &[1], &[1]);
    unknown["run"] = Value::Null;
    let mut debug = nemesis(9, &[1], &[1]);
    debug["run"] = run();
    debug["run"]["release_build"] = json!(false);
    let mut older = nemesis(9, &[1], &[1]);
    older["run"] = run();
    older["run"]["commit"] = json!("before abc1234");
    unknown.as_object_mut().unwrap().remove("run");
    let found = Found {
        nemesis: vec![
            of(nemesis(0, &[1], &[1])),
            parse(&unknown.to_string()).unwrap(),
            parse(&debug.to_string()).unwrap(),
            parse(&older.to_string()).unwrap(),
        ],
        simulate: vec![of(json!({"seeds": 5, "counts": false, "simulated_ms": 7_200_000}))],
        storage: vec![of(json!({"seed": 1, "rounds": {"Power": 3}, "missed": ["log.synced"], "found": 4}))],
        ..Found::default()
    };
    let page = page(&found);
    has(&page, "0 runs that count, 0 minutes of faults, 0 rounds.");
    for why in [
        "DOES NOT COUNT: never happened: kill",
        "DOES NOT COUNT: of unknown commit and machine",
        "DOES NOT COUNT: not a release build",
        "DOES NOT COUNT: built before abc1234, from nobody knows what",
        "DOES NOT COUNT: it says so itself",
        "DOES NOT COUNT: never happened: log.synced",
    ] {
        has(&page, why);
    }
    has(&page, "0 seeds, 0.00 hours simulated");
    has(&page, "Acknowledgements looked for and found: 0.");
    has(&page, "Time to heal after a round: p50 – ms");
}

#[test]
fn violations_are_told_also_of_a_run_that_ended_by_them() {
    let mut broken = nemesis(0, &[], &[]);
    broken["violations"] = json!([{"rule": "paid_twice", "evidence": "hash 1|2"}]);
    let found = Found { nemesis: vec![of(broken)], ..Found::default() };
    let page = page(&found);
    has(&page, "1 runs that count");
    has(&page, "| paid_twice ");
    has(&page, "hash 1\\|2");
    assert!(!page.contains("Violations: none"));
}

#[test]
fn simulations_storage_and_mutants_are_told_in_whichever_words() {
    let found = Found {
        simulate: vec![
            of(
                json!({"seed": 1, "seeds": 100, "simulated_ms": 3_600_000, "faults": {"Crash": 4}, "terms": 9,
                "happened": {"a torn batch": 2}, "counts": true, "healed_ms_max": 800}),
            ),
            of(
                json!({"first_seed": 101, "seeds": 50, "hours": 0.5, "faults": {"Crash": 1}, "healed_ms_max": 900,
                "failures": [{"seed": 130, "rule": "diverged", "evidence": "at 7"}], "failed": 1}),
            ),
        ],
        storage: vec![of(
            json!({"seed": 3, "rounds": {"Power": 3}, "points": {"log.written": 2}, "found": 4,
            "violations": ["an entry is gone"]}),
        )],
        mutants: vec![of(json!({"results": [
            {"mutant": "no-sync", "what": "forgets to sync", "found": true, "by": "storage", "seed": 5},
            {"name": "early", "caught": false}]}))],
        ..Found::default()
    };
    let page = page(&found);
    has(&page, "150 seeds, 1.50 hours simulated, 1 seeds failed. 9 terms with a leader");
    has(&page, "longest time to heal 900 ms");
    has_row(&page, &["Crash", "5"]);
    has_row(&page, &["a torn batch", "2"]);
    has_row(&page, &["130", "diverged", "at 7"]);
    has_row(&page, &["log.written", "2"]);
    has_row(&page, &["3", "an entry is gone"]);
    has_row(&page, &["no-sync", "forgets to sync", "yes", "storage", "5", "–"]);
    has_row(&page, &["early", "NOT FOUND", "–", "–"]);
}

#[test]
fn the_last_line_of_what_a_tool_printed_is_read() {
    let text = format!("Seed 7.\n  0.1 s  kill: {{x}}\n{}\n", nemesis(2, &[], &[]));
    let read: super::read::Nemesis = parse(&text).unwrap();
    assert_eq!(read.seed, 7);
    assert!(parse::<super::read::Nemesis>("no JSON at all").is_err());
}

#[test]
fn the_list_of_bugs_is_on_the_page() {
    let text = "[[bug]]\nwhat = 'lost'\nfound_by = 'nemesis'\nagain = 'x --seed 1'\ncommit = 'abcdef0'\ntest = 'a.rs'\nname = 'b'\n";
    let found = Found { bugs: Some(toml::from_str::<Bugs>(text).unwrap()), ..Found::default() };
    has_row(&page(&found), &["lost", "nemesis", "`x --seed 1`", "abcdef0", "`b` in `a.rs`"]);
    assert!(toml::from_str::<Bugs>(&text.replace("test", "tset")).is_err());
}

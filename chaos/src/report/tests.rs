//! The page of small files.

use super::{
    Found,
    bugs::Bugs,
    page::page,
    read::{Simulate, parse},
    sums::overlap,
};
use crate::sim::{swarm::FaultKind, world::PaymentCounts};
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
        "versions": "this one and /somewhere/muxd", "clocks": "an offset",
        "faults_by_kind": {"kill": kills, "pause": 2}, "failover_ms": {"pause": [99_000]}, "waits_ms": {"kill": gaps, "several at once": [7_000]}, "healed_ms": healed,
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
    has(&page, "2 runs that count, 3.0 minutes of faults, 3 rounds.");
    has_row(&page, &["fault", "times", "longest wait: n", "p50 (ms)", "p95", "max"]);
    has_row(&page, &["kill", "4", "4", "20", "–", "900"]);
    has_row(&page, &["pause", "4", "0", "–", "–", "–"]);
    has_row(&page, &["several at once", "–", "2", "7000", "–", "7000"]);
    has(&page, "one value (n) for each fault that was alone from its beginning until 3 s after its end");
    has(&page, "Time to heal after a round: p50 7 ms, p95 – ms, max 9 ms.");
    has(
        &page,
        "Payments: 20 (28 HTLCs). 12 settled (1200 msat), 4 failed as they must or may, 2 though they were right",
    );
    has(&page, "Histories: 200 calls on 40 invoices, 10 of unknown outcome; 100 events");
    has(&page, "slow-disk: no throttle.");
    has(&page, "Clocks are made wrong by an offset.");
    has(&page, "Violations: none.");
    has(&page, COMMAND);
    assert!(!page.contains("/somewhere"), "a place of the machine it ran on");
}

#[test]
fn versions_ran_side_by_side_for_as_long_as_the_runs_that_tell_it_say() {
    let mut telling = nemesis(3, &[], &[]);
    telling["mixed_versions_seconds"] = json!(41);
    let void = json!({"counts": false, "mixed_versions_seconds": 1000});
    let page =
        page(&Found { nemesis: vec![of(telling), of(nemesis(3, &[], &[])), of(void)], ..Found::default() });
    has(&page, "Versions side by side: 41 s (of the 1 of 2 runs that tell it: 90 s of faults).");
    has(&page, "versions: this one and a previous binary, side by side: 41 s");
    has(&page, "versions: this one and a previous binary, side by side: not told");
    let old = Found { nemesis: vec![of(nemesis(3, &[], &[]))], ..Found::default() };
    has(&super::page::page(&old), "Versions side by side: not told by any of these runs.");
}

#[test]
fn a_run_that_does_not_count_says_so_and_adds_nothing() {
    let mut unknown = nemesis(9, &[1], &[1]);
    unknown["run"] = Value::Null;
    let mut debug = nemesis(9, &[1], &[1]);
    debug["run"] = run();
    debug["run"]["release_build"] = json!(false);
    let mut changed = nemesis(9, &[1], &[1]);
    changed["run"] = run();
    changed["run"]["commit"] = json!("abc1234+");
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
            parse(&changed.to_string()).unwrap(),
        ],
        simulate: vec![of(json!({"seeds": 5, "counts": false, "simulated_ms": 7_200_000, "failed": 1,
            "violations": [{"seed": 3, "evidence": "lost"}]}))],
        storage: vec![
            of(json!({"seed": 1, "rounds": {"Power": 60}, "missed": ["log.synced"], "found": 4})),
            of(json!({"seed": 2, "rounds": {"Power": 2}, "found": 4})),
        ],
        ..Found::default()
    };
    let page = page(&found);
    has(&page, "0 runs that count, 0.0 minutes of faults, 0 rounds.");
    for why in [
        "DOES NOT COUNT: never happened: kill",
        "DOES NOT COUNT: of unknown commit and machine",
        "DOES NOT COUNT: not a release build",
        "DOES NOT COUNT: built before abc1234, from nobody knows what",
        "DOES NOT COUNT: it says so itself",
        "DOES NOT COUNT: never happened: log.synced",
        "DOES NOT COUNT: 2 rounds, fewer than",
        "DOES NOT COUNT: of changed sources, and not of abc1234",
    ] {
        has(&page, why);
    }
    has(
        &page,
        "0 runs that count: 0 seeds, 0.00 hours simulated, 0 of these seeds failed (and 1 of runs that do not count)",
    );
    has_row(&page, &["3", "lost"]);
    has(&page, "0 runs that count. 0 acknowledgements, each looked for");
    has(&page, "Time to heal after a round: p50 – ms");
}

#[test]
fn violations_are_told_also_of_a_run_that_ended_by_them() {
    let mut broken = nemesis(0, &[], &[]);
    broken["minutes_run"] = json!(0.5);
    broken["violations"] = json!([{"rule": "paid_twice", "evidence": "hash 1|2"}]);
    let found = Found { nemesis: vec![of(broken)], ..Found::default() };
    let page = page(&found);
    has(&page, "1 runs that count, 0.5 minutes of faults");
    has(&page, "0.5 of 1.5 min, seed 7, zones");
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
                "happened": {"a torn batch": 2}, "missing": ["a full log", "a replica died at log.told"], "counts": true, "healed_ms_max": 800}),
            ),
            of(
                json!({"first_seed": 101, "seeds": 50, "hours": 0.5, "faults": {"Crash": 1}, "healed_ms_max": 900,
                "failures": [{"seed": 130, "rule": "diverged", "evidence": "at 7"}], "failed": 1}),
            ),
        ],
        storage: vec![of(
            json!({"seed": 3, "rounds": {"Power": 40}, "points": {"log.written": 2}, "found": 4, "short": 2,
            "violations": ["an entry is gone"]}),
        )],
        mutants: vec![of(json!({"results": [
            {"mutant": "no-sync", "what": "forgets to sync", "found": true, "by": "storage", "seed": 5},
            {"name": "early", "caught": false}]}))],
        ..Found::default()
    };
    let page = page(&found);
    has(
        &page,
        "2 runs that count: 150 seeds, 1.50 hours simulated, 1 of these seeds failed. 9 terms with a leader",
    );
    has(&page, "Time to heal after the faults of a seed: at most 900 ms");
    has_row(&page, &["Crash", "5"]);
    for kind in FaultKind::ALL {
        has_row(&page, &[&format!("{kind:?}"), "0"]);
    }
    has_row(&page, &["a torn batch", "2"]);
    has_row(&page, &["a full log", "0"]);
    has_row(&page, &["log.told", "0"]);
    has_row(&page, &["snapshot.kept", "0"]);
    has_row(&page, &["130", "diverged", "at 7"]);
    has_row(&page, &["log.written", "2"]);
    has(&page, "Writes that were really cut short: 2.");
    has_row(&page, &["3", "an entry is gone"]);
    has_row(&page, &["no-sync", "forgets to sync", "yes", "storage", "–", "5", "–", "–"]);
    has_row(&page, &["early", "NOT FOUND", "–", "–", "–", "–"]);
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
    let text = "[[bug]]\nwhat = 'lost'\nfound_by = 'nemesis'\nseed = '1'\nagain = 'x --seed 1'\ncommit = 'abcdef0'\ntest = 'a.rs'\nname = 'b'\n";
    let found = Found { bugs: Some(toml::from_str::<Bugs>(text).unwrap()), ..Found::default() };
    let page = page(&found);
    has_row(&page, &["lost", "nemesis", "1", "`x --seed 1`", "abcdef0", "`b` in `a.rs`"]);
    has(
        &page,
        "Errors that were found in the harness itself (checkers, simulated LND, tools) are not among these",
    );
    assert!(toml::from_str::<Bugs>(&text.replace("test", "tset")).is_err());
}

#[test]
fn what_the_simulation_paid_checked_and_died_at_is_told_in_its_own_words() {
    let mut paid = serde_json::to_value(PaymentCounts::default()).unwrap();
    let counted = [
        ("begun", 70),
        ("settled", 50),
        ("failed", 11),
        ("failed_unintended", 4),
        ("partial", 6),
        ("undecided", 3),
        ("htlcs", 90),
        ("forwards", 8),
        ("forwards_begun", 9),
        ("calls", 700),
        ("events", 900),
    ];
    for (name, times) in counted {
        // Under another name it would be told as 0.
        *paid.get_mut(name).unwrap() = json!(times);
    }
    let one = json!({"seed": 1, "seeds": 2, "seconds": 30, "simulated_ms": 90_000, "cpu_ms": 1_000, "counts": true,
        "payments": paid, "points": {"log.synced": 3}, "healed_ms_max": 70,
        "slowest_heal": {"seed": 2, "seconds": 0.07}});
    let mut other = one.clone();
    other["seed"] = json!(3);
    other["healed_ms_max"] = json!(60);
    other["slowest_heal"]["seed"] = json!(4);
    let page = page(&Found { simulate: vec![of(one), of(other)], ..Found::default() });
    has(
        &page,
        "Payments: 140 begun (180 HTLCs). 100 settled, 14 failed as they must or may, 8 though they were right",
    );
    has(&page, "12 in part (LND lost a part of a decided set), 6 without an end. 16 of 18 forwards passed.");
    has(&page, "at most 70 ms (simulated) (seed 2).");
    has(
        &page,
        "Checked: 1400 calls for an order that explains all answers, 1800 events that all subscribers saw.",
    );
    has(&page, "seeds 1 to 2, 30 s each");
    has(&page, "Speed: 90 times real time on a core");
    has_row(&page, &["a replica died at", "times"]);
    has_row(&page, &["log.synced", "6"]);
}

#[test]
fn a_mutant_that_survived_on_a_real_disk_was_not_found() {
    let mutant = |name: &str, on_disk: Value| {
        json!({"name": name, "description": "x", "caught": true, "how": "y", "seed": 3, "seeds": 3, "seconds": 1.25,
            "on_disk": on_disk})
    };
    let mutants = json!({"seconds": 30, "sound_on_disk": {"nothing": {"seconds": 40.0}}, "mutants": [
        mutant("one", Value::Null),
        mutant("two", json!({"noticed": {"what": "lost", "seconds": 7.0}})),
        mutant("three", json!({"nothing": {"seconds": 50.0}})),
        mutant("four", json!({"failed": "no report"})),
        mutant("five", json!("not_run")),
    ]});
    let page = page(&Found { mutants: vec![of(mutants)], ..Found::default() });
    let row = |name, found, on_disk| has_row(&page, &[name, "x", found, "y", on_disk, "3", "3", "1.2 s"]);
    row("one", "yes", "–");
    row("two", "yes", "in 7.0 s: lost");
    row("three", "NOT on a real disk", "nothing in 50.0 s");
    row("four", "NO RESULT on a real disk", "no result: no report");
    row("five", "yes", "not run: that machine could not make the file system");
    has(&page, "3 of 5 found");
    has(&page, "The storage suite without any of them: nothing in 40.0 s.");
    has(&page, "--bin mutants -- --only MUTANT --seed SEED");
}

#[test]
fn a_mutant_whose_seeds_fail_without_it_or_without_a_result_shows_nothing() {
    let mutants = json!({"seconds": 30, "mutants": [
        {"name": "one", "caught": false, "how": "lost", "seed": 3, "unsound": ["seed 2 without it: lost"]},
        {"name": "two", "caught": true, "how": "lost", "seed": 3, "errors": ["seed 4: it hangs"]},
    ]});
    let page = page(&Found { mutants: vec![of(mutants)], ..Found::default() });
    has_row(&page, &["one", "NOTHING SHOWN: seed 2 without it: lost", "lost", "–", "3", "–", "–"]);
    has_row(&page, &["two", "NO RESULT: seed 4: it hangs", "lost", "–", "3", "–", "–"]);
    has(&page, "0 of 2 found");
}

#[test]
fn mutants_of_a_storage_suite_that_fails_without_any_do_not_count() {
    for (sound, why) in [
        (
            json!({"noticed": {"what": "lost", "seconds": 7.0}}),
            "without any mutant the storage suite notices, too: lost",
        ),
        (json!({"failed": "no report"}), "without any mutant the storage suite has no result: no report"),
    ] {
        let mutants = json!({"sound_on_disk": sound, "mutants": [{"name": "one", "caught": true}]});
        let page = page(&Found { mutants: vec![of(mutants)], ..Found::default() });
        has(&page, &format!("DOES NOT COUNT: {why}"));
        has(&page, "The storage suite without any of them: ");
        assert!(!page.contains("| one "), "{page}");
    }
}

#[test]
fn seeds_that_are_in_two_files_are_refused_and_several_commits_are_told() {
    let simulate = |seed: u64, seeds: u64, commit: &str| -> Simulate {
        let mut one = json!({"seed": seed, "seeds": seeds, "counts": true, "run": run()});
        one["run"]["commit"] = json!(commit);
        parse(&one.to_string()).unwrap()
    };
    let apart = vec![simulate(1, 200, "abc1234"), simulate(201, 200, "def5678")];
    assert_eq!(overlap(&apart), None);
    let page = page(&Found { simulate: apart, ..Found::default() });
    has(&page, "ATTENTION: the runs that count are of 2 commits: abc1234, def5678.");
    let twice = [simulate(500, 9, "abc1234"), simulate(1, 200, "abc1234"), simulate(200, 200, "def5678")];
    assert_eq!(overlap(&twice), Some((1, 2)));
    let void = [simulate(1, 200, "abc1234+"), simulate(1, 200, "abc1234")];
    assert_eq!(overlap(&void), None, "the first is not counted at all");
}

#[test]
fn what_older_runs_did_not_count_is_not_told_as_none() {
    let old = json!({"seed": 1, "seeds": 2, "counts": true, "healed_ms_max": 90,
        "payments": {"begun": 70, "settled": 50, "failed": 11, "forwards": 8}});
    let new = json!({"seed": 3, "seeds": 2, "counts": true, "healed_ms_max": 80, "slowest_heal": {"seed": 3},
        "payments": {"begun": 10, "settled": 7, "failed": 2, "failed_unintended": 1, "partial": 1, "undecided": 0,
            "forwards": 1, "forwards_begun": 1}});
    let page = page(&Found { simulate: vec![of(old), of(new)], ..Found::default() });
    has(
        &page,
        "Payments: 80 begun (0 HTLCs). 57 settled, 13 failed, as they should have or not, 10 in part or without an end",
    );
    has(&page, "9 forwards passed.");
    has(&page, "at most 90 ms (simulated).");
}

#[test]
fn p95_is_of_as_many_values_as_make_it_another_than_the_largest() {
    let values: Vec<u64> = (1..=20).collect();
    for (n, p95) in [(19, "–"), (20, "19")] {
        let page = page(&Found { nemesis: vec![of(nemesis(1, &values[..n], &[]))], ..Found::default() });
        has_row(&page, &["kill", "1", &n.to_string(), "10", p95, &n.to_string()]);
    }
}

//! Runs that were made again after what failed in them was mended: told, and not summed up.

use super::{
    ancestry::Order,
    page::{line, table},
    read::{Nemesis, Simulate, Storage},
    sums::counting,
};
use crate::provenance::Provenance;
use serde::{Deserialize, de::Error as _};
use serde_json::Value;

/// One of them.
#[derive(Debug)]
pub(super) enum Old {
    Simulate(Box<Simulate>),
    Nemesis(Box<Nemesis>),
    Storage(Box<Storage>),
}

impl<'de> Deserialize<'de> for Old {
    /// Each is known by what only its tool writes: every field may be missing, so that either could be read as the other.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let has = |field: &str| value.get(field).is_some();
        let read = if has("seeds") {
            serde_json::from_value(value).map(|one| Self::Simulate(Box::new(one)))
        } else if has("minutes") {
            serde_json::from_value(value).map(|one| Self::Nemesis(Box::new(one)))
        } else if has("rounds") {
            serde_json::from_value(value).map(|one| Self::Storage(Box::new(one)))
        } else {
            return Err(D::Error::custom("not of simulate, nemesis or storage"));
        };
        read.map_err(D::Error::custom)
    }
}

impl Old {
    fn provenance(&self) -> &Provenance {
        match self {
            Self::Simulate(one) => &one.run,
            Self::Nemesis(one) => &one.run,
            Self::Storage(one) => &one.run,
        }
    }

    /// But for whether it was made again.
    fn row(&self) -> Vec<String> {
        let any = |violations: &[Value]| if violations.is_empty() { "no" } else { "yes" }.to_owned();
        let (tool, seeds, each, failed) = match self {
            Self::Simulate(one) => {
                let (first, last) = one.seeds();
                let failed =
                    format!("{} of {} seeds", one.failed.max(self.failures().len() as u64), one.seeds);
                ("simulate", format!("{first} to {last}"), format!("{} s", one.seconds), failed)
            }
            Self::Nemesis(one) => {
                ("nemesis", one.seed.to_string(), one.minutes_in_words(), any(&one.violations))
            }
            Self::Storage(one) => {
                let rounds = format!("{} rounds", one.rounds.values().sum::<u64>());
                ("storage", one.seed.to_string(), rounds, any(&one.violations))
            }
        };
        let run = self.provenance();
        vec![tool.into(), word(&run.commit), seeds, each, failed, format!("`{}`", word(&run.command))]
    }

    /// The seeds that failed, in order, and what was wrong with each first.
    fn failures(&self) -> Vec<(u64, String)> {
        let (violations, only) = match self {
            Self::Simulate(one) => (&one.violations, one.seeds().0),
            Self::Nemesis(one) => (&one.violations, one.seed),
            Self::Storage(one) => (&one.violations, one.seed),
        };
        let seed = |what: &Value| what.get("seed").and_then(Value::as_u64).unwrap_or(only);
        let mut first: Vec<_> = violations.iter().map(|what| (seed(what), first_line(what))).collect();
        // Stable: of a seed the first stays the first.
        first.sort_by_key(|(seed, _)| *seed);
        first.dedup_by_key(|(seed, _)| *seed);
        first
    }
}

fn word(text: &str) -> String {
    if text.is_empty() { "not recorded".into() } else { text.into() }
}

fn first_line(what: &Value) -> String {
    let text = |key: &str| what.get(key).and_then(Value::as_str);
    let told = what.as_str().or_else(|| text("evidence")).map_or_else(|| what.to_string(), str::to_owned);
    let told = told.lines().next().unwrap_or_default();
    text("rule").map_or_else(|| told.to_owned(), |rule| format!("{rule}: {told}"))
}

/// Some seeds of a run of the simulation, in a run that counts.
#[derive(Debug)]
struct Again {
    /// The place of the former.
    old: usize,
    /// Of the latter.
    commit: String,
    /// Why it is not known to be of a later commit.
    not_checked: Option<String>,
}

/// All of them, and where they were made again.
#[derive(Debug, Default)]
pub(super) struct Superseded {
    all: Vec<Old>,
    again: Vec<Again>,
}

/// What counts is not of a later commit than what it is said to supersede: nothing was mended in between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotLater {
    /// The place of the superseded run,
    pub(super) old: usize,
    /// and of the one that counts.
    pub(super) new: usize,
}

impl Superseded {
    /// Asks which commit came first where seeds are in a run that counts, too.
    pub(super) fn checked(
        all: Vec<Old>,
        new: &[Simulate],
        order: impl Fn(&str, &str) -> Order,
    ) -> Result<Self, NotLater> {
        let mut again = Vec::new();
        for (old, one) in all.iter().enumerate() {
            let Old::Simulate(one) = one else { continue };
            for (new, other) in new.iter().enumerate().filter(|(_, other)| has_seeds_of(other, one)) {
                let (earlier, commit) = (&one.run.commit, other.run.commit.clone());
                // That needs no git.
                let order = if *earlier == commit { Order::NotLater } else { order(earlier, &commit) };
                let not_checked = match order {
                    Order::Later => None,
                    Order::NotLater => return Err(NotLater { old, new }),
                    Order::NotChecked(why) => Some(why),
                };
                again.push(Again { old, commit, not_checked });
            }
        }
        Ok(Self { all, again })
    }

    /// The commits that have seeds of the run at this place, and whether they are later.
    fn again(&self, at: usize) -> String {
        if !matches!(self.all.get(at), Some(Old::Simulate(_))) {
            return "not checked".into();
        }
        let words = self.again.iter().filter(|again| again.old == at).map(|again| match &again.not_checked {
            None => format!("{}, later", again.commit),
            Some(why) => format!("{}, not checked: {why}", again.commit),
        });
        let mut words: Vec<_> = words.collect();
        words.dedup();
        if words.is_empty() { "no".into() } else { words.join("; ") }
    }
}

/// Whether it counts, and has any.
fn has_seeds_of(one: &Simulate, old: &Simulate) -> bool {
    let (from, to) = old.seeds();
    let counts = counting(std::slice::from_ref(one)).next().is_some();
    counts && one.seeds().0 <= to && from <= one.seeds().1
}

/// The section, if there are any.
pub(super) fn tell(page: &mut String, superseded: &Superseded) {
    let all = &superseded.all;
    if all.is_empty() {
        return;
    }
    line(page, "\n## Superseded runs");
    line(
        page,
        "\nNot in the sums below. *Again*: the commit of a run of the simulation that counts and has some of the same seeds; it is called \
         later where git has the superseded commit among its ancestors. For the nemesis and the storage suite that is not \
         checked: the same seed is not the same run.",
    );
    let rows = all.iter().enumerate().map(|(at, one)| {
        let mut row = one.row();
        row.push(superseded.again(at));
        row
    });
    table(page, &["tool", "commit", "seeds", "each", "failed", "command", "again"], 7, rows);
    let failures = all.iter().flat_map(|one| {
        let commit = word(&one.provenance().commit);
        one.failures().into_iter().map(move |(seed, what)| vec![commit.clone(), seed.to_string(), what])
    });
    let failures: Vec<_> = failures.collect();
    if failures.is_empty() {
        return line(page, "\nNo seed failed there.");
    }
    table(page, &["commit", "seed that failed", "its first violation"], 3, failures);
}

#[cfg(test)]
mod tests {
    use super::super::{Found, page::page, read::parse};
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;

    fn simulate_of(commit: &str, seed: u64) -> Value {
        json!({"run": {"commit": commit, "release_build": true, "command": "simulate --json"},
            "seed": seed, "seeds": 100, "seconds": 60, "counts": true, "simulated_ms": 3_600_000, "failed": 2, "violations": [
                {"seed": 42, "evidence": "at 1.0: lost\nand more"}, {"seed": 42, "evidence": "second"},
                {"seed": 17, "evidence": "twice"}]})
    }

    fn of(value: &Value) -> Old {
        parse(&value.to_string()).unwrap()
    }

    fn row(page: &str, cells: &[&str]) {
        let cut = |line: &str| {
            line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>() == cells
        };
        assert!(page.lines().any(cut), "no row {cells:?} in\n{page}");
    }

    #[test]
    fn they_are_listed_with_what_failed_and_add_nothing() {
        let nemesis = json!({"run": {"commit": "fff0000"}, "seed": 7, "minutes": 2.0,
            "violations": [{"rule": "paid_twice", "evidence": "hash 1"}]});
        let good = json!({"run": {"commit": "def5678", "release_build": true}, "seed": 1, "seeds": 100, "counts": true,
            "simulated_ms": 3_600_000});
        let storage = json!({"run": {"commit": "eee0000", "command": "storage 60 --json"}, "seed": 9,
            "rounds": {"damage": 4, "full": 2}, "found": 30, "violations": ["bad 2 things: invoice 3 is lost", "later"]});
        let simulate = vec![parse(&good.to_string()).unwrap()];
        let all = vec![of(&simulate_of("abc1234", 1)), of(&nemesis), of(&storage)];
        let superseded = Superseded::checked(all, &simulate, |_, _| Order::Later).unwrap();
        let page = page(&Found { simulate, superseded, ..Found::default() });
        assert!(page.contains("\nNot in the sums below."), "{page}");
        let again = "def5678, later";
        row(
            &page,
            &["simulate", "abc1234", "1 to 100", "60 s", "2 of 100 seeds", "`simulate --json`", again],
        );
        row(&page, &["nemesis", "fff0000", "7", "2 min", "yes", "`not recorded`", "not checked"]);
        row(&page, &["storage", "eee0000", "9", "6 rounds", "yes", "`storage 60 --json`", "not checked"]);
        row(&page, &["eee0000", "9", "bad 2 things: invoice 3 is lost"]);
        row(&page, &["abc1234", "17", "twice"]);
        row(&page, &["abc1234", "42", "at 1.0: lost"]);
        row(&page, &["fff0000", "7", "paid_twice: hash 1"]);
        assert!(
            page.contains("1 runs that count: 100 seeds, 1.00 hours simulated, 0 of these seeds failed."),
            "{page}"
        );
        assert!(!page.contains("second") && !page.contains("ATTENTION"), "{page}");
    }

    #[test]
    fn without_any_there_is_no_section() {
        assert!(!page(&Found::default()).contains("uperseded"));
        for other in [r#"{"mutants": []}"#, r#"{"violations": []}"#] {
            assert!(parse::<Old>(other).is_err(), "{other}");
        }
    }

    fn counted(commit: &str, seed: u64) -> Simulate {
        parse(&simulate_of(commit, seed).to_string()).unwrap()
    }

    #[test]
    fn a_run_is_superseded_only_by_one_of_a_later_commit() {
        let old = || vec![of(&simulate_of("def5678", 500)), of(&simulate_of("abc1234", 1))];
        let check = |new: &[Simulate], order: Order| {
            Superseded::checked(old(), new, |_, _| order.clone()).map(|_| ())
        };
        let new = [counted("eee0000", 900), counted("fff0000", 50)];
        assert_eq!(check(&new, Order::NotLater), Err(NotLater { old: 1, new: 1 }));
        assert_eq!(check(&new, Order::Later), Ok(()));
        assert_eq!(check(&new, Order::NotChecked("no git".into())), Ok(()));
        let same = [counted("abc1234", 50)];
        assert_eq!(check(&same, Order::NotChecked("no git".into())), Err(NotLater { old: 1, new: 0 }));
    }

    #[test]
    fn git_is_asked_only_of_runs_that_count_and_have_seeds_of_it() {
        let asked = RefCell::new(Vec::new());
        let order = |earlier: &str, later: &str| {
            asked.borrow_mut().push(format!("{earlier} {later}"));
            Order::NotChecked("no git".into())
        };
        let new = [
            counted("def5678+", 1),
            counted("eee0000", 51),
            counted("fff0000", 101),
            counted("abc1234", 151),
        ];
        let all = vec![of(&simulate_of("abc1234", 1)), of(&simulate_of("bbb0000", 300))];
        let superseded = Superseded::checked(all, &new, order).unwrap();
        assert_eq!(asked.into_inner(), ["abc1234 eee0000"]);
        let mut page = String::new();
        tell(&mut page, &superseded);
        let first = ["simulate", "abc1234", "1 to 100", "60 s", "2 of 100 seeds", "`simulate --json`"];
        row(&page, &[&first[..], &["eee0000, not checked: no git"]].concat());
        let second = ["simulate", "bbb0000", "300 to 399", "60 s", "2 of 100 seeds", "`simulate --json`"];
        row(&page, &[&second[..], &["no"]].concat());
    }
}

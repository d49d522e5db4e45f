//! Runs of earlier commits that were made again after what failed in them was mended: told, and not summed up.

use super::{
    page::{line, table},
    read::{Nemesis, Simulate},
    sums::counting,
};
use crate::provenance::Provenance;
use serde::{Deserialize, de::Error as _};
use serde_json::Value;

/// One of them.
#[derive(Debug)]
pub(super) enum Superseded {
    Simulate(Box<Simulate>),
    Nemesis(Box<Nemesis>),
}

impl<'de> Deserialize<'de> for Superseded {
    /// Each is known by what only its tool writes: every field may be missing, so that either could be read as the other.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let has = |field: &str| value.get(field).is_some();
        let read = if has("seeds") {
            serde_json::from_value(value).map(|one| Self::Simulate(Box::new(one)))
        } else if has("minutes") {
            serde_json::from_value(value).map(|one| Self::Nemesis(Box::new(one)))
        } else {
            return Err(D::Error::custom("neither of simulate nor of nemesis"));
        };
        read.map_err(D::Error::custom)
    }
}

impl Superseded {
    fn provenance(&self) -> &Provenance {
        match self {
            Self::Simulate(one) => &one.run,
            Self::Nemesis(one) => &one.run,
        }
    }

    fn row(&self) -> Vec<String> {
        let (tool, seeds, each, failed) = match self {
            Self::Simulate(one) => {
                let (first, last) = one.seeds();
                let failed =
                    format!("{} of {} seeds", one.failed.max(self.failures().len() as u64), one.seeds);
                ("simulate", format!("{first} to {last}"), format!("{} s", one.seconds), failed)
            }
            Self::Nemesis(one) => {
                let failed = if one.violations.is_empty() { "no" } else { "yes" };
                ("nemesis", one.seed.to_string(), one.minutes_in_words(), failed.to_owned())
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

/// A run, and one of the same commit that counts and has seeds of it, by their places: nothing was mended in between.
pub(super) fn same_commit(old: &[Superseded], new: &[Simulate]) -> Option<(usize, usize)> {
    old.iter().enumerate().find_map(|(at, one)| {
        let Superseded::Simulate(one) = one else { return None };
        let (from, to) = one.seeds();
        let again = |other: &Simulate| {
            let counts = counting(std::slice::from_ref(other)).next().is_some();
            counts && other.run.commit == one.run.commit && other.seeds().0 <= to && from <= other.seeds().1
        };
        new.iter().position(again).map(|other| (at, other))
    })
}

/// The section, if there are any.
pub(super) fn tell(page: &mut String, all: &[Superseded]) {
    if all.is_empty() {
        return;
    }
    line(page, "\n## Superseded runs");
    line(
        page,
        "\nOf an earlier commit, and not in the sums below. The seeds may be among those of a later run: from the commit that \
         mended what failed.",
    );
    let rows = all.iter().map(Superseded::row);
    table(page, &["tool", "commit", "seeds", "each", "failed", "command"], 6, rows);
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

    fn simulate(commit: &str, seed: u64) -> Value {
        json!({"run": {"commit": commit, "release_build": true, "command": "simulate --json"},
            "seed": seed, "seeds": 100, "seconds": 60, "counts": true, "simulated_ms": 3_600_000, "failed": 2, "violations": [
                {"seed": 42, "evidence": "at 1.0: lost\nand more"}, {"seed": 42, "evidence": "second"},
                {"seed": 17, "evidence": "twice"}]})
    }

    fn of(value: &Value) -> Superseded {
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
        let found = Found {
            simulate: vec![parse(&good.to_string()).unwrap()],
            superseded: vec![of(&simulate("abc1234", 1)), of(&nemesis)],
            ..Found::default()
        };
        let page = page(&found);
        assert!(page.contains("Of an earlier commit, and not in the sums below."), "{page}");
        row(&page, &["simulate", "abc1234", "1 to 100", "60 s", "2 of 100 seeds", "`simulate --json`"]);
        row(&page, &["nemesis", "fff0000", "7", "2 min", "yes", "`not recorded`"]);
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
        assert!(parse::<Superseded>(r#"{"rounds": {}}"#).is_err());
    }

    #[test]
    fn a_run_is_not_superseded_by_one_of_its_own_commit() {
        let new: Vec<Simulate> = vec![parse(&simulate("abc1234", 50).to_string()).unwrap()];
        assert_eq!(
            same_commit(&[of(&simulate("def5678", 1)), of(&simulate("abc1234", 1))], &new),
            Some((1, 0))
        );
        assert_eq!(same_commit(&[of(&simulate("def5678", 1))], &new), None);
        assert_eq!(same_commit(&[of(&simulate("abc1234", 150))], &new), None, "other seeds of that commit");
    }
}

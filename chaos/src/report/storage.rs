//! The storage suite: what its runs wrote, and their section of the page.

use super::{
    page::{counts, line, violations},
    read::{ReadError, Storage, parse},
    sums::{self, counting},
};
use crate::storage::{POINTS, ROUNDS_PER_DISK};
use std::{collections::BTreeMap, path::Path};

/// As [`super::read::read`].
pub(super) fn read(file: &Path) -> Result<Storage, ReadError> {
    let text = std::fs::read_to_string(file).map_err(|error| ReadError::new(file, error))?;
    of(&text).map_err(|error| ReadError::new(file, error))
}

/// What older runs do not tell in their JSON is taken from the lines before it, if they are there.
fn of(text: &str) -> Result<Storage, serde_json::Error> {
    let mut one: Storage = parse(text)?;
    let rounds: u64 = one.rounds.values().sum();
    one.acknowledged = one.acknowledged.or_else(|| of_rounds(text, rounds));
    if one.violations.is_empty() {
        // Where nothing was lost all that was looked for was found.
        one.looked_for = one.looked_for.or(Some(one.found));
    }
    Ok(one)
}

/// A round tells how many acknowledgements its disk has by then: each is in the last count of its disk, once.
fn of_rounds(text: &str, rounds: u64) -> Option<u64> {
    let told: Vec<(usize, u64)> = text.lines().filter_map(of_round).collect();
    // Else it is another run's text, or a part of this one's.
    let whole = told.len() as u64 == rounds && told.iter().enumerate().all(|(at, (round, _))| at == *round);
    if told.is_empty() || !whole {
        return None;
    }
    let disk = |rounds: &[(usize, u64)]| {
        // They only get more. Were they fewer at some point, the disk was replaced at another round than is thought here.
        rounds.is_sorted_by_key(|(_, count)| *count).then(|| rounds.last().map(|(_, count)| *count))?
    };
    told.chunks(ROUNDS_PER_DISK).map(disk).sum()
}

/// Of a line as `   7  SIGKILL at a random moment after 497 ms; 4333 acknowledgements`: the round, and the count.
fn of_round(line: &str) -> Option<(usize, u64)> {
    let (round, what) = line.trim_start().split_once("  ")?;
    let (_, count) = what.rsplit_once("; ")?;
    Some((round.parse().ok()?, count.strip_suffix(" acknowledgements")?.parse().ok()?))
}

/// The section, if there are any.
pub(super) fn tell(page: &mut String, results: &[Storage]) {
    if results.is_empty() {
        return;
    }
    let good: Vec<_> = counting(results).collect();
    line(page, "\n## Storage: power cuts, kills, full and broken disks, short writes, damage");
    let sum = |of: fn(&Storage) -> u64| good.iter().map(|one| of(one)).sum::<u64>();
    line(
        page,
        format!(
            "\n{} runs that count. {} Damaged directories: {} refused, {} unharmed. Writes that were really cut short: {}.",
            good.len(),
            acknowledgements(&good),
            sum(|one| one.refused),
            sum(|one| one.unharmed),
            sum(|one| one.short)
        ),
    );
    counts(page, "round", &sums::add(good.iter().map(|one| &one.rounds)));
    let never: BTreeMap<_, _> = POINTS.iter().map(|point| ((*point).to_owned(), 0)).collect();
    let points = good.iter().map(|one| &one.points).chain((!good.is_empty()).then_some(&never));
    counts(page, "power cut or kill at", &sums::add(points));
    violations(page, results.iter().flat_map(|one| one.violations.iter().map(move |what| (one.seed, what))));
}

/// What one of them does not tell is not known of all.
fn acknowledgements(good: &[&Storage]) -> String {
    let known = |sum: Option<u64>| sum.map_or_else(|| "–".to_owned(), |sum| sum.to_string());
    let made = good.iter().map(|one| one.acknowledged).sum();
    let looks = good.iter().map(|one| one.looked_for).sum();
    let found: u64 = good.iter().map(|one| one.found).sum();
    let found = if found > 0 && looks == Some(found) { "all".into() } else { found.to_string() };
    format!(
        "{} acknowledgements, each looked for after its round and after every later one on its disk: {} looks, {found} found.",
        known(made),
        known(looks)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn json_of(rounds: usize) -> Value {
        json!({"run": {"commit": "abc1234", "release_build": true}, "seed": 3, "rounds": {"damage": rounds}, "violations": []})
    }

    /// As older runs wrote it: a disk has 14 rounds, and each of them tells its disk's count so far.
    fn old(rounds: usize) -> String {
        let count = |round: usize| 10 * (round % 14 + 1);
        let lines = (0..rounds).map(|round| {
            format!("{round:4}  log/db: 7 bytes cut off; refused; {} acknowledgements\n", count(round))
        });
        let mut one = json_of(rounds);
        one["found"] = json!((0..rounds).map(count).sum::<usize>());
        format!("storage: {rounds} rounds, seed 3.\n{}{one}\n", lines.collect::<String>())
    }

    fn told(all: &[Storage]) -> String {
        let mut page = String::new();
        tell(&mut page, all);
        page.lines().find(|line| line.contains("runs that count")).unwrap().to_owned()
    }

    #[test]
    fn acknowledgements_are_told_once_and_their_looks_beside_them() {
        let mut one = json_of(60);
        for (field, count) in [("acknowledged", 100), ("looked_for", 700), ("found", 700)] {
            one[field] = json!(count);
        }
        let line = told(&[of(&one.to_string()).unwrap(), of(&old(60)).unwrap()]);
        // Four disks with 140, and 40 of the last four rounds; 4 * 1050 looks, and 100.
        let sum = "2 runs that count. 700 acknowledgements, each looked for after its round and after every later one on its \
                   disk: 5000 looks, all found.";
        assert!(line.starts_with(sum), "{line}");
    }

    #[test]
    fn what_an_older_file_does_not_hold_is_not_known() {
        let text = old(60);
        let json = text.lines().last().unwrap();
        assert_eq!(of(json).unwrap().acknowledged, None, "no rounds");
        assert_eq!(of(&text.replace("   3  log", "  33  log")).unwrap().acknowledged, None, "a round lacks");
        let fewer = text.replacen("; 20 ack", "; 5 ack", 1);
        assert_eq!(of(&fewer).unwrap().acknowledged, None, "another disk");
        let line = told(&[of(json).unwrap(), of(&text).unwrap()]);
        assert!(
            line.contains(". – acknowledgements, each") && line.contains(": 8600 looks, all found."),
            "{line}"
        );
    }

    #[test]
    fn of_a_run_that_lost_something_not_all_was_found() {
        let mut one = json_of(60);
        one["violations"] = json!(["bad 1 things: invoice 2 is lost"]);
        one["found"] = json!(7);
        assert!(told(&[of(&one.to_string()).unwrap()]).contains("disk: – looks, 7 found."));
        one["looked_for"] = json!(9);
        assert!(told(&[of(&one.to_string()).unwrap()]).contains("disk: 9 looks, 7 found."));
    }
}

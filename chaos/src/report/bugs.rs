//! The bugs found so far, by hand.

use super::read::ReadError;
use serde::Deserialize;
use std::path::Path;

/// The list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bugs {
    /// The oldest first.
    pub(super) bug: Vec<Bug>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bug {
    /// What went wrong.
    pub(super) what: String,
    /// The tool, or the tests.
    pub(super) found_by: String,
    /// Of the run that showed it: for every bug that a tool found which has seeds. `none kept: …` says why there is none.
    pub(super) seed: Option<String>,
    /// The command, with its seed if there is one, that finds it in the commit before the fix.
    pub(super) again: String,
    /// That fixed it.
    pub(super) commit: String,
    /// The file of the test that fails without the fix.
    pub(super) test: String,
    /// The function there.
    pub(super) name: String,
}

impl Bugs {
    pub(super) fn read(file: &Path) -> Result<Self, ReadError> {
        let text = std::fs::read_to_string(file).map_err(|error| ReadError::new(file, error))?;
        toml::from_str(&text).map_err(|error| ReadError::new(file, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is a test of exactly this name.
    fn is_test(file: &str, name: &str) -> bool {
        let head = format!("fn {name}(");
        let lines: Vec<&str> = file.lines().map(str::trim_start).collect();
        let at = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&head));
        let mut attributes =
            lines.iter().take(at.unwrap_or_default()).rev().take_while(|line| line.starts_with("#["));
        attributes.any(|line| line.contains("test"))
    }

    #[test]
    fn a_test_is_a_function_of_that_name_that_is_run() {
        let file = "#[test]\nfn a() {}\n    #[tokio::test(flavor = \"x\")]\n    async fn b() {}\nfn c() {}\n// fn d() {}\n";
        for (name, found) in [("a", true), ("b", true), ("c", false), ("d", false), ("e", false)] {
            assert_eq!(is_test(file, name), found, "{name}");
        }
        assert!(!is_test("", "a"));
    }

    /// What is wrong with what a bug says about how it was found.
    fn fault(bug: &Bug) -> Option<&'static str> {
        let known = ["tests", "reading", "simulation", "storage", "nemesis"];
        if !known.iter().any(|tool| bug.found_by.starts_with(tool)) {
            return Some("found by what the file does not know");
        }
        let by_seed = ["simulation", "nemesis"].iter().any(|tool| bug.found_by.contains(tool));
        match bug.seed.as_deref().map(str::trim) {
            None if by_seed => Some("found by what has seeds, and none is told"),
            Some(seed) => {
                let none = seed.strip_prefix("none kept: ").is_some_and(|why| !why.trim().is_empty());
                let first = seed.split_whitespace().next().unwrap_or_default();
                let runs = bug.again.contains("--bin simulate") || bug.again.contains("--bin nemesis");
                if !none && first.parse::<u64>().is_err() {
                    Some("neither a number nor why there is none")
                } else if runs && !bug.again.contains(&format!("--seed {first}")) {
                    Some("not the one that the command has")
                } else {
                    None
                }
            }
            None => None,
        }
    }

    #[test]
    fn a_bug_that_was_found_by_what_has_seeds_has_one_or_says_why_not() {
        let bug = |found_by: &str, seed: Option<&str>, again: &str| Bug {
            what: "lost".into(),
            found_by: found_by.into(),
            seed: seed.map(str::to_owned),
            again: again.into(),
            commit: "abcdef0".into(),
            test: "a.rs".into(),
            name: "b".into(),
        };
        let command = "cargo run --bin simulate -- --seed 7";
        assert_eq!(fault(&bug("tests", None, "cargo test b")), None);
        assert_eq!(fault(&bug("simulation", Some("7 (60 s)"), command)), None);
        assert_eq!(fault(&bug("simulation", Some("none kept: it was forgotten"), "cargo test b")), None);
        for (found_by, seed, again) in [
            ("simulate", Some("7"), command),
            ("simulation", None, "cargo test b"),
            ("reading, after a nemesis run", None, "cargo test b"),
            ("simulation", Some("none kept:"), "cargo test b"),
            ("simulation", Some("some"), "cargo test b"),
            ("simulation", Some("8"), command),
        ] {
            assert!(fault(&bug(found_by, seed, again)).is_some(), "{found_by} {seed:?}");
        }
    }

    #[test]
    fn every_bug_names_a_commit_and_a_test_that_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bugs = Bugs::read(&root.join("chaos/bugs.toml")).unwrap();
        assert!(!bugs.bug.is_empty());
        for bug in bugs.bug {
            let hash = &bug.commit;
            let is_hash = (7..=40).contains(&hash.len())
                && hash.chars().all(|digit| digit.is_ascii_digit() || ('a'..='f').contains(&digit));
            assert!(is_hash, "{bug:?}");
            assert_eq!(fault(&bug), None, "{bug:?}");
            let file = std::fs::read_to_string(root.join(&bug.test)).unwrap_or_default();
            assert!(is_test(&file, &bug.name), "{bug:?}");
            if bug.again.starts_with("cargo test ") {
                assert!(bug.again.ends_with(&format!(" {}", bug.name)), "{bug:?}");
            }
            for text in [&bug.what, &bug.found_by, &bug.again] {
                assert!(!text.trim().is_empty() && !text.contains(" /"), "{bug:?}");
            }
        }
    }
}

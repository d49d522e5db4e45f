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

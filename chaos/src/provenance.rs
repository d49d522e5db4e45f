//! Where a figure comes from: which command of which commit, on which machine.

use crate::{bench, ledger::unix_ms};
use serde::{Deserialize, Serialize};
use std::{ffi::OsString, path::Path, sync::OnceLock, time::UNIX_EPOCH};

/// See [`Provenance::here`].
static STARTED: OnceLock<Provenance> = OnceLock::new();

/// What every tool writes beside its figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The program and its options; of paths only the last part, because the others mean nothing elsewhere.
    pub command: String,
    /// Git commit of the sources; `+` if they were changed, `before …` if the program is older than the commit.
    pub commit: String,
    /// In words.
    pub machine: String,
    /// Optimised?
    pub release_build: bool,
    /// When it was written, Unix milliseconds.
    pub unix_ms: u64,
}

impl Provenance {
    /// Of this process as it was when this was first asked for. A program asks for it when it starts: what is checked out
    /// later is not what it was built from.
    #[must_use]
    pub fn here() -> Self {
        Self::as_at(&STARTED, Self::look, unix_ms())
    }

    /// What was seen the first time, written now.
    fn as_at(started: &OnceLock<Self>, look: impl FnOnce() -> Self, now_ms: u64) -> Self {
        Self { unix_ms: now_ms, ..started.get_or_init(look).clone() }
    }

    fn look() -> Self {
        let mut words = std::env::args_os();
        let program = words.next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_owned();
        Self {
            command: command(program, words),
            commit: commit(),
            machine: bench::machine_in_words(),
            release_build: !cfg!(debug_assertions),
            unix_ms: unix_ms(),
        }
    }
}

/// What is checked out now may not be what this program was built from.
fn commit() -> String {
    let commit = bench::commit();
    let built = std::env::current_exe().and_then(std::fs::metadata).and_then(|program| program.modified());
    let built = built.ok().and_then(|built| built.duration_since(UNIX_EPOCH).ok());
    told(commit, built.map(|built| built.as_secs()), bench::commit_time())
}

fn told(commit: String, built: Option<u64>, committed: Option<u64>) -> String {
    match (built, committed) {
        (Some(built), Some(committed)) if built < committed => format!("before {commit}"),
        _ => commit,
    }
}

/// `--inside` is the program's own.
fn command(program: OsString, words: impl Iterator<Item = OsString>) -> String {
    let mut text = program.to_string_lossy().into_owned();
    let mut hidden = false;
    for word in words {
        let word = word.to_string_lossy();
        if std::mem::replace(&mut hidden, word == "--inside") || hidden {
            continue;
        }
        text.push(' ');
        text.push_str(&short(&word));
    }
    text
}

/// `/a/b/c` is `c`, also behind `--option=`.
fn short(word: &str) -> String {
    let (option, value) = match word.split_once('=') {
        Some((option, value)) => (format!("{option}="), value),
        None => (String::new(), word),
    };
    let last = Path::new(value).file_name().filter(|_| Path::new(value).is_absolute());
    format!("{option}{}", last.map_or_else(|| value.into(), |last| last.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_places_of_this_machine() {
        let words =
            ["--inside", "7", "--minutes", "3", "--previous", "/tmp/x/muxd", "--dir=/tmp/y", "--json"];
        let told = command("nemesis".into(), words.map(OsString::from).into_iter());
        assert_eq!(told, "nemesis --minutes 3 --previous muxd --dir=y --json");
    }

    #[test]
    fn a_program_that_is_older_than_the_commit_is_not_of_it() {
        assert_eq!(told("abc1234".into(), Some(100), Some(100)), "abc1234");
        assert_eq!(told("abc1234".into(), Some(99), Some(100)), "before abc1234");
        assert_eq!(told("unknown".into(), None, None), "unknown");
    }

    #[test]
    fn a_commit_that_is_made_while_the_program_runs_is_not_the_programs() {
        let of = |commit: &str| Provenance { commit: commit.into(), ..Provenance::default() };
        let started = OnceLock::new();
        assert_eq!(
            Provenance::as_at(&started, || of("abc1234"), 1),
            Provenance { unix_ms: 1, ..of("abc1234") }
        );
        let later = Provenance::as_at(&started, || of("before fff0000"), 9);
        assert_eq!(later, Provenance { unix_ms: 9, ..of("abc1234") });
    }

    #[test]
    fn this_machine_and_commit_are_named() {
        let here = Provenance::here();
        assert!(here.machine.contains("cores") && !here.commit.is_empty() && here.unix_ms > 0, "{here:?}");
        assert!(!here.command.contains('/'), "{here:?}");
    }
}

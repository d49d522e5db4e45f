use crate::storage::{NOT_RUN, ROUNDS_THAT_COUNT};
use anyhow::Context as _;
use mux_raft::mutant::{Mutant, VARIABLE};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The first argument of a process that is the storage suite.
pub const STORAGE: &str = "__storage";
/// As often something happens to the replica: the least in which every point that must be met has its turn.
pub(super) const ROUNDS: u64 = ROUNDS_THAT_COUNT;
pub(super) const SEED: &str = "1";

/// Mutants that the storage suite is tried on: what one replica alone acknowledged is not there after a power cut. Not all
/// that one replica alone can have: the others are left to the simulation. (What is cut off is cut off because of another
/// leader: `truncate-not-persisted` needs more than one.)
const TRIED: &[Mutant] = &[
    Mutant::AckBeforeSync,
    Mutant::VoteNotPersisted,
    Mutant::PurgeTooFar,
    Mutant::SnapshotLacksLast,
    Mutant::ArchiveNotSynced,
];

/// What the storage suite came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnDisk {
    /// Something was not as it had been acknowledged; the first such thing, after this real time.
    Noticed { what: String, seconds: f64 },
    /// Everything was as it had been acknowledged.
    Nothing { seconds: f64 },
    /// This machine cannot show it.
    NotRun,
    /// It has no result.
    Failed(String),
}

impl fmt::Display for OnDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed { what, seconds } => write!(f, "in {seconds:.1} s: {what}"),
            Self::Nothing { seconds } => write!(f, "NOTHING in {seconds:.1} s"),
            Self::NotRun => f.write_str("not run: this machine cannot make the file system"),
            Self::Failed(why) => write!(f, "NO RESULT: {why}"),
        }
    }
}

/// What the suite prints last.
#[derive(Deserialize)]
struct Verdict {
    violations: Vec<String>,
}

/// Whether the storage suite is tried on it.
pub(super) fn concerns(mutant: Mutant) -> bool {
    TRIED.contains(&mutant)
}

/// Runs the storage suite, on a real file system that loses what is not synced.
pub(super) fn run(mutant: Option<Mutant>) -> OnDisk {
    tried(mutant).unwrap_or_else(|error| OnDisk::Failed(format!("{error:#}")))
}

fn tried(mutant: Option<Mutant>) -> anyhow::Result<OnDisk> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args([STORAGE, "--rounds", &ROUNDS.to_string(), "--seed", SEED, "--json"]).env_remove(VARIABLE);
    if let Some(mutant) = mutant {
        command.env(VARIABLE, mutant.name());
    }
    let started = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().context("starting the storage suite")?;
    if output.status.code() == Some(NOT_RUN.into()) {
        return Ok(OnDisk::NotRun);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.trim_end().lines().last().unwrap_or_default();
    let ended = || format!("the storage suite ended with {} and no report", output.status);
    let verdict: Verdict = serde_json::from_str(last).with_context(ended)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(match verdict.violations.into_iter().next() {
        Some(what) => OnDisk::Noticed { what: without_place(&what), seconds },
        None => OnDisk::Nothing { seconds },
    })
}

/// Without the directories in which the file system was made: they are another machine's for whoever reads it.
fn without_place(what: &str) -> String {
    let short = |word: &str| match word.find("/mnt/") {
        Some(at) if word.starts_with('/') => word.get(at + 1..).unwrap_or_default().to_owned(),
        _ => word.to_owned(),
    };
    what.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_place;

    #[test]
    fn where_the_file_system_was_made_is_not_told() {
        let told = "refused storage: the log in /tmp/.tmpAbc/mnt/data/log: it is damaged";
        assert_eq!(without_place(told), "refused storage: the log in mnt/data/log: it is damaged");
        assert_eq!(without_place("bad 1 things"), "bad 1 things");
    }
}

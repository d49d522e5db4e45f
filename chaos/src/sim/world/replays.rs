//! That a state follows from the log and from nothing else: replicas that have applied the same have the same state, in full,
//! and one that reads its snapshot and its log again comes to it as well, and so does who applies every entry there ever was
//! from the first on, which no replica does that has made a snapshot.
//!
//! The hash that is compared after each entry ([`State::chain_hash`]) is of what was said and done, not of all that is
//! remembered.

use super::replica_host::Seen;
use super::{HEALED_WITHIN, LOOK, World};
use crate::sim::host::Ending;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::State;
use mux_raft::types::{LogIndex, ReplicaId};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

impl World {
    /// Compares the states of all that have applied equally much.
    pub(super) fn compare_states(&mut self) {
        let states = self.hosts.iter().filter_map(|host| Some((host.id(), state_of(host.replica()?))));
        for text in differing(states) {
            self.watch.violated(self.now, text);
        }
    }

    /// Applies the whole log once more, and compares what comes of it with a replica that has applied just as much.
    pub(super) fn replay_everything(&mut self) {
        let first = self.hosts.iter().find_map(|host| Some((host.id(), host.replica()?)));
        let Some((id, seen)) = first else { return };
        let (upto, theirs) = seen.replica.state().read(|state| (state.applied(), led_to(state)));
        let replayed = self.watch.replay(upto).map(|state| led_to(&state));
        if let Some(problem) = unlike(replayed, (id, theirs)) {
            self.watch
                .violated(self.now, format!("{problem} (up to entry {} of term {})", upto.index, upto.term));
        }
    }

    /// Starts one replica again, and compares it with the first other one that has applied just as much.
    pub(super) fn look_at_a_replay(&mut self) {
        if !self.watch.is_fine() {
            return;
        }
        let at = self.faults.rng.random_range(0..self.hosts.len());
        let before = self.applied_by(at).unwrap_or(0);
        self.end_process(at, Ending::Killed);
        self.start(at);
        let deadline = self.now + HEALED_WITHIN;
        while self.watch.is_fine() {
            self.go_on(LOOK);
            let now = self.applied_by(at).filter(|index| *index >= before);
            let with = |index| {
                (0..self.hosts.len()).any(|other| other != at && self.applied_by(other) == Some(index))
            };
            if now.is_some_and(with) {
                return self.compare_states();
            }
            if self.now >= deadline {
                let (id, now) = (self.hosts[at].id(), now.unwrap_or(0));
                let text = format!(
                    "replica {id} was started again at entry {before}, and {HEALED_WITHIN:?} later is at {now}, where nobody is"
                );
                return self.watch.violated(self.now, text);
            }
        }
    }

    pub(super) fn applied_by(&self, at: usize) -> Option<LogIndex> {
        let seen = self.hosts.get(at)?.replica()?;
        Some(seen.replica.state().read(|state| state.applied().index))
    }
}

/// What was applied, and a hash over everything that it led to.
type Led = (LogIndex, [u8; 32]);

fn state_of(seen: &Seen) -> Led {
    seen.replica.state().read(led_to)
}

fn led_to(state: &State) -> Led {
    (state.applied().index, Sha256::digest(state.encode_snapshot()).into())
}

/// In words, why what the log leads to is not what a replica has.
fn unlike(replayed: Result<Led, String>, (id, theirs): (ReplicaId, Led)) -> Option<String> {
    match replayed {
        Ok(replayed) if replayed == theirs => None,
        Ok(_) => Some(format!("the log from its first entry on makes another state than replica {id} has")),
        Err(problem) => Some(problem),
    }
}

/// In words, which replicas have applied equally much and differ.
fn differing(states: impl Iterator<Item = (ReplicaId, Led)>) -> Vec<String> {
    let mut first = BTreeMap::new();
    let mut differ = Vec::new();
    for (id, (index, hash)) in states {
        let (theirs, who) = *first.entry(index).or_insert((hash, id));
        if theirs != hash {
            differ
                .push(format!("the states of replicas {who} and {id} after entry {index} are not the same"));
        }
    }
    differ
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_raft::archive::MemoryArchive;
    use mux_raft::machine::command::COMMAND_FORMAT;
    use mux_raft::machine::{Command, Envelope, LogPosition, RequestId};

    /// After as many entries, each of which is the same but for the id of one request and the time of the last.
    fn after(entries: LogIndex, request: u8, last_ms: u64) -> Led {
        let mut state = State::default();
        for index in 1..=entries {
            let request_id = (index == 2).then_some(RequestId([request; 16]));
            let time_ms = if index == entries { last_ms } else { 1_000 };
            let envelope = Envelope { format: COMMAND_FORMAT, time_ms, request_id, command: Command::Tick };
            state.apply(LogPosition { term: 1, index }, Some(&envelope), &MemoryArchive::default()).unwrap();
        }
        led_to(&state)
    }

    #[test]
    fn a_replica_that_has_another_state_than_the_log_makes_is_noticed() {
        let of = |replayed: Led| unlike(Ok(replayed), (2, after(5, 1, 5_000)));
        assert_eq!(of(after(5, 1, 5_000)), None);
        let text = "the log from its first entry on makes another state than replica 2 has";
        for other in [after(4, 1, 5_000), after(5, 2, 5_000), after(5, 1, 5_001)] {
            assert_eq!(of(other).as_deref(), Some(text));
        }
        let cannot = unlike(Err("entry 3 is missing".into()), (2, after(5, 1, 5_000)));
        assert_eq!(cannot.as_deref(), Some("entry 3 is missing"));
    }

    #[test]
    fn states_that_differ_after_the_same_entry_are_noticed() {
        let told = |states: &[(ReplicaId, Led)]| differing(states.iter().copied());
        let same = [(1, after(5, 1, 5_000)), (2, after(4, 1, 5_000)), (3, after(5, 1, 5_000))];
        assert_eq!(told(&same), Vec::<String>::new());
        let differ = "the states of replicas 1 and 3 after entry 5 are not the same";
        assert_eq!(told(&[same[0], same[1], (3, after(5, 1, 5_001))]), [differ], "another time");
        assert_eq!(
            told(&[same[0], same[1], (3, after(5, 2, 5_000))]),
            [differ],
            "another request is remembered"
        );
    }
}

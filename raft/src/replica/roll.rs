use super::core::Core;
use super::roster::program;
use crate::consensus::Program;
use crate::types::{ReplicaId, StoreId};
use futures::stream::{FuturesUnordered, StreamExt as _};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often everybody is asked again as long as somebody has not answered.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long an answer counts that was heard before the last one was. Who answered longer ago may run something else by now.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// What the members that answered run, and the stores that they have.
pub(super) type Answers = BTreeMap<ReplicaId, Answer>;
pub(super) type Answer = (Program, Option<StoreId>);

/// The last that was heard of each member, in the order of the questions.
#[derive(Debug, Default)]
struct Roll(BTreeMap<ReplicaId, Heard>);

#[derive(Debug)]
struct Heard {
    question: u32,
    at: Instant,
    /// None: it could not be reached, or refused.
    answer: Option<Answer>,
}

impl Roll {
    fn hear(&mut self, id: ReplicaId, heard: Heard) {
        // Over a bad network an answer may come after that to a later question.
        if self.0.get(&id).is_none_or(|last| last.question <= heard.question) {
            self.0.insert(id, heard);
        }
    }

    /// Whether nobody has to be waited for: each member was heard of lately, or cannot be reached.
    fn is_complete(&self, members: &[(ReplicaId, String)], now: Instant) -> bool {
        members
            .iter()
            .all(|(id, _)| self.0.get(id).is_some_and(|heard| heard.answer.is_none() || heard.is_fresh(now)))
    }

    fn fresh(self, now: Instant) -> Answers {
        let fresh = self.0.into_iter().filter(|(_, heard)| heard.is_fresh(now));
        fresh.filter_map(|(id, heard)| Some((id, heard.answer?))).collect()
    }
}

impl Heard {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.at) <= FRESH
    }
}

impl Core {
    /// Asks all members how they stand, for as long as this at most. None of the answers is older than [`FRESH`], beyond
    /// the time that it took to come here: while one member is waited for the others are asked again.
    pub(super) async fn call_the_roll(&self, patience: Duration) -> Answers {
        let members = self.other_members();
        let (mut roll, mut questions) = (Roll::default(), FuturesUnordered::new());
        let mut next = Instant::now();
        let (end, mut question) = (next + patience, 0_u32);
        while !roll.is_complete(&members, Instant::now()) {
            tokio::select! {
                biased;
                Some((id, heard)) = questions.next() => roll.hear(id, heard),
                () = sleep_until(end) => break,
                () = sleep_until(next) => {
                    questions.extend(members.iter().map(|(id, address)| async move {
                        let asked = Instant::now();
                        let standing = self.standing_within(patience, *id, address).await.ok();
                        // While this process stood still an answer may have lain here for any time.
                        let in_time = standing.filter(|_| asked.elapsed() <= patience);
                        let answer = in_time.map(|standing| {
                            (program(&standing), StoreId::try_from(standing.store.as_ref()).ok())
                        });
                        (*id, Heard { question, at: Instant::now(), answer })
                    }));
                    question += 1;
                    next += ASK_AGAIN;
                }
            }
        }
        roll.fresh(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(question: u32, at: Instant, level: Option<u16>) -> Heard {
        let answer = level.map(|level| (Program { version: String::new(), feature_level_max: level }, None));
        Heard { question, at, answer }
    }

    #[test]
    fn a_roll_is_complete_when_all_were_heard_lately_or_cannot_be_reached() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let members = [(2, String::new()), (3, String::new())];
        let levels = |roll: Roll, now| -> Vec<(ReplicaId, u16)> {
            roll.fresh(now).into_iter().map(|(id, answer)| (id, answer.0.feature_level_max)).collect()
        };
        let mut roll = Roll::default();
        assert!(roll.is_complete(&[], start), "nobody to ask");
        roll.hear(2, heard(0, start, Some(3)));
        assert!(!roll.is_complete(&members, start));
        roll.hear(3, heard(0, after(900), Some(3)));
        assert!(roll.is_complete(&members, after(1_000)));
        assert!(!roll.is_complete(&members, after(1_001)), "the first may run something else by now");
        roll.hear(2, heard(2, after(1_100), Some(1)));
        roll.hear(2, heard(1, after(1_200), Some(3)));
        assert!(roll.is_complete(&members, after(1_200)));
        assert_eq!(levels(roll, after(1_200)), [(2, 1), (3, 3)], "the answer to the later question counts");

        let mut gone = Roll::default();
        gone.hear(2, heard(0, start, Some(3)));
        gone.hear(2, heard(1, after(500), None));
        gone.hear(3, heard(0, after(600), Some(3)));
        assert!(gone.is_complete(&members, after(600)), "who cannot be reached is not waited for");
        assert_eq!(levels(gone, after(600)), [(3, 3)], "and what it said before counts no more");
    }
}

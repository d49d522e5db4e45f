use mux_raft::consensus::RaftStatus;
use mux_raft::types::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// A leader that was voted out had been silent for an election timeout already; if it lives, it
/// acknowledges its successor within a round trip. (One that handed over does so at once.)
const FORMER_LEADER_GONE_AFTER_MS: u64 = 100;

/// Which replicas acknowledge this leader. Pure; milliseconds of a monotonic clock.
#[derive(Debug)]
pub(super) struct Liveness {
    gone_after_ms: u64,
    never_heard_after_ms: u64,
    lagging_after_ms: u64,
    term: Option<u64>,
    former_leader: Option<ReplicaId>,
    followers: BTreeMap<ReplicaId, Follower>,
}

#[derive(Debug)]
struct Follower {
    matched: LogIndex,
    heard: bool,
    /// An index it has yet to acknowledge, and since when.
    awaited: Option<(LogIndex, u64)>,
    /// When it last acknowledged anything new, or was first looked at.
    progressed_at: u64,
}

impl Liveness {
    pub(super) fn new(gone_after_ms: u64, never_heard_after_ms: u64, lagging_after_ms: u64) -> Self {
        Self {
            gone_after_ms,
            never_heard_after_ms,
            lagging_after_ms,
            term: None,
            former_leader: None,
            followers: BTreeMap::new(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.term = None;
        self.followers.clear();
    }

    /// Who led before this replica does.
    pub(super) fn led_before(&mut self, leader: ReplicaId) {
        self.former_leader = Some(leader);
    }

    pub(super) fn observe(&mut self, raft: &RaftStatus, now: u64) {
        if self.term != Some(raft.term) {
            self.reset();
            self.term = Some(raft.term);
        }
        self.followers.retain(|id, _| raft.members.contains_key(id));
        for id in raft.members.keys().filter(|id| **id != raft.id) {
            let matched = raft.matched.get(id).copied().unwrap_or(0);
            let follower = self.followers.entry(*id).or_insert_with(|| Follower {
                matched,
                heard: false,
                // Even one that has everything must acknowledge the new leader's first entry.
                awaited: Some((raft.last_log_index, now)),
                progressed_at: now,
            });
            if matched > follower.matched {
                follower.matched = matched;
                follower.heard = true;
                follower.progressed_at = now;
            }
            if follower.awaited.is_some_and(|(index, _)| matched >= index) {
                follower.heard = true;
                follower.awaited = None;
            }
            if follower.awaited.is_none() && raft.last_log_index > matched {
                follower.awaited = Some((raft.last_log_index, now));
                follower.progressed_at = now;
            }
        }
    }

    /// It does not answer.
    pub(super) fn is_gone(&self, id: ReplicaId, now: u64) -> bool {
        let Some(follower) = self.followers.get(&id) else { return false };
        let patience = match follower.heard {
            true => self.gone_after_ms,
            false if self.former_leader == Some(id) => FORMER_LEADER_GONE_AFTER_MS,
            false => self.never_heard_after_ms,
        };
        follower.awaited.is_some() && now.saturating_sub(follower.progressed_at) > patience
    }

    /// It answers, but is behind.
    pub(super) fn is_lagging(&self, id: ReplicaId, now: u64) -> bool {
        let awaited = self.followers.get(&id).and_then(|follower| follower.awaited);
        awaited.is_some_and(|(_, since)| now.saturating_sub(since) > self.lagging_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_raft::consensus::Member;

    fn raft(last: LogIndex, matched: LogIndex) -> RaftStatus {
        let voter = Member { voter: true, ..Member::default() };
        RaftStatus {
            id: 1,
            term: 3,
            leads: true,
            last_log_index: last,
            members: BTreeMap::from([(1, voter.clone()), (2, voter)]),
            matched: BTreeMap::from([(2, matched)]),
            ..RaftStatus::default()
        }
    }

    #[test]
    fn a_follower_is_gone_when_acknowledgements_are_overdue() {
        let mut live = Liveness::new(600, 300, 3_000);
        live.observe(&raft(10, 10), 0);
        live.observe(&raft(10, 10), 5_000);
        assert!(!live.is_gone(2, 5_000), "a quiet log says nothing");
        live.observe(&raft(11, 10), 5_000);
        assert!(!live.is_gone(2, 5_600));
        assert!(live.is_gone(2, 5_601));
        live.observe(&raft(11, 11), 5_700);
        assert!(!live.is_gone(2, 9_000));
    }

    #[test]
    fn a_follower_never_heard_by_a_new_leader_is_gone_sooner() {
        let mut live = Liveness::new(600, 300, 3_000);
        live.observe(&raft(10, 0), 0);
        assert!(!live.is_gone(2, 300));
        assert!(live.is_gone(2, 301));
    }

    #[test]
    fn a_former_leader_that_does_not_acknowledge_its_successor_is_gone_at_once() {
        let mut live = Liveness::new(600, 300, 3_000);
        live.led_before(2);
        live.observe(&raft(10, 0), 0);
        assert!(!live.is_gone(2, 100));
        assert!(live.is_gone(2, 101));
        live.observe(&raft(10, 10), 150);
        assert!(!live.is_gone(2, 5_000), "it had only handed over");
    }

    #[test]
    fn a_follower_that_catches_up_is_lagging_not_gone() {
        let mut live = Liveness::new(600, 300, 3_000);
        for step in 0..20 {
            live.observe(&raft(1_000, step * 10), step * 250);
            assert!(!live.is_gone(2, step * 250));
        }
        assert!(live.is_lagging(2, 4_750));
    }
}

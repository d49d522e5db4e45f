use super::words;
use mux_raft::machine::LogPosition;
use mux_raft::store::InspectedVote;
use mux_raft::types::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// A log as far as it is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct LogView {
    /// Whose.
    pub(super) id: ReplicaId,
    pub(super) vote: InspectedVote,
    /// The last entry that only a snapshot has.
    purged: Option<LogPosition>,
    /// The terms of the entries after it.
    terms: BTreeMap<LogIndex, u64>,
}

impl LogView {
    /// An empty one.
    pub(super) fn of(id: ReplicaId) -> Self {
        Self { id, ..Self::default() }
    }

    /// The term of an entry that is in the log.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<u64> {
        self.terms.get(&index).copied()
    }

    /// Whether a snapshot has this one.
    pub(super) fn has_purged(&self, index: LogIndex) -> bool {
        self.purged.is_some_and(|purged| index <= purged.index)
    }

    /// Whether this very entry is here, or a snapshot has what stood there.
    pub(super) fn has(&self, index: LogIndex, term: u64) -> bool {
        self.has_purged(index) || self.term_at(index) == Some(term)
    }

    /// An entry is durable. The term of the one before it, if that is known.
    pub(super) fn put(&mut self, at: LogPosition) -> Result<Option<u64>, String> {
        let entry = words(at);
        let before = at.index.checked_sub(1);
        let before = before.and_then(|index| match self.purged {
            Some(purged) if purged.index == index => Some(purged.term),
            _ => self.term_at(index),
        });
        if at.index > 0 && before.is_none() {
            return Err(format!("{entry} stands after nothing"));
        }
        if self.has_purged(at.index) {
            return Err(format!("{entry} is written, and was purged"));
        }
        if at.term > self.vote.term {
            return Err(format!("{entry} is durable before the vote of its term"));
        }
        let after = at.index.checked_add(1).and_then(|index| self.term_at(index));
        if before.is_some_and(|before| before > at.term) || after.is_some_and(|after| after < at.term) {
            return Err(format!("{entry} stands between entries of terms {before:?} and {after:?}"));
        }
        self.terms.insert(at.index, at.term);
        Ok(before)
    }

    /// An entry is gone. Its term, if it was more than what a purge left.
    pub(super) fn delete(&mut self, index: LogIndex) -> Option<u64> {
        self.terms.remove(&index)
    }

    /// What stands up to an entry does not count any more.
    pub(super) fn purge(&mut self, upto: LogPosition) -> Result<(), String> {
        if let Some(purged) = self.purged.filter(|purged| purged.index > upto.index) {
            return Err(format!("purged up to {}, and then up to {}", purged.index, upto.index));
        }
        self.purged = Some(upto);
        self.terms = upto.index.checked_add(1).map(|next| self.terms.split_off(&next)).unwrap_or_default();
        Ok(())
    }

    /// A vote is durable. Who votes may come to follow another who leads in the term, and that is all.
    pub(super) fn vote(&mut self, vote: InspectedVote) -> Result<(), String> {
        let known = std::mem::replace(&mut self.vote, vote);
        let stands = vote.candidate == known.candidate;
        let goes_on = match vote.term.cmp(&known.term) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => match (known.leads, vote.leads) {
                (false, true) => true,
                (true, false) => false,
                (true, true) | (false, false) => stands,
            },
            std::cmp::Ordering::Greater => true,
        };
        if goes_on { Ok(()) } else { Err(format!("the vote {vote:?} follows {known:?}")) }
    }
}

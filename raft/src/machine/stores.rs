//! Which store is which replica's, and what is known to be in it.
//!
//! A replica is its disk: what it acknowledged and whom it voted for is there and nowhere else. So the log binds
//! each replica id to the store that first spoke under it.

use super::reply::{Rejection, Reply};
use super::state::{LogPosition, State};
use crate::types::{ReplicaId, StoreId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the log knows of the replicas' stores. Ids stay for ever: they are never used again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stores {
    enrolled: BTreeMap<ReplicaId, StoreId>,
    log_ends: BTreeMap<ReplicaId, LogPosition>,
}

impl State {
    /// The store of the replica with this id, once the log has bound them.
    #[must_use]
    pub fn store_of(&self, replica: ReplicaId) -> Option<StoreId> {
        self.more.stores.enrolled.get(&replica).copied()
    }

    /// A committed entry that this replica is known to have had, not necessarily its last.
    #[must_use]
    pub fn log_end_of(&self, replica: ReplicaId) -> Option<LogPosition> {
        self.more.stores.log_ends.get(&replica).copied()
    }

    /// The first one has it.
    pub(super) fn enrol_store(&mut self, replica: ReplicaId, store: StoreId) -> Reply {
        let enrolled = *self.more.stores.enrolled.entry(replica).or_insert(store);
        if enrolled == store {
            return Reply::Done;
        }
        Reply::Rejected(Rejection::Invalid(format!(
            "replica {replica} has store {}, not {}",
            enrolled.short(),
            store.short()
        )))
    }

    /// Never backwards.
    pub(super) fn note_logs(&mut self, ends: &[(ReplicaId, LogPosition)]) -> Reply {
        for (replica, end) in ends {
            let known = self.more.stores.log_ends.entry(*replica).or_default();
            *known = (*known).max(*end);
        }
        Reply::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_the_store_that_first_spoke_under_it() {
        let mut state = State::default();
        let [first, other] = [1, 2].map(|byte| StoreId([byte; 16]));
        assert_eq!(state.enrol_store(3, first), Reply::Done);
        assert_eq!(state.enrol_store(3, first), Reply::Done, "it may say so again");
        assert!(matches!(state.enrol_store(3, other), Reply::Rejected(Rejection::Invalid(_))));
        assert_eq!(state.store_of(3), Some(first));
        assert_eq!(state.enrol_store(4, other), Reply::Done);
        assert_eq!(state.store_of(4), Some(other));
    }

    #[test]
    fn what_a_replica_has_had_is_never_noted_backwards() {
        let mut state = State::default();
        let at = |term, index| LogPosition { term, index };
        for (noted, known) in
            [(at(2, 9), at(2, 9)), (at(2, 7), at(2, 9)), (at(1, 99), at(2, 9)), (at(3, 8), at(3, 8))]
        {
            assert_eq!(state.note_logs(&[(1, noted)]), Reply::Done);
            assert_eq!(state.log_end_of(1), Some(known), "{noted:?}");
        }
        assert_eq!(state.log_end_of(2), None);
    }
}

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

use super::core::Core;
use super::raft::{TypeConfig, position};
use crate::machine::LogPosition;
use crate::types::ReplicaId;
use openraft::RaftMetrics;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The last committed entry that each replica is known to have had: what this replica saw while it led, also when
/// it no longer does. Only what is committed: the rest may be cut off again, rightly.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    ends: Mutex<BTreeMap<ReplicaId, LogPosition>>,
}

impl Confirmed {
    /// Takes what the leader knows at this moment; nothing on a replica that does not lead.
    pub(crate) fn note(&self, metrics: &RaftMetrics<TypeConfig>) {
        let Some(committed) = metrics.local_committed else { return };
        let acknowledged = metrics.replication.iter().flatten();
        let mut ends = self.ends.lock();
        for (id, matched) in acknowledged.filter_map(|(id, matched)| matched.map(|matched| (*id, matched))) {
            let end = ends.entry(id).or_default();
            *end = (*end).max(position(matched.min(committed)));
        }
    }
}

impl Core {
    /// A committed entry that a replica once confirmed to have, from memory or from the log.
    pub(crate) fn confirmed_by(&self, replica: ReplicaId) -> Option<LogPosition> {
        let seen = self.confirmed.ends.lock().get(&replica).copied();
        seen.max(self.cell.read(|state| state.log_end_of(replica)))
    }

    /// What the log does not know yet.
    pub(super) fn unnoted_ends(&self) -> Vec<(ReplicaId, LogPosition)> {
        let seen = self.confirmed.ends.lock().clone();
        self.cell.read(|state| {
            seen.into_iter()
                .filter(|(id, end)| state.log_end_of(*id).is_none_or(|noted| noted < *end))
                .collect()
        })
    }
}

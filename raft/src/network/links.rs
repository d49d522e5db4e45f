use crate::types::ReplicaId;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Which replicas cannot reach which, for partitions in one process. Everything is open at first. Shared by
/// the replicas of a test; both ends look before they send and before they take what came.
#[derive(Clone, Debug, Default)]
pub struct Links {
    blocked: Arc<RwLock<BTreeSet<(ReplicaId, ReplicaId)>>>,
    /// Receivers of transfers that are held open.
    held: Arc<watch::Sender<BTreeSet<ReplicaId>>>,
}

impl Links {
    /// Whether messages from one to the other pass.
    #[must_use]
    pub fn pass(&self, from: ReplicaId, to: ReplicaId) -> bool {
        !self.blocked.read().contains(&(from, to))
    }

    /// Blocks one direction.
    pub fn block(&self, from: ReplicaId, to: ReplicaId) {
        self.blocked.write().insert((from, to));
    }

    /// Cuts a replica off from the others, both ways.
    pub fn isolate(&self, id: ReplicaId, others: impl IntoIterator<Item = ReplicaId>) {
        let mut blocked = self.blocked.write();
        for other in others {
            blocked.insert((id, other));
            blocked.insert((other, id));
        }
    }

    /// From now on every transfer of the archive to this replica stays open after its first chunk, without giving
    /// any more.
    pub fn hold_transfers(&self, to: ReplicaId) {
        self.held.send_modify(|held| {
            held.insert(to);
        });
    }

    /// Waits until transfers to this replica go on.
    pub(super) async fn transfers_go_on(&self, to: ReplicaId) {
        // The sender lives as long as `self`.
        let _ = self.held.subscribe().wait_for(|held| !held.contains(&to)).await;
    }

    /// Opens everything.
    pub fn heal(&self) {
        self.blocked.write().clear();
        self.held.send_modify(BTreeSet::clear);
    }
}

//! Which replicas clients may ask: it changes when members are replaced.

use crate::cluster::{Cluster, ReplicaClient};
use parking_lot::RwLock;
use rand::{Rng as _, rngs::StdRng};
use std::sync::Arc;

/// Shared by all clients; whether a replica is up they have to find out.
#[derive(Clone, Default)]
pub(crate) struct Roster {
    clients: Arc<RwLock<Vec<(u64, ReplicaClient)>>>,
}

impl Roster {
    /// These replicas.
    pub(crate) fn of(clients: Vec<(u64, ReplicaClient)>) -> Self {
        Self { clients: Arc::new(RwLock::new(clients)) }
    }

    /// The replicas that there are now.
    pub(crate) fn set(&self, cluster: &Cluster) {
        *self.clients.write() =
            cluster.replicas.iter().map(|replica| (replica.id, replica.client.clone())).collect();
    }

    /// Any of them. There is always one.
    pub(crate) fn any(&self, rng: &mut StdRng) -> ReplicaClient {
        let clients = self.clients.read();
        clients[rng.random_range(0..clients.len())].1.clone()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(u64, ReplicaClient)> {
        self.clients.read().clone()
    }
}

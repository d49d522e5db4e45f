//! Replicas that come and go for good.

use super::{Cluster, ClusterError, Replica, ReplicaClient, ports};
use muxd::init::{AddReplica, ReplicaPlan, add_replica};

impl Cluster {
    /// Makes the files of one more replica as `muxd add-replica` does, starts it, and returns its place in
    /// [`Cluster::replicas`] and the address at which the others reach it. It is no member yet.
    ///
    /// # Errors
    /// [`ClusterError`], if it cannot be made or started.
    pub fn start_another(&mut self) -> Result<(usize, String), ClusterError> {
        let ports = ports::free(3)?;
        let used = self.replicas.iter().map(|replica| replica.id).max().unwrap_or(0);
        let replica = ReplicaPlan {
            id: used.max(self.last_id) + 1,
            raft_address: ports[0].to_string(),
            raft_listen: ports[0],
            api_listen: ports[1],
            metrics_listen: ports[2],
            zone: String::new(),
        };
        self.last_id = replica.id;
        let dir = self.dir().join("cluster");
        let plan = AddReplica { dir, like: None, replica: replica.clone(), hosts: Vec::new() };
        let added = add_replica(&plan)?;
        let client = ReplicaClient::new(replica.api_listen, &added.files.dir)?;
        let dir = self.dir().to_owned();
        self.replicas.push(Replica::start(&self.options.executable, &replica, &added.files, client, &dir)?);
        Ok((self.replicas.len() - 1, replica.raft_address))
    }

    /// Counts a replica no more: it was removed, and its process has ended.
    pub fn forget(&mut self, at: usize) {
        self.replicas.remove(at);
    }
}

//! Replicas that come and go for good.

use super::{Cluster, ClusterError, Replica, ReplicaClient, ports, until};
use muxd::init::{ReplicaFiles, ReplicaPlan};
use std::{ffi::OsStr, time::Duration};
use tokio::net::TcpStream;

/// How long a process may take until it listens.
const LISTEN_MAX: Duration = Duration::from_secs(20);

impl Cluster {
    /// Makes the files of one more replica by `muxd add-replica` and further arguments, starts it, and returns its
    /// place in [`Cluster::replicas`] and the address at which the others reach it. It is no member yet.
    ///
    /// # Errors
    /// [`ClusterError`], if it cannot be made or started.
    pub async fn start_another(
        &mut self,
        id: u64,
        further: &[&OsStr],
    ) -> Result<(usize, String), ClusterError> {
        let ports = ports::free(3)?;
        let plan = ReplicaPlan {
            id,
            raft_address: ports[0].to_string(),
            raft_listen: ports[0],
            api_listen: ports[1],
            metrics_listen: ports[2],
            zone: String::new(),
        };
        let dir = self.dir().join("cluster");
        let [raft, api, metrics] = [0, 1, 2].map(|at| ports[at].to_string());
        let id = id.to_string();
        let own = ["--id", &id, "--raft-address", &raft, "--api-listen", &api, "--metrics-listen", &metrics];
        let place = [OsStr::new("add-replica"), OsStr::new("--dir"), dir.as_os_str()];
        let arguments: Vec<_> =
            place.into_iter().chain(own.map(OsStr::new)).chain(further.iter().copied()).collect();
        let said = self.muxd(&arguments).await?;
        if !said.done() {
            return Err(ClusterError::Refused(format!("muxd add-replica: {said:?}")));
        }
        let dir = dir.join(format!("replica-{id}"));
        let files =
            ReplicaFiles { id: plan.id, config: dir.join("muxd.toml"), data_dir: dir.join("data"), dir };
        let client = ReplicaClient::new(plan.api_listen, &files.dir)?;
        let logs = self.dir().to_owned();
        self.replicas.push(Replica::start((&self.options.executable, None), &plan, &files, client, &logs)?);
        // Who is added must answer.
        until("the new replica listens", LISTEN_MAX, || async {
            TcpStream::connect(plan.raft_listen).await.ok()
        })
        .await?;
        Ok((self.replicas.len() - 1, plan.raft_address))
    }

    /// Counts a replica no more: it was removed, and its process has ended.
    pub fn forget(&mut self, at: usize) {
        self.replicas.remove(at);
    }
}

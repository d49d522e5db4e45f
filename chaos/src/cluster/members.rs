//! Replicas that come and go for good.

use super::{Cluster, ClusterError, Replica, StartAs, place, ports, replica::Placed, until};
use muxd::init::ReplicaFiles;
use std::{ffi::OsStr, path::Path, sync::Arc, time::Duration};
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
        let (plan, (spot, reached)) = place(self.options.site.as_ref(), id, &ports).await?;
        let dir = self.dir().join("cluster");
        let [raft, raft_listen, api, metrics] =
            [reached, plan.raft_listen, plan.api_listen, plan.metrics_listen].map(|at| at.to_string());
        let id = id.to_string();
        let own = [
            ["--id", &id],
            ["--raft-address", &raft],
            ["--raft-listen", &raft_listen],
            ["--api-listen", &api],
            ["--metrics-listen", &metrics],
        ];
        let place = [OsStr::new("add-replica"), OsStr::new("--dir"), dir.as_os_str()];
        let own = own.as_flattened().iter().map(OsStr::new);
        let arguments: Vec<_> = place.into_iter().chain(own).chain(further.iter().copied()).collect();
        let said = self.muxd(&arguments).await?;
        if !said.done() {
            return Err(ClusterError::Refused(format!("muxd add-replica: {said:?}")));
        }
        let dir = dir.join(format!("replica-{id}"));
        let files =
            ReplicaFiles { id: plan.id, config: dir.join("muxd.toml"), data_dir: dir.join("data"), dir };
        let founders = 1..=u64::from(self.options.replicas);
        if founders.into_iter().any(|id| self.replicas.iter().all(|replica| replica.id != id)) {
            self.name_members(&files.config)?;
        }
        let (listener, address) = (plan.raft_listen, plan.raft_address.clone());
        let placed = Placed { plan, files, reached, spot, site: Arc::clone(&self.options.site) };
        // Of this version: who is added while versions change is not of the one that goes.
        let start_as = StartAs { binary: None, feature_level_max: None, ..self.options.start_as.clone() };
        let started = Replica::start(&self.options.executable, start_as, placed, self.dir())?;
        self.replicas.push(started);
        // Who is added must answer.
        until("the new replica listens", LISTEN_MAX, || async { TcpStream::connect(listener).await.ok() })
            .await?;
        Ok((self.replicas.len() - 1, address))
    }

    /// When first members were removed: README wants one of those that there are to be named, and this names all.
    fn name_members(&self, config: &Path) -> Result<(), std::io::Error> {
        let mut text = String::new();
        let mut within = false;
        for line in std::fs::read_to_string(config)?.lines() {
            if line.starts_with('[') {
                within = line == "[cluster.initial_members]";
            }
            let entry = within && line.contains(" = ") && !line.starts_with('#');
            if !entry {
                text.push_str(line);
                text.push('\n');
            }
            if line == "[cluster.initial_members]" {
                for replica in &self.replicas {
                    text.push_str(&format!("{} = \"{}\"\n", replica.id, replica.raft));
                }
            }
        }
        std::fs::write(config, text)
    }

    /// Counts a replica no more: it was removed, and its process has ended.
    pub fn forget(&mut self, at: usize) {
        self.replicas.remove(at);
    }
}

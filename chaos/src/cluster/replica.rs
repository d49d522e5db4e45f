//! One replica: its process, its addresses, a client to it.

use super::{Executable, Process, ProcessError, ReplicaClient};
use muxd::init::{ReplicaFiles, ReplicaPlan};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A replica: running, or dead for the moment.
pub struct Replica {
    /// Its number in the cluster.
    pub id: u64,
    /// For people.
    pub name: String,
    /// gRPC, TLS.
    pub grpc: SocketAddr,
    /// HTTP: metrics and health.
    pub metrics: SocketAddr,
    /// Its files.
    pub dir: PathBuf,
    /// Calls it.
    pub client: ReplicaClient,
    /// The running process.
    pub process: Process,
    config: PathBuf,
    logs: PathBuf,
}

impl Replica {
    pub(super) fn start(
        executable: &Executable,
        plan: &ReplicaPlan,
        files: &ReplicaFiles,
        client: ReplicaClient,
        dir: &Path,
    ) -> Result<Self, ProcessError> {
        let name = format!("replica-{}", plan.id);
        let logs = dir.join("logs");
        Ok(Self {
            id: plan.id,
            process: launch(&name, executable, &files.config, &logs)?,
            name,
            grpc: plan.api_listen,
            metrics: plan.metrics_listen,
            dir: files.dir.clone(),
            client,
            config: files.config.clone(),
            logs,
        })
    }

    pub(super) fn restart(&mut self, executable: &Executable) -> Result<(), ProcessError> {
        self.process = launch(&self.name, executable, &self.config, &self.logs)?;
        Ok(())
    }

    /// Runs and is not paused.
    pub fn is_up(&mut self) -> bool {
        self.process.is_running() && !self.process.is_paused()
    }
}

fn launch(name: &str, executable: &Executable, config: &Path, logs: &Path) -> Result<Process, ProcessError> {
    let arguments = ["__muxd".into(), "run".into(), "--config".into(), config.as_os_str().to_owned()];
    Process::start(name, executable, &arguments, logs)
}

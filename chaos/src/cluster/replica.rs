//! One replica: its process, its addresses, a client to it.

use super::{Executable, Process, ProcessError, ReplicaClient};
use muxd::init::{ReplicaFiles, ReplicaPlan};
use std::{
    ffi::OsString,
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
    /// It is as an older version, up to this feature level.
    feature_level_max: Option<u16>,
}

impl Replica {
    pub(super) fn start(
        (executable, feature_level_max): (&Executable, Option<u16>),
        plan: &ReplicaPlan,
        files: &ReplicaFiles,
        client: ReplicaClient,
        dir: &Path,
    ) -> Result<Self, ProcessError> {
        let name = format!("replica-{}", plan.id);
        let logs = dir.join("logs");
        Ok(Self {
            id: plan.id,
            process: launch(&name, (executable, feature_level_max), &files.config, &logs)?,
            name,
            grpc: plan.api_listen,
            metrics: plan.metrics_listen,
            dir: files.dir.clone(),
            client,
            config: files.config.clone(),
            logs,
            feature_level_max,
        })
    }

    pub(super) fn restart(&mut self, executable: &Executable) -> Result<(), ProcessError> {
        self.process = launch(&self.name, (executable, self.feature_level_max), &self.config, &self.logs)?;
        Ok(())
    }

    /// From the next start on it is as a version that knows feature levels up to this one; `None`: as this one.
    pub(super) fn set_version(&mut self, feature_level_max: Option<u16>) {
        self.feature_level_max = feature_level_max;
    }

    /// Runs and is not paused.
    pub fn is_up(&mut self) -> bool {
        self.process.is_running() && !self.process.is_paused()
    }
}

fn launch(
    name: &str,
    (executable, feature_level_max): (&Executable, Option<u16>),
    config: &Path,
    logs: &Path,
) -> Result<Process, ProcessError> {
    let mut arguments: Vec<OsString> = vec!["__muxd".into()];
    if let Some(level) = feature_level_max {
        arguments.extend(["--feature-level-max".into(), level.to_string().into()]);
    }
    arguments.extend(["run".into(), "--config".into(), config.into()]);
    Process::start(name, executable, &arguments, logs)
}

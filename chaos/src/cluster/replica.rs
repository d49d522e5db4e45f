//! One replica: its process, its addresses, a client to it.

use super::{ClusterError, Executable, Host, Process, ProcessError, ReplicaClient, Site, Spot};
use muxd::init::{ReplicaFiles, ReplicaPlan};
use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a replica is started as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartAs {
    /// An older version, which knows feature levels up to this one; `None`: this one.
    pub feature_level_max: Option<u16>,
    /// Another `muxd`, which knows nothing of the other fields; `None`: this one.
    pub binary: Option<PathBuf>,
    /// Added to its wall clock, in milliseconds.
    pub wall_offset_ms: i64,
}

impl StartAs {
    /// Not this version.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.binary.is_some() || self.feature_level_max.is_some()
    }
}

/// A replica: running, or dead for the moment.
pub struct Replica {
    /// Its number in the cluster.
    pub id: u64,
    /// For people.
    pub name: String,
    /// gRPC, TLS.
    pub grpc: SocketAddr,
    /// Where the other replicas reach it.
    pub raft: SocketAddr,
    /// HTTP: metrics and health.
    pub metrics: SocketAddr,
    /// Its files.
    pub dir: PathBuf,
    /// Calls it.
    pub client: ReplicaClient,
    /// The running process.
    pub process: Process,
    /// What it is started as, from the next start on.
    pub start_as: StartAs,
    /// The process that there is was started as an old version.
    was_old: bool,
    config: PathBuf,
    logs: PathBuf,
    spot: Spot,
    site: Arc<dyn Site>,
}

/// Where a replica's process goes.
pub(super) struct Placed {
    pub(super) plan: ReplicaPlan,
    pub(super) files: ReplicaFiles,
    pub(super) reached: SocketAddr,
    pub(super) spot: Spot,
    pub(super) site: Arc<dyn Site>,
}

impl Replica {
    pub(super) fn start(
        executable: &Executable,
        start_as: StartAs,
        placed: Placed,
        dir: &Path,
    ) -> Result<Self, ClusterError> {
        let Placed { plan, files, reached, spot, site } = placed;
        let name = format!("replica-{}", plan.id);
        let logs = dir.join("logs");
        site.prepare(Host::Replica(plan.id), &files.data_dir)?;
        let process = launch(&name, executable, &start_as, &files.config, (&spot, &logs))?;
        site.started(Host::Replica(plan.id), process.pid());
        Ok(Self {
            id: plan.id,
            process,
            name,
            client: ReplicaClient::new(plan.api_listen, &files.dir)?,
            grpc: plan.api_listen,
            raft: reached,
            metrics: plan.metrics_listen,
            dir: files.dir,
            was_old: start_as.is_old(),
            start_as,
            config: files.config,
            logs,
            spot,
            site,
        })
    }

    pub(super) fn restart(&mut self, executable: &Executable) -> Result<(), ProcessError> {
        let place = (&self.spot, self.logs.as_path());
        self.process = launch(&self.name, executable, &self.start_as, &self.config, place)?;
        self.was_old = self.start_as.is_old();
        self.site.started(Host::Replica(self.id), self.process.pid());
        Ok(())
    }

    /// Whether the process is of an old version, whatever the next one is to be; `None`: none runs.
    pub fn runs_old(&mut self) -> Option<bool> {
        self.process.is_running().then_some(self.was_old)
    }

    /// Runs and is not paused.
    pub fn is_up(&mut self) -> bool {
        self.process.is_running() && !self.process.is_paused()
    }
}

fn launch(
    name: &str,
    executable: &Executable,
    start_as: &StartAs,
    config: &Path,
    (spot, logs): (&Spot, &Path),
) -> Result<Process, ProcessError> {
    let run: [OsString; 3] = ["run".into(), "--config".into(), config.into()];
    if let Some(binary) = &start_as.binary {
        return Process::start_in(&spot.enter, name, &Executable::at(binary), &run, logs);
    }
    let mut arguments: Vec<OsString> = vec!["__muxd".into()];
    if let Some(level) = start_as.feature_level_max {
        arguments.extend(["--feature-level-max".into(), level.to_string().into()]);
    }
    if start_as.wall_offset_ms != 0 {
        arguments.push(format!("--wall-offset-ms={}", start_as.wall_offset_ms).into());
    }
    arguments.extend(run);
    Process::start_in(&spot.enter, name, executable, &arguments, logs)
}

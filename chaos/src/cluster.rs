//! A whole cluster as separate processes on loopback: replicas of `muxd` and simulated LND nodes.
//!
//! The demo, the chaos test and the end-to-end tests use the same one. Every process is started from one
//! executable (`demo __muxd …`, `demo __lndsim …`), which runs the same code as the binaries of these names:
//! so `cargo run --bin demo` needs nothing that it did not build. Ports are free ones; nothing leaves
//! loopback; a process dies with whoever started it, and is only ever ended by its own pid.

mod client;
mod faults;
mod leaks;
mod lnd;
mod members;
mod operator;
mod options;
mod ports;
mod process;
mod proxy;
mod quiesce;
mod reads;
mod replica;
mod site;
mod wait;

pub use client::{CallError, ReplicaClient};
pub use faults::{FaultCounts, Faults};
pub use leaks::{LeakReport, fetch};
pub use lnd::Lnd;
pub use operator::Said;
pub use options::ClusterOptions;
pub use process::{Executable, Process, ProcessError, die_with_parent};
pub use proxy::{Proxy, Way};
pub(crate) use quiesce::read_all;
pub use reads::Merchant;
pub use replica::{Replica, StartAs};
pub use site::{Host, Loopback, Site, Spot};
pub use wait::{WaitError, until};

use crate::payer::PeerError;
use muxd::{
    config::{Endpoint, FrontNode},
    init::{ClusterPlan, InitError, ReplicaPlan, write_cluster},
};
use replica::Placed;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long a fresh cluster may take until it can be paid.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Why a cluster could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The machine: no port, no directory.
    #[error("{0}")]
    Machine(#[from] std::io::Error),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The replicas' files could not be written.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A simulated LND does not answer.
    #[error(transparent)]
    Lnd(#[from] PeerError),
    /// A replica does not answer, or not as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something did not come about in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A simulated LND's description of itself.
    #[error("{0}: {1}")]
    Ready(PathBuf, String),
    /// A command that must work does not.
    #[error("{0}")]
    Refused(String),
}

/// See the [module](self). Dropping it ends every process and, unless kept, removes the directory.
pub struct Cluster {
    /// The replicas, by number − 1 until one is removed.
    pub replicas: Vec<Replica>,
    /// The simulated LND nodes.
    pub lnds: Vec<Lnd>,
    /// What clients trust.
    pub tls_cert: PathBuf,
    /// What clients send.
    pub macaroon: PathBuf,
    /// By replica and LND: the way between them, if [`ClusterOptions::proxied`].
    pub ways: Vec<Vec<Proxy>>,
    options: ClusterOptions,
    /// Last, so that it is removed after the processes are gone.
    dir: Directory,
}

impl Cluster {
    /// Starts everything and waits until every replica knows the leader and every link is up.
    ///
    /// # Errors
    /// [`ClusterError`]; what was started is ended again, and the directory is kept for a look.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        let mut dir = Directory::new(options.dir.clone())?;
        dir.keep = true;
        let mut lnds = Vec::new();
        for number in 1..=options.lnds {
            lnds.push(Lnd::start(&options, dir.path(), number).await?);
        }
        let (plan, placed) = plan(&options, dir.path(), &lnds).await?;
        let files = write_cluster(&plan)?;
        let mut ways = Vec::new();
        if options.proxied {
            for replica in &files.replicas {
                ways.push(put_proxies(&replica.config, &lnds).await?);
            }
        }
        let mut replicas = Vec::new();
        for ((plan, files), (spot, reached)) in plan.replicas.into_iter().zip(files.replicas).zip(placed) {
            let start_as = options.start_as.clone();
            let placed = Placed { plan, files, reached, spot, site: Arc::clone(&options.site) };
            replicas.push(Replica::start(&options.executable, start_as, placed, dir.path())?);
        }
        let mut cluster = Self {
            replicas,
            lnds,
            tls_cert: files.api_cert,
            macaroon: files.admin_macaroon,
            ways,
            options,
            dir,
        };
        cluster.wait_ready(START_DEADLINE).await?;
        cluster.dir.keep = cluster.options.dir.is_some();
        Ok(cluster)
    }

    /// Where everything is kept.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// Leaves the directory where it is when the cluster ends: somebody has to look at it.
    pub fn keep_files(&mut self) {
        self.dir.keep = true;
    }

    /// Starts a replica again that was killed or stopped.
    ///
    /// # Errors
    /// [`ClusterError::Process`], if it cannot be started.
    pub fn restart_replica(&mut self, at: usize) -> Result<(), ClusterError> {
        Ok(self.replicas[at].restart(&self.options.executable)?)
    }

    /// Starts a replica that was stopped as the version that knows feature levels up to this one (`None`: the newest).
    ///
    /// # Errors
    /// [`ClusterError::Process`], if it cannot be started.
    pub fn upgrade_replica(&mut self, at: usize, feature_level_max: Option<u16>) -> Result<(), ClusterError> {
        self.replicas[at].start_as.feature_level_max = feature_level_max;
        self.restart_replica(at)
    }

    /// Starts a simulated LND's process again, in the same directory and on the same ports.
    ///
    /// # Errors
    /// [`ClusterError`], if it does not come up.
    pub async fn restart_lnd(&mut self, at: usize) -> Result<(), ClusterError> {
        let dir = self.dir.path().to_owned();
        self.lnds[at].restart(&self.options, &dir).await
    }
}

/// A replica per plan, on free ports, each with every LND as front node; and where each is and is reached.
async fn plan(
    options: &ClusterOptions,
    dir: &Path,
    lnds: &[Lnd],
) -> Result<(ClusterPlan, Vec<(Spot, SocketAddr)>), ClusterError> {
    let count = usize::from(options.replicas);
    let ports = ports::free(count * 3)?;
    let mut plan = ClusterPlan::loopback(dir.join("cluster"), options.replicas);
    plan.replicas.clear();
    let mut placed = Vec::new();
    for (ports, id) in ports.chunks_exact(3).zip(1..) {
        let (replica, place) = place(options.site.as_ref(), id, ports).await?;
        plan.replicas.push(replica);
        placed.push(place);
    }
    let configured = lnds.len().saturating_sub(options.spare_lnds as usize);
    plan.front_nodes = lnds.iter().take(configured).map(|lnd| front_node(options, lnd)).collect();
    plan.settings.clone_from(&options.settings);
    Ok((plan, placed))
}

/// A replica with its ports for the others, clients and metrics; where it is, and where the others reach it.
async fn place(
    site: &dyn Site,
    id: u64,
    ports: &[SocketAddr],
) -> Result<(ReplicaPlan, (Spot, SocketAddr)), ClusterError> {
    let host = Host::Replica(id);
    let spot = site.spot(host).await?;
    let at = |port: usize| SocketAddr::new(spot.ip, ports[port].port());
    let reached = site.reached(host, at(0)).await?;
    let replica = ReplicaPlan {
        id,
        raft_address: reached.to_string(),
        raft_listen: at(0),
        api_listen: at(1),
        metrics_listen: at(2),
        zone: spot.zone.clone(),
    };
    Ok((replica, (spot, reached)))
}

/// Rewrites a replica's configuration so that it reaches every LND through a proxy of its own.
async fn put_proxies(config: &Path, lnds: &[Lnd]) -> Result<Vec<Proxy>, ClusterError> {
    let mut text = std::fs::read_to_string(config)?;
    let mut proxies = Vec::new();
    for lnd in lnds {
        let proxy = Proxy::start(lnd.reached).await?;
        text = text.replace(&format!("\"{}\"", lnd.reached), &format!("\"{}\"", proxy.address()));
        proxies.push(proxy);
    }
    std::fs::write(config, text)?;
    Ok(proxies)
}

fn front_node(options: &ClusterOptions, lnd: &Lnd) -> FrontNode {
    FrontNode {
        pubkey: lnd.node,
        alias: lnd.alias.clone(),
        endpoints: vec![Endpoint { address: lnd.reached.to_string(), tls_cert: lnd.tls_cert.clone() }],
        zone: String::new(),
        macaroon: lnd.macaroon.clone(),
        fee_base_msat: options.fee_base_msat,
        fee_ppm: options.fee_ppm,
        cltv_delta: 80,
    }
}

/// The cluster's directory; removed when dropped, unless kept.
struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    fn new(given: Option<PathBuf>) -> Result<Self, std::io::Error> {
        let keep = given.is_some();
        let path = match given {
            Some(path) => {
                std::fs::create_dir_all(&path)?;
                std::fs::canonicalize(path)?
            }
            None => tempfile::Builder::new().prefix("mux-").tempdir()?.keep(),
        };
        Ok(Self { path, keep })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the cluster left is in {}", self.path.display());
            return;
        }
        if !self.keep {
            // A file left behind in the temporary directory harms nobody.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

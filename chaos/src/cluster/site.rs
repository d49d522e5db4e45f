//! Where processes run, and how they reach each other, if not simply all of them on loopback and directly.

use async_trait::async_trait;
use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// A process of the cluster, as others speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A replica, by its number.
    Replica(u64),
    /// A simulated LND, from 1.
    Lnd(u32),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id) => write!(f, "replica-{id}"),
            Self::Lnd(number) => write!(f, "lnd-{number}"),
        }
    }
}

/// Where one process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// It listens here.
    pub ip: IpAddr,
    /// Its zone, as in the replicas' configuration; may be empty.
    pub zone: String,
    /// What its command line begins with: how it gets there. It must become the process itself, with its pid and
    /// its standard input.
    pub enter: Vec<OsString>,
}

impl Spot {
    /// Here.
    #[must_use]
    pub fn here() -> Self {
        Self { ip: Ipv4Addr::LOCALHOST.into(), zone: String::new(), enter: Vec::new() }
    }
}

/// Where a cluster's processes run, and what lies between them.
#[async_trait]
pub trait Site: fmt::Debug + Send + Sync {
    /// Where this process shall run.
    ///
    /// # Errors
    /// There is no place for it.
    async fn spot(&self, host: Host) -> std::io::Result<Spot>;

    /// Under which address other processes of the cluster reach a listener of this one. Asked once for each.
    ///
    /// # Errors
    /// There is no way to it.
    async fn reached(&self, host: Host, listener: SocketAddr) -> std::io::Result<SocketAddr>;

    /// A replica's files are there, and it will be started for the first time.
    ///
    /// # Errors
    /// Its data directory cannot be made.
    fn prepare(&self, host: Host, data_dir: &Path) -> std::io::Result<()>;

    /// A process runs, perhaps again.
    fn started(&self, host: Host, pid: u32);
}

/// Everything on loopback, directly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback;

#[async_trait]
impl Site for Loopback {
    async fn spot(&self, _host: Host) -> std::io::Result<Spot> {
        Ok(Spot::here())
    }

    async fn reached(&self, _host: Host, listener: SocketAddr) -> std::io::Result<SocketAddr> {
        Ok(listener)
    }

    fn prepare(&self, _host: Host, _data_dir: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn started(&self, _host: Host, _pid: u32) {}
}

//! What a new cluster shall look like.

use super::{InitError, render};
use crate::config::FrontNode;
use crate::keys::Network;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Raft listener; on a machine that runs the whole cluster replica *n* adds *n* − 1, here and below.
const RAFT_PORT: u16 = 7_401;

/// API listener, as LND's.
pub const API_PORT: u16 = 10_009;

/// HTTP listener.
pub const METRICS_PORT: u16 = 9_101;

/// A cluster to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Where its files go; made if it is not there, must be empty if it is.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// Its replicas.
    pub replicas: Vec<ReplicaPlan>,
    /// Further host names and addresses for every certificate.
    pub hosts: Vec<String>,
    /// Its LND nodes; paths are written as they are.
    pub front_nodes: Vec<FrontNode>,
    /// Further keys to set in every configuration, e.g. `("raft.heartbeat_ms", "50")`; values in TOML.
    pub settings: Vec<(String, String)>,
}

/// A replica to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaPlan {
    /// Its number.
    pub id: u64,
    /// `host:port` at which the other replicas reach it.
    pub raft_address: String,
    /// Its Raft listener.
    pub raft_listen: SocketAddr,
    /// Its API listener.
    pub api_listen: SocketAddr,
    /// Its metrics listener.
    pub metrics_listen: SocketAddr,
    /// Where it runs.
    pub zone: String,
}

impl ClusterPlan {
    /// `replicas` replicas on this machine, on consecutive ports.
    #[must_use]
    pub fn loopback(dir: PathBuf, replicas: u16) -> Self {
        let replica = |at: u16| ReplicaPlan {
            id: u64::from(at) + 1,
            raft_address: format!("127.0.0.1:{}", RAFT_PORT.saturating_add(at)),
            raft_listen: loopback(RAFT_PORT.saturating_add(at)),
            api_listen: loopback(API_PORT.saturating_add(at)),
            metrics_listen: loopback(METRICS_PORT.saturating_add(at)),
            zone: String::new(),
        };
        Self {
            dir,
            name: "mux".into(),
            network: Network::Regtest,
            replicas: (0..replicas).map(replica).collect(),
            hosts: Vec::new(),
            front_nodes: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Whether it can be carried out.
    pub(super) fn check(&self) -> Result<(), InitError> {
        let ids: BTreeSet<_> = self.replicas.iter().map(|replica| replica.id).collect();
        let addresses: BTreeSet<_> = self.replicas.iter().map(|replica| &replica.raft_address).collect();
        if self.replicas.is_empty() || ids.contains(&0) {
            return Err(InitError::Plan("a cluster needs at least one replica, numbered from 1".into()));
        }
        if ids.len() != self.replicas.len() || addresses.len() != self.replicas.len() {
            return Err(InitError::Plan("every replica needs its own number and Raft address".into()));
        }
        let unsound =
            self.replicas.iter().find(|replica| !replica.raft_address.contains(':')).map(|r| &r.raft_address);
        if let Some(address) = unsound {
            return Err(InitError::Plan(format!("{address:?} is no host:port")));
        }
        let unknown = self.settings.iter().find(|(key, _)| !render::is_key(key));
        match unknown {
            Some((key, _)) => Err(InitError::Plan(format!("{key:?} is no key of the configuration"))),
            None => Ok(()),
        }
    }

    /// Names that clients may use for any replica.
    pub(super) fn api_hosts(&self) -> Vec<String> {
        let mut hosts = self.hosts.clone();
        hosts.extend(["localhost".into(), "127.0.0.1".into(), "::1".into()]);
        for replica in &self.replicas {
            hosts.push(host(&replica.raft_address));
            let ip = replica.api_listen.ip();
            if !ip.is_unspecified() {
                hosts.push(ip.to_string());
            }
        }
        hosts
    }
}

impl ReplicaPlan {
    /// Names of this replica for the others.
    pub(super) fn raft_hosts(&self, further: &[String]) -> Vec<String> {
        let mut hosts = further.to_vec();
        hosts.push(host(&self.raft_address));
        hosts
    }

    /// Where clients reach its API, as far as the plan tells.
    #[must_use]
    pub fn api_address(&self) -> String {
        let ip = self.api_listen.ip();
        let host = if ip.is_unspecified() { host(&self.raft_address) } else { ip.to_string() };
        if host.contains(':') {
            format!("[{host}]:{}", self.api_listen.port())
        } else {
            format!("{host}:{}", self.api_listen.port())
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

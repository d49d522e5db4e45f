//! What a replica is started with.
//!
//! [`ReplicaConfig`] is plain data that the binary fills from its configuration; [`Wiring`] carries parts that
//! tests and simulations replace (listener, network, clocks, links between replicas, disks).

use crate::archive::{DiskArchives, OpenArchive};
use crate::blocking::Blocking;
use crate::clock::{Clock, SystemClock};
use crate::machine::command::COMMAND_FORMAT;
use crate::network::{Links, Net};
use crate::store::{OpenEngine, SledEngine};
use crate::types::ReplicaId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What one replica is, where it keeps its data and whom it talks to.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Names the cluster; a fingerprint of the cluster's seed is part of it. Replicas of another cluster, and
    /// stores of another cluster, are refused.
    pub cluster_id: [u8; 32],
    /// This replica. Unique in the cluster for ever: a wiped replica comes back under a new id.
    pub id: ReplicaId,
    /// Log, votes and snapshots. Created if absent; one process at a time.
    pub data_dir: PathBuf,
    /// Where the Raft listener binds.
    pub listen: SocketAddr,
    /// The members a new cluster is founded with, by the least id among them: id → `host:port` at which the
    /// others reach its Raft listener. A replica with an empty store, also one that is to be added and is none of
    /// them, asks them who it is before it votes. Empty: it is taken to be new, on the operator's word.
    pub initial_members: BTreeMap<ReplicaId, String>,
    /// Mutual TLS between replicas.
    pub tls: TlsPaths,
    /// Timers and deadlines.
    pub timing: Timing,
    /// When snapshots are made and how much log is kept.
    pub snapshot: SnapshotConfig,
    /// Added to the wall clock, to see what a wrong clock does. Zero in production.
    pub wall_offset_ms: i64,
}

/// PEM files for mutual TLS between replicas.
///
/// The certificate must be issued by the CA, be good for server and client use, and carry the DNS name
/// `replica-<id>.<domain>`: a replica is addressed, and believed, by that name only.
#[derive(Clone, Debug)]
pub struct TlsPaths {
    /// The cluster's CA.
    pub ca: PathBuf,
    /// This replica's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The part of the DNS names after `replica-<id>.`.
    pub domain: String,
}

impl TlsPaths {
    /// The domain that is used unless another is configured.
    pub const DEFAULT_DOMAIN: &'static str = "mux";

    /// The DNS name that the certificate of a replica must carry.
    #[must_use]
    pub fn name_of(&self, id: ReplicaId) -> String {
        format!("replica-{id}.{}", self.domain)
    }
}

/// Timers and deadlines. Failover takes about `election_max + U(election_min, election_max)`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Least election timeout.
    pub election_min: Duration,
    /// Greatest election timeout; also the leader's lease.
    pub election_max: Duration,
    /// How long a proposal or a read barrier may take in all.
    pub propose: Duration,
    /// How long sending and installing a snapshot may take.
    pub install_snapshot: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
            propose: Duration::from_secs(5),
            install_snapshot: Duration::from_secs(60),
        }
    }
}

/// When snapshots are made and how much log is kept.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotConfig {
    /// A snapshot is made after this many entries since the last.
    pub logs_since_last: u64,
    /// Entries kept although a snapshot contains them: must cover what is written while a snapshot is sent.
    pub keep_logs: u64,
    /// Least number of entries purged at a time.
    pub purge_batch: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        // Under load an entry carries a dozen payments and 4 KiB: a restart applies up to 5,000 of them again,
        // and up to 15,000 are in memory. A snapshot has only what is not finished, so it costs little.
        Self { logs_since_last: 5_000, keep_logs: 10_000, purge_batch: 512 }
    }
}

/// Parts that tests and simulations replace. With [`Wiring::net`], [`Wiring::blocking`] inline, an engine and an archive
/// in memory, and a clock that follows tokio's, a whole replica runs on one thread of a paused runtime.
pub struct Wiring {
    /// An already bound listener instead of [`ReplicaConfig::listen`].
    pub listener: Option<std::net::TcpListener>,
    /// How this replica reaches the others, instead of TCP with TLS. Then no listener is bound and no certificate is
    /// read: whoever runs the network gives what arrives to [`Replica::routes`](super::Replica::routes).
    pub net: Option<Arc<dyn Net>>,
    /// How what blocks is run.
    pub blocking: Blocking,
    /// Wall clock and monotonic clock; [`ReplicaConfig::wall_offset_ms`] is added to the wall clock.
    pub clock: Arc<dyn Clock>,
    /// Blocks traffic between replicas.
    pub links: Links,
    /// Opens the engine below the log.
    pub engine: Arc<dyn OpenEngine>,
    /// Opens the archive.
    pub archive: Arc<dyn OpenArchive>,
    /// The highest feature level that this replica says it knows: lower than [`COMMAND_FORMAT`] to be an older
    /// version's stand-in.
    pub feature_level_max: u16,
}

impl Default for Wiring {
    fn default() -> Self {
        Self {
            listener: None,
            net: None,
            blocking: Blocking::on_threads(),
            clock: Arc::new(SystemClock::new()),
            links: Links::default(),
            engine: Arc::new(SledEngine::opener()),
            archive: Arc::new(DiskArchives),
            feature_level_max: COMMAND_FORMAT,
        }
    }
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong: the operator must act.
    #[error("configuration: {0}")]
    Config(String),
    /// Another process uses the data directory.
    #[error("data directory {0} is in use by another process")]
    Locked(PathBuf),
    /// The data directory belongs to another cluster or replica, or must not be used again.
    #[error("data directory {path}: {reason}")]
    WrongStore {
        /// The directory.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// The data directory cannot be read or written, or its content is damaged.
    #[error("storage: {0}")]
    Storage(String),
    /// The listener could not be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

//! The sections and keys themselves, with their defaults. What they mean is in `example.toml`.

use crate::invoice::{DEFAULT_EXPIRY_S, DEFAULT_MIN_FINAL_CLTV};
use crate::keys::Network;
use mux_raft::types::{NodePubkey, ReplicaId};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A replica's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this replica is.
    pub cluster: Cluster,
    /// Replication and storage.
    pub raft: Raft,
    /// The client API.
    pub api: Api,
    /// HTTP: metrics and probes.
    #[serde(default)]
    pub metrics: Metrics,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// The lnmux-compatible API.
    #[serde(default)]
    pub lnmux: Lnmux,
    /// Defaults of invoices.
    #[serde(default)]
    pub invoices: Invoices,
    /// The LND nodes.
    #[serde(default)]
    pub front_nodes: Vec<FrontNode>,
    /// How links behave.
    #[serde(default)]
    pub links: Links,
    /// How the replica ends.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// The file's directory, to which relative paths are relative.
    #[serde(skip)]
    pub dir: PathBuf,
    /// What is told to others about what goes on here.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// `[shutdown]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Longest time from SIGTERM to the end of the process.
    pub grace_secs: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_secs: 10 }
    }
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The cluster's name; part of its id.
    pub name: String,
    /// The chain the front nodes live on.
    #[serde(deserialize_with = "network_from_text", serialize_with = "network_to_text")]
    pub network: Network,
    /// File with the cluster's seed.
    pub seed_file: PathBuf,
    /// This replica.
    pub replica_id: ReplicaId,
    /// The first members: id → `host:port` of their Raft listeners.
    #[serde(deserialize_with = "by_replica", serialize_with = "by_replica_text")]
    pub initial_members: BTreeMap<ReplicaId, String>,
    /// This replica is none of the first members and waits to be added.
    #[serde(default)]
    pub join: bool,
    /// Where the replicas run; one that is not named is nowhere special.
    #[serde(default, deserialize_with = "by_replica", serialize_with = "by_replica_text")]
    pub zones: BTreeMap<ReplicaId, String>,
}

/// `[raft]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raft {
    /// Listener for the other replicas.
    pub listen: SocketAddr,
    /// Certificate authority of the replicas.
    pub tls_ca: PathBuf,
    /// This replica's certificate.
    pub tls_cert: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// Where the log and the archive are.
    pub data_dir: PathBuf,
    /// Between heartbeats of the leader.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// Least time without a leader before an election.
    #[serde(default = "default_election_min_ms")]
    pub election_min_ms: u64,
    /// Greatest.
    #[serde(default = "default_election_max_ms")]
    pub election_max_ms: u64,
}

fn default_heartbeat_ms() -> u64 {
    100
}

fn default_election_min_ms() -> u64 {
    300
}

fn default_election_max_ms() -> u64 {
    600
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// gRPC listener, TLS.
    pub listen: SocketAddr,
    /// Its certificate.
    pub tls_cert: PathBuf,
    /// Its key.
    pub tls_key: PathBuf,
    /// Who may call.
    #[serde(default)]
    pub auth: ApiAuth,
}

/// Who may call the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiAuth {
    /// Whoever sends the cluster's macaroon.
    #[default]
    Macaroon,
    /// Whoever reaches the port.
    None,
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// HTTP listener of `/metrics`, `/livez`, `/readyz`.
    pub listen: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9_101)) }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// `tracing` filter.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,openraft=warn".into() }
    }
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Spans for a collector.
    pub otlp: Otlp,
}

/// `[telemetry.otlp]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Otlp {
    /// `http://host:4317` of an OpenTelemetry collector; empty: none.
    pub endpoint: String,
    /// Share of the payments, and of the calls without a trace of their own, whose spans are exported.
    pub sample_ratio: f64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: String::new(), sample_ratio: 0.01 }
    }
}

/// `[lnmux]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lnmux {
    /// Hand out the preimage with a new invoice, as lnmux does.
    pub return_preimage: bool,
}

/// `[invoices]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Invoices {
    /// How long an invoice is payable.
    pub expiry_secs: u64,
    /// BOLT 11 `min_final_cltv_expiry_delta`, in blocks.
    pub min_final_cltv: u16,
    /// Route hints an invoice carries.
    pub hints: usize,
}

impl Default for Invoices {
    fn default() -> Self {
        Self { expiry_secs: DEFAULT_EXPIRY_S, min_final_cltv: DEFAULT_MIN_FINAL_CLTV, hints: 3 }
    }
}

/// `[[front_nodes]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontNode {
    /// Identity key of the LND node.
    pub pubkey: NodePubkey,
    /// For people and metric labels.
    pub alias: String,
    /// Where its gRPC API answers; several with LND's own leader election.
    pub endpoints: Vec<Endpoint>,
    /// Where it runs; a replica of the same zone is preferred for its link.
    #[serde(default)]
    pub zone: String,
    /// File with a macaroon that permits what the links call.
    pub macaroon: PathBuf,
    /// Fee of the hop to the virtual node, in invoices' hints.
    #[serde(default)]
    pub fee_base_msat: u32,
    /// Fee of the hop, millionths.
    #[serde(default)]
    pub fee_ppm: u32,
    /// Blocks between incoming and outgoing expiry.
    #[serde(default = "default_cltv_delta")]
    pub cltv_delta: u16,
}

fn default_cltv_delta() -> u16 {
    80
}

/// `[[front_nodes.endpoints]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Its certificate; exactly this one is trusted.
    pub tls_cert: PathBuf,
}

/// `[links]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Without a quorum for this long, a replica gives up its streams.
    pub quorum_lost_after_ms: u64,
    /// If nobody took a stream within this time, it is held again, degraded.
    pub degraded_after_ms: u64,
    /// Force-close a channel rather than lose a settled HTLC on it.
    pub rescue: bool,
    /// Blocks before the last moment at which the alarm is raised (and the channel closed).
    pub rescue_margin_blocks: u32,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            quorum_lost_after_ms: 3_000,
            degraded_after_ms: 10_000,
            rescue: false,
            rescue_margin_blocks: 4,
        }
    }
}

/// The configuration and the `bitcoin` tools say "bitcoin" where LND says "mainnet": both are taken.
fn network_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = if text == "bitcoin" { "mainnet" } else { &text };
    name.parse().map_err(de::Error::custom)
}

fn network_to_text<S: Serializer>(network: &Network, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(network)
}

fn by_replica<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<ReplicaId, String>, D::Error> {
    let text = BTreeMap::<String, String>::deserialize(deserializer)?;
    text.into_iter()
        .map(|(id, address)| match id.parse::<ReplicaId>() {
            Ok(id) if id > 0 => Ok((id, address)),
            _ => Err(de::Error::custom(format!("replica id {id:?} is not a positive number"))),
        })
        .collect()
}

fn by_replica_text<S: Serializer>(
    members: &BTreeMap<ReplicaId, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.iter().map(|(id, address)| (id.to_string(), address)))
}

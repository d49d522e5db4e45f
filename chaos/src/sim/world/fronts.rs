//! The front nodes as all replicas are configured with them, and the hosts that they run on.

use super::stranding::MARGIN;
use crate::lndsim::Config as LndConfig;
use crate::sim::host::HostId;
use crate::sim::lnd::{Chain, LndHost};
use crate::sim::net::{Conditions, Network};
use crate::sim::random;
use crate::sim::swarm::{FaultKind, Swarm};
use muxd::config::Config;
use muxd::keys::{ClusterKeys, ClusterSeed};
use muxd::server::NodeConfig;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// At the beginning.
const HEIGHT: u32 = 800_000;

/// Names of LND nodes.
const ALIASES: [&str; 3] = ["alice", "bob", "carol"];

/// What every replica knows of the front nodes, and its part of the cluster's secrets.
#[derive(Clone, Debug)]
pub(super) struct Fronts {
    pub(super) config: NodeConfig,
    pub(super) keys: Arc<ClusterKeys>,
    /// By the name of their files.
    pub(super) macaroons: Arc<BTreeMap<PathBuf, Vec<u8>>>,
}

/// Names of the nodes that a seed draws.
pub(super) fn aliases(swarm: &Swarm) -> impl Iterator<Item = &'static str> {
    ALIASES.into_iter().take(swarm.lnds.nodes)
}

/// The nodes, all down, on hosts from this number on.
pub(super) fn nodes(swarm: &Swarm, first: usize, chain: &Chain, network: &Network) -> Vec<LndHost> {
    let nodes = aliases(swarm).zip(first..).map(|(alias, host)| {
        let config = LndConfig {
            seed: swarm.seed,
            height: chain.height(),
            channels: swarm.lnds.channels,
            ..LndConfig::new(alias)
        };
        LndHost::new(HostId(host), config, swarm.lnds.standbys, chain.clone(), network)
    });
    nodes.collect()
}

/// The chain at the beginning.
pub(super) fn chain() -> Chain {
    Chain::at(HEIGHT)
}

/// How messages fare between a client and a replica: over one TCP connection that nobody works around.
pub(super) fn of_clients(swarm: &Swarm) -> Conditions {
    Conditions { duplicate: 0.0, in_order: true, ..swarm.network.clone() }
}

/// How messages fare between an LND node and a replica: likewise; what breaks their connections are faults of their own.
pub(super) fn of_lnds(swarm: &Swarm) -> Conditions {
    Conditions { lose: 0.0, stray: 0.0, ..of_clients(swarm) }
}

impl Fronts {
    /// # Panics
    /// The configuration is not one, which no seed makes it.
    pub(super) fn new(swarm: &Swarm, nodes: &[LndHost]) -> Self {
        let seed = ClusterSeed::from_bytes(random::seed_of(swarm.seed, "cluster seed"));
        let keys = Arc::new(ClusterKeys::derive(&seed));
        let mut text = configuration(nodes);
        if swarm.has(FaultKind::LndStrands) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[links]\nrescue = true\nrescue_margin_blocks = {MARGIN}\n");
        }
        let config: Config = toml::from_str(&text).expect("a configuration");
        let macaroons =
            nodes.iter().map(|lnd| (PathBuf::from(macaroon(lnd.alias())), lnd.macaroon().to_vec())).collect();
        Self { config: NodeConfig::of(&config, &keys), keys, macaroons: Arc::new(macaroons) }
    }
}

fn macaroon(alias: &str) -> String {
    format!("{alias}.macaroon")
}

/// As an operator would write it. No file that it names is there, and nothing is bound: everything is given.
fn configuration(nodes: &[LndHost]) -> String {
    let mut text = r#"
        [cluster]
        name = "simulated"
        network = "regtest"
        seed_file = "nowhere"
        replica_id = 1
        initial_members = { 1 = "replica-1:7401" }
        [raft]
        listen = "192.0.2.1:1"
        tls_ca = "nowhere"
        tls_cert = "nowhere"
        tls_key = "nowhere"
        data_dir = "nowhere"
        [api]
        listen = "192.0.2.1:2"
        tls_cert = "nowhere"
        tls_key = "nowhere"
        auth = "none"
        "#
    .to_owned();
    for lnd in nodes {
        let endpoints: Vec<String> = lnd
            .addresses()
            .iter()
            .map(|address| format!("{{ address = {address:?}, tls_cert = \"nowhere\" }}"))
            .collect();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"
            [[front_nodes]]
            pubkey = "{}"
            alias = "{}"
            macaroon = "{}"
            endpoints = [{}]
            "#,
            lnd.node(),
            lnd.alias(),
            macaroon(lnd.alias()),
            endpoints.join(", ")
        );
    }
    text
}

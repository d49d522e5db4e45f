//! The configuration in the words of the parts that are started.

use crate::config::{Config, FrontNode};
use crate::keys::ClusterKeys;
use crate::link::{AssignConfig, LinkTiming, LinksConfig, RescueConfig};
use crate::lnd::{EndpointConfig, FrontNodeConfig};
use crate::telemetry::CertificateFile;
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::replica::{ReplicaConfig, SnapshotConfig, Timing, TlsPaths};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

/// For consensus: what a configuration says to it.
#[must_use]
pub fn replica(config: &Config, keys: &ClusterKeys) -> ReplicaConfig {
    let (cluster, raft) = (&config.cluster, &config.raft);
    ReplicaConfig {
        cluster_id: keys.cluster_id(&cluster.name, cluster.network),
        id: cluster.replica_id,
        data_dir: raft.data_dir.clone(),
        listen: raft.listen,
        initial_members: cluster.initial_members.clone(),
        tls: TlsPaths {
            ca: raft.tls_ca.clone(),
            cert: raft.tls_cert.clone(),
            key: raft.tls_key.clone(),
            domain: TlsPaths::DEFAULT_DOMAIN.into(),
        },
        timing: Timing {
            heartbeat: Duration::from_millis(raft.heartbeat_ms),
            election_min: Duration::from_millis(raft.election_min_ms),
            election_max: Duration::from_millis(raft.election_max_ms),
            ..Timing::default()
        },
        snapshot: SnapshotConfig::default(),
        wall_offset_ms: 0,
    }
}

/// For the links.
pub(super) fn links(config: &Config, keys: &ClusterKeys) -> LinksConfig {
    let links = &config.links;
    let mut taken = BTreeSet::new();
    // In the order of the keys, not of the file: every replica must give the same scids.
    let mut nodes: Vec<&FrontNode> = config.front_nodes.iter().collect();
    nodes.sort_by_key(|node| node.pubkey);
    let front_nodes = nodes.into_iter().map(|node| {
        let version = policy_version(node.fee_base_msat, node.fee_ppm, node.cltv_delta);
        let scid = keys.virtual_scid(&node.pubkey, version, &|scid| taken.contains(&scid));
        taken.insert(scid);
        front_node(node, scid)
    });
    LinksConfig {
        front_nodes: front_nodes.collect(),
        network: config.cluster.network.name().into(),
        dir: config.dir.clone(),
        timing: LinkTiming {
            quorum_patience: Duration::from_millis(links.quorum_lost_after_ms),
            degraded_after: Duration::from_millis(links.degraded_after_ms),
            ..LinkTiming::default()
        },
        rescue: RescueConfig { margin_blocks: links.rescue_margin_blocks, force_close: links.rescue },
        assign: AssignConfig { zones: config.cluster.zones.clone(), ..AssignConfig::default() },
    }
}

/// A scid names one policy for ever, so another fee or delta needs another scid: its version follows from
/// the policy, and every replica finds the same without asking.
pub(crate) fn policy_version(fee_base_msat: u32, fee_ppm: u32, cltv_delta: u16) -> u32 {
    let digest = Sha256::new()
        .chain_update(fee_base_msat.to_be_bytes())
        .chain_update(fee_ppm.to_be_bytes())
        .chain_update(cltv_delta.to_be_bytes())
        .finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn front_node(node: &FrontNode, scid: u64) -> FrontNodeConfig {
    let endpoint = |endpoint: &crate::config::Endpoint| EndpointConfig {
        address: endpoint.address.clone(),
        tls_cert: endpoint.tls_cert.clone().into(),
    };
    FrontNodeConfig {
        node: node.pubkey,
        alias: node.alias.clone(),
        endpoints: node.endpoints.iter().map(endpoint).collect(),
        macaroon: node.macaroon.clone(),
        zone: node.zone.clone(),
        policy: FrontNodePolicy {
            scid,
            fee_base_msat: node.fee_base_msat,
            fee_ppm: node.fee_ppm,
            cltv_delta: node.cltv_delta,
        },
    }
}

/// This replica's own, for the alarm on their end.
pub(super) fn certificates(config: &Config) -> Vec<CertificateFile> {
    let own =
        [("api", &config.api.tls_cert), ("raft", &config.raft.tls_cert), ("raft-ca", &config.raft.tls_ca)];
    let own = own.into_iter().map(|(name, path)| (name.to_owned(), path));
    own.map(|(name, path)| CertificateFile { name, source: path.clone().into() }).collect()
}

/// The same of front nodes.
pub(super) fn lnd_certificates(nodes: Vec<FrontNodeConfig>) -> Vec<CertificateFile> {
    let lnd = nodes.into_iter().flat_map(|node| {
        let first = format!("lnd-{}", node.alias);
        let sources = (1..).zip(node.endpoints.into_iter().map(|endpoint| endpoint.tls_cert));
        // Standbys have certificates of their own.
        sources.map(move |(number, source)| {
            let name = if number == 1 { first.clone() } else { format!("{first}-{number}") };
            CertificateFile { name, source }
        })
    });
    lnd.collect()
}

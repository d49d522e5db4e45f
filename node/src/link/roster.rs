//! Which front nodes this replica connects to, and how.
//!
//! The log says which there are. How one is reached says this replica's configuration, if it names the node, else the
//! log: so a replica that reaches a node another way than the others (a tunnel, another mount of the secrets) can
//! say so.

use super::LinksConfig;
use crate::lnd::{CertificateSource, EndpointConfig, FrontNodeConfig};
use mux_raft::machine::State;
use mux_raft::machine::model::{FrontNode, FrontNodeAccess, FrontNodeMode};
use mux_raft::types::NodePubkey;
use std::collections::BTreeMap;
use std::path::Path;

/// The configured ones that were not removed, and those that the log tells how to reach.
pub(super) fn wanted(config: &LinksConfig, state: &State) -> BTreeMap<NodePubkey, FrontNodeConfig> {
    let here = |front: &&FrontNode| !config.front_nodes.iter().any(|known| known.node == front.node);
    let logged = state.front_nodes().filter(here).filter_map(|front| {
        let access = state.front_node_access(&front.node)?;
        Some((front.node, from_log(front, access, &config.dir)))
    });
    let own = config.front_nodes.iter().filter(|front| !is_removed(state, &front.node));
    own.map(|front| (front.node, front.clone())).chain(logged).collect()
}

/// Whether an operator removed it, whatever configurations say.
pub(crate) fn is_removed(state: &State, node: &NodePubkey) -> bool {
    state.front_node_mode(node) == FrontNodeMode::Removed
}

/// A front node in the words of a configuration.
pub(crate) fn from_log(front: &FrontNode, access: &FrontNodeAccess, dir: &Path) -> FrontNodeConfig {
    let endpoints = access.endpoints.iter().map(|endpoint| EndpointConfig {
        address: endpoint.address.clone(),
        tls_cert: CertificateSource::Log(endpoint.tls_cert.clone()),
    });
    FrontNodeConfig {
        node: front.node,
        alias: front.alias.clone(),
        endpoints: endpoints.collect(),
        macaroon: dir.join(&access.macaroon),
        zone: access.zone.clone(),
        policy: front.policy,
    }
}

/// Whether a running link may go on as it is.
pub(super) fn is_reached_alike(one: &FrontNodeConfig, other: &FrontNodeConfig) -> bool {
    one.alias == other.alias && one.endpoints == other.endpoints && one.macaroon == other.macaroon
}

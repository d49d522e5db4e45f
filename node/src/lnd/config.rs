use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::types::NodePubkey;
use serde::Deserialize;
use std::path::PathBuf;

/// One front node: a Lightning identity, and where to find it.
#[derive(Clone, Debug)]
pub struct FrontNodeConfig {
    /// The identity that every endpoint must prove.
    pub node: NodePubkey,
    /// For people and metric labels.
    pub alias: String,
    /// One, or several with LND's own leader election; the active one is used.
    pub endpoints: Vec<EndpointConfig>,
    /// The macaroon file, the same for all endpoints (its root key lives in LND's database).
    pub macaroon: PathBuf,
    /// Where the node runs; a replica of the same zone is preferred as its owner. Empty: nowhere special.
    pub zone: String,
    /// Virtual scid and fee with which the leader registers the node if the log does not know it yet.
    pub policy: FrontNodePolicy,
}

/// One listener of a front node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EndpointConfig {
    /// `host:port` of its gRPC listener.
    pub address: String,
    /// Its `tls.cert`: exactly this certificate is accepted.
    pub tls_cert: PathBuf,
}

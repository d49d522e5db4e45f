use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::types::NodePubkey;
use std::fmt;
use std::path::PathBuf;

/// One front node: a Lightning identity, and where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `host:port` of its gRPC listener.
    pub address: String,
    /// Its `tls.cert`: exactly this certificate is accepted.
    pub tls_cert: CertificateSource,
}

/// Where the certificate of a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// In a file, which is read again at every connect.
    File(PathBuf),
    /// In the log, as PEM.
    Log(String),
}

impl From<PathBuf> for CertificateSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl CertificateSource {
    /// The PEM text.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path),
            Self::Log(pem) => Ok(pem.clone().into_bytes()),
        }
    }
}

impl fmt::Display for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Log(_) => f.write_str("the certificate given to `muxcli front-node add`"),
        }
    }
}

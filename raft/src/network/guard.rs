use super::links::Links;
use super::stores::Stores;
use super::tls::TlsMaterial;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use std::sync::Arc;
use tonic::{Request, Status};

/// Decides who may call this replica.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    id: ReplicaId,
    cluster_id: [u8; 32],
    tls: Arc<TlsMaterial>,
    links: Links,
    stores: Stores,
}

/// What the caller's certificate says, taken from the connection.
pub(crate) type Certificates = Option<Vec<u8>>;

impl Guard {
    pub(crate) fn new(
        id: ReplicaId,
        cluster_id: [u8; 32],
        tls: Arc<TlsMaterial>,
        links: Links,
        stores: Stores,
    ) -> Self {
        Self { id, cluster_id, tls, links, stores }
    }

    /// The caller's end-entity certificate (DER). TLS has verified it against the cluster's CA.
    pub(crate) fn certificate<T>(request: &Request<T>) -> Certificates {
        request.peer_certs().and_then(|chain| chain.first().map(|certificate| certificate.to_vec()))
    }

    /// Checks that a message is for this replica, from a replica of this cluster, that the connection belongs to
    /// the replica it claims to come from, and that both have the data directories that the log knows.
    pub(crate) fn check(
        &self,
        header: Option<&pb::Header>,
        certificate: &Certificates,
    ) -> Result<ReplicaId, Status> {
        let header = header.ok_or_else(|| Status::invalid_argument("the message has no header"))?;
        if header.cluster_id.as_ref() != self.cluster_id {
            let short = |id: &[u8]| hex::encode(id.get(..8).unwrap_or(id));
            return Err(Status::permission_denied(format!(
                "this is replica {} of cluster {}; the caller is of cluster {}",
                self.id,
                short(&self.cluster_id),
                short(&header.cluster_id),
            )));
        }
        if header.target != self.id {
            return Err(Status::failed_precondition(format!(
                "this is replica {}; the message is for replica {}",
                self.id, header.target,
            )));
        }
        let certificate =
            certificate.as_deref().ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        self.tls.check_name(certificate, header.source).map_err(|reason| {
            Status::permission_denied(format!("certificate of replica {}: {reason}", header.source))
        })?;
        self.check_link(header.source)?;
        self.stores.check(header)?;
        Ok(header.source)
    }

    /// Waits while transfers to a peer are held open.
    pub(super) async fn transfers_go_on(&self, to: ReplicaId) {
        self.links.transfers_go_on(to).await;
    }

    /// Whether messages from a peer pass at the moment.
    pub(crate) fn check_link(&self, source: ReplicaId) -> Result<(), Status> {
        if self.links.pass(source, self.id) { Ok(()) } else { Err(Status::unavailable("link blocked")) }
    }
}

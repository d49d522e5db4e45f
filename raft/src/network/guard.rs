use super::links::Links;
use super::net::CallerId;
use super::stores::Stores;
use super::tls::TlsMaterial;
use crate::types::{ReplicaId, differ_in_name_only};
use mux_proto::mux::raft::v1 as pb;
use std::sync::Arc;
use tonic::{Request, Status};

/// Decides who may call this replica.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    id: ReplicaId,
    cluster_id: [u8; 32],
    callers: Callers,
    links: Links,
    stores: Stores,
}

/// How callers are told apart.
#[derive(Clone, Debug)]
pub(crate) enum Callers {
    /// By the certificate of their connection.
    ByCertificate(Arc<TlsMaterial>),
    /// The network says so: see [`CallerId`].
    ByNet,
}

/// Who is at the other end of the connection, as far as that is known before a message is read.
#[derive(Debug)]
pub(crate) enum Caller {
    /// The end-entity certificate (DER). TLS has verified it against the cluster's CA.
    Certificate(Vec<u8>),
    Replica(ReplicaId),
    Unknown,
}

impl Guard {
    pub(crate) fn new(
        id: ReplicaId,
        cluster_id: [u8; 32],
        callers: Callers,
        links: Links,
        stores: Stores,
    ) -> Self {
        Self { id, cluster_id, callers, links, stores }
    }

    /// Who calls.
    pub(crate) fn caller<T>(&self, request: &Request<T>) -> Caller {
        match self.callers {
            Callers::ByCertificate(_) => {
                let chain = request.peer_certs();
                let first = chain.as_ref().and_then(|chain| chain.first());
                first.map_or(Caller::Unknown, |certificate| Caller::Certificate(certificate.to_vec()))
            }
            Callers::ByNet => {
                let named = request.extensions().get::<CallerId>();
                named.map_or(Caller::Unknown, |CallerId(id)| Caller::Replica(*id))
            }
        }
    }

    /// Checks that a message is for this replica, from a replica of this cluster, that the connection belongs to
    /// the replica it claims to come from, and that both have the data directories that the log knows.
    pub(crate) fn check(&self, header: Option<&pb::Header>, caller: &Caller) -> Result<ReplicaId, Status> {
        let header = header.ok_or_else(|| Status::invalid_argument("the message has no header"))?;
        let short = |id: &[u8]| hex::encode(id.get(..8).unwrap_or(id));
        if header.cluster_id.as_ref() != self.cluster_id {
            if differ_in_name_only(&header.cluster_id, &self.cluster_id) {
                return Err(Status::permission_denied(format!(
                    "this is replica {} of cluster {}; the caller is of a cluster with the same seed but another name \
                     (cluster.name) or network (cluster.network)",
                    self.id,
                    short(&self.cluster_id),
                )));
            }
            return Err(Status::permission_denied(format!(
                "this is replica {} of cluster {}; the caller is of cluster {}, which has another seed \
                 (cluster.seed_file)",
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
        self.check_caller(caller, header.source)?;
        self.check_link(header.source)?;
        self.stores.check(header)?;
        Ok(header.source)
    }

    /// Waits while transfers to a peer are held open.
    pub(super) async fn transfers_go_on(&self, to: ReplicaId) {
        self.links.transfers_go_on(to).await;
    }

    fn check_caller(&self, caller: &Caller, source: ReplicaId) -> Result<(), Status> {
        match (&self.callers, caller) {
            (Callers::ByCertificate(tls), Caller::Certificate(certificate)) => {
                tls.check_name(certificate, source).map_err(|reason| {
                    Status::permission_denied(format!("certificate of replica {source}: {reason}"))
                })
            }
            (Callers::ByNet, Caller::Replica(caller)) if *caller == source => Ok(()),
            (Callers::ByNet, Caller::Replica(caller)) => {
                Err(Status::permission_denied(format!("replica {caller} calls as replica {source}")))
            }
            _ => Err(Status::unauthenticated("no client certificate")),
        }
    }

    /// Whether messages from a peer pass at the moment.
    pub(crate) fn check_link(&self, source: ReplicaId) -> Result<(), Status> {
        if self.links.pass(source, self.id) { Ok(()) } else { Err(Status::unavailable("link blocked")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::StateCell;
    use crate::network::tls::test_files;
    use crate::replica::latch::Latch;
    use crate::types::StoreId;
    use tonic::Code;

    const CLUSTER: [u8; 32] = [7; 32];

    fn stores(id: ReplicaId) -> Stores {
        Stores::new(id, StoreId([1; 16]), Arc::new(StateCell::default()), Latch::new()).unwrap()
    }

    /// What replica 1 says to a message that claims to come from replica 2, over a network that names this caller.
    fn verdict(callers: Callers, named: Option<CallerId>) -> Result<ReplicaId, Code> {
        let guard = Guard::new(1, CLUSTER, callers, Links::default(), stores(1));
        let mut request = Request::new(());
        if let Some(named) = named {
            request.extensions_mut().insert(named);
        }
        let header = stores(2).header(&CLUSTER, 1);
        guard.check(Some(&header), &guard.caller(&request)).map_err(|status| status.code())
    }

    #[test]
    fn a_network_that_names_callers_is_believed_and_nothing_else_on_it() {
        assert_eq!(verdict(Callers::ByNet, Some(CallerId(2))), Ok(2));
        assert_eq!(verdict(Callers::ByNet, Some(CallerId(3))), Err(Code::PermissionDenied));
        assert_eq!(verdict(Callers::ByNet, None), Err(Code::Unauthenticated));
    }

    #[test]
    fn where_certificates_count_a_name_without_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Arc::new(TlsMaterial::load(&test_files::write(dir.path()), 1).unwrap());
        assert_eq!(verdict(Callers::ByCertificate(tls), Some(CallerId(2))), Err(Code::Unauthenticated));
    }
}

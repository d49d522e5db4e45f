use super::channel::{ChannelSettings, SimChannel};
use super::port::{Admit, Port};
use crate::sim::host::HostId;
use mux_raft::network::{CallerId, Lane, Net, PeerChannel};
use mux_raft::types::ReplicaId;
use std::sync::Arc;
use tonic::Status;

/// How a replica on a host reaches the others.
#[derive(Clone, Debug)]
pub struct RaftNet {
    port: Port,
}

impl RaftNet {
    /// From this host.
    #[must_use]
    pub fn new(port: Port) -> Self {
        Self { port }
    }

    /// Tells a replica who calls it, in place of a certificate: the replica that runs on the host.
    #[must_use]
    pub fn admit(replica_on: impl Fn(HostId) -> Option<ReplicaId> + Send + Sync + 'static) -> Admit {
        Arc::new(move |host, extensions| {
            if let Some(replica) = replica_on(host) {
                extensions.insert(CallerId(replica));
            }
        })
    }
}

impl Net for RaftNet {
    /// The lanes are different connections because each is asked for once.
    fn channel(&self, _target: ReplicaId, address: &str, _lane: Lane) -> Result<PeerChannel, Status> {
        Ok(PeerChannel::new(SimChannel::new(self.port.clone(), address, ChannelSettings::REPLICAS)))
    }
}

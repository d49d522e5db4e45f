use super::links::Links;
use super::net::{Lane, Net, PeerChannel};
use super::peer_client::PeerClient;
use super::stores::Stores;
use crate::blocking::Blocking;
use crate::replica::raft::TypeConfig;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use openraft::{BasicNode, RaftNetworkFactory};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Status;

/// Connections to the other replicas, opened on first use and kept. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

/// A connection, and what it was made with.
#[derive(Debug)]
struct Made {
    address: String,
    /// Of the network.
    generation: u64,
    channel: PeerChannel,
}

#[derive(Debug)]
struct Inner {
    id: ReplicaId,
    cluster_id: [u8; 32],
    net: Arc<dyn Net>,
    blocking: Blocking,
    links: Links,
    stores: Stores,
    channels: Mutex<BTreeMap<(ReplicaId, Lane), Made>>,
    /// Why a peer was not reached last time.
    troubles: Mutex<BTreeMap<ReplicaId, String>>,
    /// Where this replica is reached, by the log; empty as long as that is not known.
    address: Mutex<String>,
}

impl Peers {
    pub(crate) fn new(
        id: ReplicaId,
        cluster_id: [u8; 32],
        net: Arc<dyn Net>,
        blocking: Blocking,
        (links, stores): (Links, Stores),
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                cluster_id,
                net,
                blocking,
                links,
                stores,
                channels: Mutex::default(),
                troubles: Mutex::default(),
                address: Mutex::default(),
            }),
        }
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.inner.id
    }

    /// The log says where this replica is reached.
    pub(crate) fn set_address(&self, address: &str) {
        let mut known = self.inner.address.lock();
        if *known != address {
            address.clone_into(&mut known);
        }
    }

    /// Where what blocks is done.
    pub(crate) fn blocking(&self) -> &Blocking {
        &self.inner.blocking
    }

    /// Says who sends to whom.
    pub(crate) fn header(&self, target: ReplicaId) -> pb::Header {
        let source_address = self.inner.address.lock().clone();
        pb::Header { source_address, ..self.inner.stores.header(&self.inner.cluster_id, target) }
    }

    /// Which data directory is which replica's.
    pub(crate) fn stores(&self) -> &Stores {
        &self.inner.stores
    }

    /// Whether messages to a peer pass at the moment.
    pub(crate) fn check_link(&self, target: ReplicaId) -> Result<(), Status> {
        if self.inner.links.pass(self.inner.id, target) {
            Ok(())
        } else {
            Err(Status::unavailable("link blocked"))
        }
    }

    /// The connection to a peer at this address; it is opened, and opened again, as needed.
    pub(crate) fn channel(
        &self,
        target: ReplicaId,
        address: &str,
        lane: Lane,
    ) -> Result<PeerChannel, Status> {
        let generation = self.inner.net.generation();
        let mut channels = self.inner.channels.lock();
        if let Some(made) = channels.get(&(target, lane))
            && made.address == address
            && made.generation == generation
        {
            return Ok(made.channel.clone());
        }
        let channel = self.inner.net.channel(target, address, lane)?;
        let made = Made { address: address.to_owned(), generation, channel: channel.clone() };
        channels.insert((target, lane), made);
        Ok(channel)
    }

    /// Tells the operator when a peer cannot be reached, and when the reason changes; never at each of the many
    /// attempts.
    pub(super) fn not_reached(&self, target: ReplicaId, address: &str, status: &Status) {
        let reason = trouble(status);
        let kind = kind_of(&reason);
        let before = self.inner.troubles.lock().insert(target, kind.clone());
        if before != Some(kind) {
            tracing::warn!(
                replica = target,
                address,
                reason,
                "a replica is not reached: trying again for ever"
            );
        }
    }

    /// The peer has answered.
    pub(super) fn reached(&self, target: ReplicaId) {
        if self.inner.troubles.lock().remove(&target).is_some() {
            tracing::info!(replica = target, "a replica is reached again");
        }
    }
}

/// A reason without what changes from second to second: a certificate that has ended is said to have ended so many seconds ago.
fn kind_of(reason: &str) -> String {
    reason.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// The causes, of which the last says what matters, and what to do where that is known.
fn trouble(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    // rustls: "certificate expired" of the peer's, "CertificateExpired" where the peer says so of ours.
    if text.contains("CertificateExpired") {
        text.push_str(" (this replica's certificate, raft.tls_cert, has ended: issue a new one)");
    } else if text.contains("expired") {
        text.push_str(" (the other replica's certificate, its raft.tls_cert, has ended: issue a new one)");
    }
    text
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerClient {
        PeerClient::new(self.clone(), target, node.addr.clone(), Lane::Main)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerClient {
        PeerClient::new(self.clone(), target, node.addr.clone(), Lane::Main).for_heartbeats()
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> PeerClient {
        PeerClient::new(self.clone(), target, node.addr.clone(), Lane::Snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::StateCell;
    use crate::network::tls::{TlsMaterial, test_files};
    use crate::network::tls_listener::tls_incoming;
    use crate::network::tls_net::TlsNet;
    use crate::replica::latch::Latch;
    use crate::types::StoreId;
    use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
    use rustls::HandshakeKind;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio_stream::StreamExt as _;

    /// Longer than anything here takes, unless it hangs.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// An HTTP/2 SETTINGS frame without any setting: whoever gets it confirms it.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// So.
    const CONFIRMED: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];

    /// Ends every connection as soon as the client has read something, and tells how it began.
    fn serve(listener: TcpListener, tls: &TlsMaterial) -> mpsc::Receiver<HandshakeKind> {
        let (to, kinds) = mpsc::channel(1);
        let mut incoming = tls_incoming(listener, tls.server(), PATIENCE);
        tokio::spawn(async move {
            while let Some(Ok(mut stream)) = incoming.next().await {
                let kind = stream.get_ref().1.handshake_kind().unwrap();
                // When the client confirms the settings, it has read the session too, which came before them.
                if stream.write_all(&SETTINGS).await.is_ok() && stream.flush().await.is_ok() {
                    let mut said = Vec::new();
                    while !said.windows(CONFIRMED.len()).any(|part| part == CONFIRMED)
                        && stream.read_buf(&mut said).await.is_ok_and(|read| read > 0)
                    {}
                }
                drop(stream);
                if to.send(kind).await.is_err() {
                    return;
                }
            }
        });
        kinds
    }

    #[test]
    fn a_certificate_that_ended_a_second_longer_ago_is_no_other_reason() {
        let ended = |at: u32, ago: u32| {
            kind_of(&format!("certificate expired: verification time {at} (UNIX), but ({ago} seconds ago)"))
        };
        assert_eq!(ended(1_700_000_000, 9), ended(1_700_000_001, 10));
        assert_ne!(ended(1, 1), kind_of("connection refused"));
    }

    #[tokio::test]
    async fn a_connection_to_a_peer_resumes_the_session_of_the_one_before_until_certificates_change() {
        let dir = tempfile::tempdir().unwrap();
        let tls = Arc::new(TlsMaterial::load(&test_files::write(dir.path()), 1).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut kinds = serve(listener, &tls);
        let stores = Stores::new(1, StoreId([1; 16]), Arc::new(StateCell::default()), Latch::new()).unwrap();
        let net = Arc::new(TlsNet::new(Arc::clone(&tls)));
        let peers = Peers::new(1, [0; 32], net, Blocking::on_threads(), (Links::default(), stores));
        let next = async |kinds: &mut mpsc::Receiver<HandshakeKind>| {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let channel = peers.channel(1, &address, Lane::Main).unwrap();
                let call = tokio::spawn(async move {
                    // It fails: the connection ends.
                    let _ = RaftTransportClient::new(channel).append(pb::AppendRequest::default()).await;
                });
                let kind = tokio::time::timeout(Duration::from_secs(1), kinds.recv()).await;
                call.abort();
                match kind {
                    Ok(kind) => return kind.unwrap(),
                    Err(_) => assert!(tokio::time::Instant::now() < deadline, "no connection"),
                }
            }
        };
        assert_eq!(next(&mut kinds).await, HandshakeKind::Full);
        assert_eq!(next(&mut kinds).await, HandshakeKind::Resumed);
        assert_eq!(next(&mut kinds).await, HandshakeKind::Resumed);
        test_files::write(dir.path());
        assert!(tls.reload().unwrap());
        assert_eq!(next(&mut kinds).await, HandshakeKind::Full, "with the new certificates");
        assert_eq!(next(&mut kinds).await, HandshakeKind::Resumed);
    }
}

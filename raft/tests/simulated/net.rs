//! The shortest network: a call waits for a moment, then goes straight into the other replica's services.

use futures::future::BoxFuture;
use mux_raft::network::{CallerId, ChannelError, Lane, Net, PeerChannel};
use mux_raft::types::ReplicaId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{ConnectError, Status};
use tower::Service;

/// One way.
const LATENCY: Duration = Duration::from_millis(1);

/// Who listens at which address. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wires {
    listening: Arc<Mutex<BTreeMap<String, Routes>>>,
    calls: Arc<AtomicU64>,
    standings_take: Arc<Mutex<BTreeMap<String, Duration>>>,
}

impl Wires {
    pub(crate) fn listen(&self, address: &str, routes: Routes) {
        self.listening.lock().insert(address.to_owned(), routes);
    }

    pub(crate) fn hang_up(&self, address: &str) {
        self.listening.lock().remove(address);
    }

    /// Calls so far; a stream is one.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// From now on the replica at this address is heard after this time when it is asked how it stands.
    pub(crate) fn slow_standings(&self, address: &str, take: Duration) {
        self.standings_take.lock().insert(address.to_owned(), take);
    }

    pub(crate) fn net_of(&self, me: ReplicaId) -> Arc<dyn Net> {
        Arc::new(DirectNet { me, wires: self.clone() })
    }
}

#[derive(Debug)]
struct DirectNet {
    me: ReplicaId,
    wires: Wires,
}

impl Net for DirectNet {
    fn channel(&self, _target: ReplicaId, address: &str, _lane: Lane) -> Result<PeerChannel, Status> {
        let wire = Wire { me: self.me, address: address.to_owned(), wires: self.wires.clone() };
        Ok(PeerChannel::new(wire))
    }
}

#[derive(Clone)]
struct Wire {
    me: ReplicaId,
    address: String,
    wires: Wires,
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = ChannelError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        request.extensions_mut().insert(CallerId(self.me));
        let this = self.clone();
        Box::pin(async move {
            this.wires.calls.fetch_add(1, Ordering::Relaxed);
            let asks = request.uri().path().ends_with("/Standing");
            let slow = this.wires.standings_take.lock().get(&this.address).copied().filter(|_| asks);
            tokio::time::sleep(LATENCY + slow.unwrap_or_default()).await;
            let routes = this.wires.listening.lock().get(&this.address).cloned();
            let refused = || ChannelError::new(ConnectError("nobody listens".into()));
            let response = routes.ok_or_else(refused)?.call(request).await.map_err(ChannelError::new)?;
            tokio::time::sleep(LATENCY).await;
            Ok(response)
        })
    }
}

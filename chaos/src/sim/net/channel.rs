use super::conditions::KeepAlive;
use super::packet::ConnectionId;
use super::port::{Broken, Port};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use mux_raft::network::ChannelError;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::ConnectError;
use tonic::body::Body;
use tower::Service;

/// What a client wants of its connection.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSettings {
    /// How long making one may take.
    pub connect_timeout: Duration,
    /// When the client gives it up.
    pub client: KeepAlive,
    /// When the server does.
    pub server: KeepAlive,
}

impl ChannelSettings {
    /// As between replicas (raft/src/network/tls_net.rs, raft/src/replica/startup.rs).
    pub const REPLICAS: Self = Self {
        connect_timeout: Duration::from_secs(1),
        client: KeepAlive { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) },
        server: KeepAlive { interval: Duration::from_secs(2), timeout: Duration::from_secs(4) },
    };
}

/// A client's connection to an address, for tonic's generated clients: made on first use and again when it is
/// gone. Clones share it.
#[derive(Clone)]
pub struct SimChannel {
    shared: Arc<Channel>,
}

struct Channel {
    port: Port,
    address: Arc<str>,
    settings: ChannelSettings,
    state: Mutex<Connecting>,
}

type Attempt = Shared<BoxFuture<'static, Result<ConnectionId, &'static str>>>;

enum Connecting {
    Idle,
    UnderWay(Attempt),
    Made(ConnectionId),
}

impl fmt::Debug for SimChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimChannel").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl SimChannel {
    /// From a host to an address.
    #[must_use]
    pub fn new(port: Port, address: &str, settings: ChannelSettings) -> Self {
        let state = Mutex::new(Connecting::Idle);
        Self { shared: Arc::new(Channel { port, address: address.into(), settings, state }) }
    }

    /// The connection, which is made if there is none.
    async fn connection(&self) -> Result<ConnectionId, &'static str> {
        let attempt = {
            let mut state = self.shared.state.lock();
            match &*state {
                Connecting::Made(id) if self.shared.port.is_connected(*id) => return Ok(*id),
                Connecting::UnderWay(attempt) if attempt.peek().is_none() => attempt.clone(),
                _ => {
                    let attempt = connect(Arc::clone(&self.shared)).boxed().shared();
                    *state = Connecting::UnderWay(attempt.clone());
                    attempt
                }
            }
        };
        let made = attempt.await;
        let mut state = self.shared.state.lock();
        if let (Ok(id), Connecting::UnderWay(_)) = (&made, &*state) {
            *state = Connecting::Made(*id);
        }
        made
    }
}

async fn connect(channel: Arc<Channel>) -> Result<ConnectionId, &'static str> {
    let settings = channel.settings;
    let (id, accepted) = channel.port.connect(&channel.address, [settings.client, settings.server]);
    match tokio::time::timeout(settings.connect_timeout, accepted).await {
        Ok(Ok(true)) => Ok(id),
        Ok(_) => Err("connection refused"),
        Err(_) => {
            channel.port.abandon(id);
            Err("connecting timed out")
        }
    }
}

impl Service<http::Request<Body>> for SimChannel {
    type Response = http::Response<Body>;
    type Error = ChannelError;
    type Future = BoxFuture<'static, Result<Self::Response, ChannelError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let unreachable = |reason: &str| {
                ChannelError::new(ConnectError(format!("{}: {reason}", this.shared.address).into()))
            };
            let connection = this.connection().await.map_err(unreachable)?;
            let called = this.shared.port.call(connection, request).await;
            called.map_err(|status| ChannelError::new(Broken(status)))
        })
    }
}

use super::net::{ChannelError, Lane, Net, PeerChannel};
use super::tls::TlsMaterial;
use crate::types::ReplicaId;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::transport::Endpoint;
use tower::ServiceExt as _;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that vanished without a word is noticed after the sum of these.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// What one stream may send ahead of the receiver.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// TCP with mutual TLS.
#[derive(Debug)]
pub(crate) struct TlsNet {
    tls: Arc<TlsMaterial>,
}

impl TlsNet {
    pub(crate) fn new(tls: Arc<TlsMaterial>) -> Self {
        Self { tls }
    }
}

impl Net for TlsNet {
    /// The lanes are different connections because each is asked for once.
    fn channel(&self, target: ReplicaId, address: &str, _lane: Lane) -> Result<PeerChannel, Status> {
        let wrong = |error: tonic::transport::Error| {
            Status::unavailable(format!("replica {target} at {address:?}: {error}"))
        };
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .map_err(wrong)?
            .tls_config(self.tls.client(target))
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(PeerChannel::new(endpoint.connect_lazy().map_err(ChannelError::new)))
    }

    fn generation(&self) -> u64 {
        self.tls.generation()
    }
}

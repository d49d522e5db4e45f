use super::config::EndpointConfig;
use super::endpoint_tls::EndpointTls;
use super::error::{LndError, Refusal};
use super::net::{LndListener, LndNet};
use http::Uri;
use hyper_util::rt::TokioIo;
use mux_raft::network::{ChannelError, PeerChannel};
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

/// How long TCP and TLS may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// LND refuses pings more often than every 5 s, and any on a connection without an active call.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long LND may take to answer a ping.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A full window blocks all forwarding in LND; this holds some ten thousand offers.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// For all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// TCP, TLS that trusts exactly the certificate of an endpoint, HTTP/2.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TlsNet;

#[async_trait::async_trait]
impl LndNet for TlsNet {
    fn listener(&self, endpoint: &EndpointConfig) -> Arc<dyn LndListener> {
        Arc::new(TlsListener(Arc::new(EndpointTls::new(endpoint.clone()))))
    }

    async fn macaroon(&self, file: &Path) -> io::Result<Vec<u8>> {
        tokio::fs::read(file).await
    }
}

/// Keeps the TLS sessions.
struct TlsListener(Arc<EndpointTls>);

#[async_trait::async_trait]
impl LndListener for TlsListener {
    async fn connect(&self) -> Result<PeerChannel, LndError> {
        Ok(PeerChannel::new(open(&self.0).await?.map_err(ChannelError::new)))
    }
}

async fn open(endpoint: &Arc<EndpointTls>) -> Result<Channel, LndError> {
    // Read once here for a clear refusal; the connector reads it again at every reconnect.
    endpoint.config().await.map_err(|error| Refusal::CertificateFile {
        path: endpoint.certificate().to_string().into(),
        reason: error.to_string(),
    })?;
    let unreachable =
        |reason: String| LndError::Unreachable { endpoint: endpoint.address().to_owned(), reason };
    // The connector does TLS itself: for an https address tonic would insist on doing it.
    let address = Endpoint::from_shared(format!("http://{}", endpoint.address()))
        .map_err(|error| unreachable(error.to_string()))?;
    let origin = format!("https://{}", endpoint.address())
        .parse::<Uri>()
        .map_err(|error| unreachable(error.to_string()))?;
    let address = address
        .origin(origin)
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_DEADLINE)
        .keep_alive_while_idle(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let pinned = Arc::clone(endpoint);
    let connector = tower::service_fn(move |_: Uri| {
        let endpoint = Arc::clone(&pinned);
        async move {
            let stream = tokio::time::timeout(CONNECT_DEADLINE, endpoint.handshake());
            stream.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        }
    });
    address.connect_with_connector(connector).await.map_err(|error| {
        if is_pin_mismatch(&error) {
            let path = endpoint.certificate().to_string().into();
            return Refusal::Certificate { endpoint: endpoint.address().to_owned(), path }.into();
        }
        unreachable(root_cause(&error))
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

fn is_pin_mismatch(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(tls.or_else(|| cause.downcast_ref()), Some(rustls::Error::InvalidCertificate(_)))
    })
}

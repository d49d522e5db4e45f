use super::client::LndClient;
use super::config::FrontNodeConfig;
use super::endpoint_tls::EndpointTls;
use super::error::{LndError, Refusal};
use futures::future::join_all;
use http::Uri;
use hyper_util::rt::TokioIo;
use mux_proto::lnrpc::state_client::StateClient;
use mux_proto::lnrpc::{GetInfoResponse, GetStateRequest, WalletState};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How long TCP and TLS may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long `GetState` may take.
const STATE_DEADLINE: Duration = Duration::from_secs(3);

/// LND refuses pings more often than every 5 s, and any on a connection without an active call.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long LND may take to answer a ping.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A full window blocks all forwarding in LND; this holds some ten thousand offers.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// For all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Connects to one front node, again and again: later connections resume the TLS sessions of earlier ones.
pub struct Dialer {
    config: FrontNodeConfig,
    network: String,
    endpoints: Vec<Arc<EndpointTls>>,
}

impl Dialer {
    /// `network`: LND's name of the chain that the node must be on.
    #[must_use]
    pub fn new(config: FrontNodeConfig, network: &str) -> Self {
        let endpoints = config.endpoints.iter().map(|endpoint| Arc::new(EndpointTls::new(endpoint.clone())));
        Self { endpoints: endpoints.collect(), network: network.to_owned(), config }
    }

    /// Connects to the endpoint that is active and lets the node through the gate.
    ///
    /// # Errors
    /// If no endpoint can be used: a [`Refusal`] if any gave one (it needs an operator), else the last reason.
    pub async fn connect(&self) -> Result<(LndClient, GetInfoResponse), LndError> {
        let attempts = self.endpoints.iter().map(|endpoint| self.attach(endpoint));
        let mut worst = None;
        for outcome in join_all(attempts).await {
            match outcome {
                Ok(connected) => return Ok(connected),
                Err(error @ LndError::Refused(_)) => worst = Some(error),
                Err(error) => worst = worst.or(Some(error)),
            }
        }
        Err(worst.unwrap_or_else(|| LndError::Unreachable {
            endpoint: self.config.alias.clone(),
            reason: "no endpoint is configured".into(),
        }))
    }

    /// One endpoint: connect, see that it is active, check who it is.
    async fn attach(&self, endpoint: &Arc<EndpointTls>) -> Result<(LndClient, GetInfoResponse), LndError> {
        let channel = open(endpoint).await?;
        let address = endpoint.address();
        require_active(channel.clone(), address).await?;
        let FrontNodeConfig { macaroon, node, .. } = &self.config;
        let client = LndClient::new(channel, address, macaroon, *node, &self.network).await?;
        let info = client.checked_info().await?;
        Ok((client, info))
    }
}

async fn require_active(channel: Channel, address: &str) -> Result<(), LndError> {
    const CALL: &str = "GetState";
    let mut client = StateClient::new(channel);
    let call = tokio::time::timeout(STATE_DEADLINE, client.get_state(GetStateRequest {}));
    let answer = call.await.map_err(|_| LndError::Deadline {
        call: CALL,
        deadline_ms: u64::try_from(STATE_DEADLINE.as_millis()).unwrap_or(u64::MAX),
    })?;
    let state = answer.map_err(|status| LndError::from_status(CALL, address, &status))?.into_inner().state();
    match state {
        WalletState::RpcActive | WalletState::ServerActive => Ok(()),
        WalletState::NonExisting
        | WalletState::Locked
        | WalletState::Unlocked
        | WalletState::WaitingToStart => {
            Err(LndError::NotActive { endpoint: address.to_owned(), state: state.as_str_name() })
        }
    }
}

/// TCP, TLS with the pinned certificate, HTTP/2.
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

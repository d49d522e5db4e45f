//! Connecting to a replica, whichever answers.

use super::args::Target;
use super::failure::Failure;
use crate::api::{AdminToken, METADATA_KEY};
use crate::config::{ApiAuth, Config};
use crate::keys::{ClusterKeys, ClusterSeed};
use mux_proto::mux::v1::cluster_service_client::ClusterServiceClient;
use mux_proto::mux::v1::invoice_service_client::InvoiceServiceClient;
use std::path::Path;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// For one replica; the next is tried then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For an answer, unless `--timeout` or the command says otherwise.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connected client.
pub(super) struct Client {
    endpoints: Vec<Endpoint>,
    channel: Channel,
    macaroon: Option<MetadataValue<Ascii>>,
    timeout: Option<Duration>,
}

impl Client {
    pub(super) async fn connect(target: &Target) -> Result<Self, Failure> {
        let reach = Reach::of(target)?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&reach.cert));
        let mut endpoints = Vec::new();
        for address in &reach.rpc {
            let endpoint = Endpoint::from_shared(format!("https://{address}"))
                .and_then(|endpoint| endpoint.tls_config(tls.clone()))
                .map_err(|error| Failure::Usage(format!("--rpc {address}: {}", chain(&error))))?;
            endpoints.push(endpoint.connect_timeout(CONNECT_TIMEOUT));
        }
        let channel = first(&endpoints).await?;
        let timeout = target.timeout.map(Duration::from_secs);
        Ok(Self { endpoints, channel, macaroon: reach.macaroon, timeout })
    }

    /// Goes to the next replica that answers.
    pub(super) async fn reconnect(&mut self) -> Result<(), Failure> {
        self.endpoints.rotate_left(1);
        self.channel = first(&self.endpoints).await?;
        Ok(())
    }

    pub(super) fn invoices(&self) -> InvoiceServiceClient<Channel> {
        InvoiceServiceClient::new(self.channel.clone())
    }

    pub(super) fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    /// A call with macaroon and deadline.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        self.request_within(message, self.timeout_or(ANSWER_TIMEOUT))
    }

    /// The same with a deadline of its own.
    pub(super) fn request_within<T>(&self, message: T, timeout: Duration) -> tonic::Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(timeout);
        request
    }

    /// `--timeout`, or what the command takes otherwise.
    pub(super) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// More than one replica is named, and any of them may have answered.
    pub(super) fn has_choice(&self) -> bool {
        self.endpoints.len() > 1
    }

    /// A call without a deadline.
    pub(super) fn stream<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(macaroon) = &self.macaroon {
            request.metadata_mut().insert(METADATA_KEY, macaroon.clone());
        }
        request
    }
}

async fn first(endpoints: &[Endpoint]) -> Result<Channel, Failure> {
    let mut errors = Vec::new();
    for endpoint in endpoints {
        match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => errors.push(format!(
                "{}: {}",
                endpoint.uri().authority().map_or("", |a| a.as_str()),
                explained(&error)
            )),
        }
    }
    Err(Failure::Unavailable(format!("no replica answers ({})", errors.join("; "))))
}

/// Where, whom to trust, and what to show.
struct Reach {
    rpc: Vec<String>,
    cert: Vec<u8>,
    macaroon: Option<MetadataValue<Ascii>>,
}

impl Reach {
    /// Flags and environment win over the configuration.
    fn of(target: &Target) -> Result<Self, Failure> {
        let config = match &target.config {
            Some(path) => Some(Config::parse(path, &[]).map_err(|error| Failure::Usage(error.to_string()))?),
            None => None,
        };
        let rpc = if target.rpc.is_empty() {
            config.as_ref().map(|config| vec![local_address(config)]).ok_or_else(|| missing("--rpc"))?
        } else {
            target.rpc.clone()
        };
        let cert = target.tls_cert.as_ref().or_else(|| config.as_ref().map(|config| &config.api.tls_cert));
        let cert = read("--tls-cert", cert.ok_or_else(|| missing("--tls-cert"))?)?;
        let macaroon = match (&target.macaroon, &config) {
            (Some(path), _) => Some(metadata(&read("--macaroon", path)?)?),
            (None, Some(config)) => derived(config)?,
            // A cluster with api.auth = "none" needs none; any other one will say so.
            (None, None) => None,
        };
        Ok(Self { rpc, cert, macaroon })
    }
}

fn local_address(config: &Config) -> String {
    let listen = config.api.listen;
    if listen.ip().is_unspecified() { format!("127.0.0.1:{}", listen.port()) } else { listen.to_string() }
}

fn derived(config: &Config) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    if config.api.auth == ApiAuth::None {
        return Ok(None);
    }
    let seed = ClusterSeed::load(&config.cluster.seed_file)
        .map_err(|error| Failure::Usage(format!("{error}; or give --macaroon")))?;
    let token = AdminToken::derive(&ClusterKeys::derive(&seed));
    metadata(&token.to_file_bytes()).map(Some)
}

/// Secret: it does not print.
fn metadata(macaroon: &[u8]) -> Result<MetadataValue<Ascii>, Failure> {
    let mut value: MetadataValue<Ascii> = hex::encode(macaroon)
        .parse()
        .map_err(|_| Failure::Usage("--macaroon: this file cannot be sent".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("{flag} {}: {error}", path.display())))
}

fn missing(flag: &str) -> Failure {
    Failure::Usage(format!(
        "{flag} is missing: give --rpc and --tls-cert (and --macaroon), or --config muxd.toml"
    ))
}

/// An error with its causes, and what to do where that is known.
fn explained(error: &dyn std::error::Error) -> String {
    let mut text = chain(error);
    // rustls' words.
    if text.contains("certificate expired") {
        text.push_str(
            " (this replica's certificate, api.tls_cert, has ended: put a new one in its place, which needs no \
             restart, and give the new one as --tls-cert)",
        );
    } else if text.contains("invalid peer certificate") {
        text.push_str(
            " (it is not the certificate in --tls-cert, nor issued by it for this address: give the replica's current \
             api.tls_cert)",
        );
    }
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

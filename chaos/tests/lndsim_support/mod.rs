//! A client of the simulated LND: pins its certificate, sends its macaroon.

#![allow(dead_code, unreachable_pub, missing_docs)] // each test binary uses a part of it
#![allow(clippy::unwrap_used)] // test code, outside of test functions

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use mux_chaos::lndsim::Running;
use mux_proto::{
    lndsim::v1::{self as ctl, control_client::ControlClient},
    routerrpc::{self, ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse},
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// A deadline for everything that must happen soon.
pub const SOON: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Pinned {
    cert: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.cert {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("not the pinned certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection whose TCP half can be held by the test.
pub async fn channel_to(addr: SocketAddr, cert_pem: &str) -> Channel {
    try_channel_to(addr, cert_pem).await.unwrap()
}

pub async fn try_channel_to(addr: SocketAddr, cert_pem: &str) -> Result<Channel, tonic::transport::Error> {
    let provider = Arc::new(ring::default_provider());
    let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap();
    let verifier = Arc::new(Pinned { cert, provider: Arc::clone(&provider) });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(addr).await?;
            let name = ServerName::try_from("localhost").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await
}

/// Adds the macaroon.
#[derive(Clone)]
pub struct WithMacaroon(pub Option<String>);

impl Interceptor for WithMacaroon {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(macaroon) = &self.0 {
            request.metadata_mut().insert("macaroon", MetadataValue::try_from(macaroon).unwrap());
        }
        Ok(request)
    }
}

pub type Authed = InterceptedService<Channel, WithMacaroon>;

pub fn macaroon(running: &Running) -> String {
    hex::encode(std::fs::read(&running.ready().macaroon).unwrap())
}

/// A new connection with the admin macaroon.
pub async fn connect(running: &Running) -> Authed {
    let channel = channel_to(running.grpc_addr(), &running.tls_cert_pem()).await;
    InterceptedService::new(channel, WithMacaroon(Some(macaroon(running))))
}

pub async fn control(running: &Running) -> ControlClient<Channel> {
    ControlClient::connect(running.control_url()).await.unwrap()
}

/// An interceptor's stream, opened without waiting for response headers.
pub struct Interception {
    pub answers: mpsc::Sender<ForwardHtlcInterceptResponse>,
    pub opening: tokio::task::JoinHandle<Result<Streaming<ForwardHtlcInterceptRequest>, Status>>,
    stream: Option<Streaming<ForwardHtlcInterceptRequest>>,
}

pub fn intercept(channel: &Authed) -> Interception {
    let mut router = routerrpc::router_client::RouterClient::new(channel.clone());
    let (answers, receiver) = mpsc::channel(64);
    let opening = tokio::spawn(async move {
        router.htlc_interceptor(ReceiverStream::new(receiver)).await.map(tonic::Response::into_inner)
    });
    Interception { answers, opening, stream: None }
}

impl Interception {
    /// The next offer, or how the stream ended.
    pub async fn next(&mut self) -> Result<ForwardHtlcInterceptRequest, Status> {
        tokio::time::timeout(SOON, self.next_late()).await.expect("nothing from the stream")
    }

    /// The same without a deadline.
    pub async fn next_late(&mut self) -> Result<ForwardHtlcInterceptRequest, Status> {
        if self.stream.is_none() {
            self.stream = Some((&mut self.opening).await.unwrap()?);
        }
        let stream = self.stream.as_mut().unwrap();
        stream.message().await?.ok_or_else(|| Status::ok("end of stream"))
    }

    pub async fn settle(&self, offer: &ForwardHtlcInterceptRequest, preimage: [u8; 32]) {
        let answer = ForwardHtlcInterceptResponse {
            incoming_circuit_key: offer.incoming_circuit_key,
            preimage: preimage.to_vec().into(),
            ..ForwardHtlcInterceptResponse::default()
        };
        self.answers.send(answer).await.unwrap();
    }
}

/// Waits until the node is in such a state.
pub async fn wait(running: &Running, mut condition: impl FnMut(&ctl::GetStateResponse) -> bool) {
    let reached = running.wait_for(|core| condition(&core.state()));
    tokio::time::timeout(SOON, reached).await.expect("the node does not get there");
}

pub fn preimage(n: u8) -> [u8; 32] {
    [n; 32]
}

/// An HTLC for a virtual channel, payable with [`preimage`] of `n`.
pub fn htlc(n: u8, height: u32) -> ctl::AddHtlcRequest {
    ctl::AddHtlcRequest {
        chan_id: 0,
        payment_hash: Sha256::digest(preimage(n)).to_vec().into(),
        incoming_amount_msat: 1_001_000,
        outgoing_amount_msat: 1_000_000,
        incoming_expiry: height + 160,
        outgoing_expiry: height + 80,
        outgoing_requested_chan_id: 0x00a0_0000_0000_0000,
        onion_blob: vec![0; 1366].into(),
        ..ctl::AddHtlcRequest::default()
    }
}

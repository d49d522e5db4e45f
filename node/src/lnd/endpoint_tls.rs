use super::config::{CertificateSource, EndpointConfig};
use super::tls::{PinnedCertificates, TlsError};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// TLS to one listener of LND. A connection resumes the session of the one before it, which saves LND a signature and
/// both a round of certificates, as long as the pinned certificate is the same.
pub(super) struct EndpointTls {
    endpoint: EndpointConfig,
    /// What was read last, and what was made of it. A session is only ever resumed under the pins that it was begun
    /// under: its handshake shows no certificate.
    current: Mutex<Option<(Vec<u8>, Arc<ClientConfig>)>>,
}

impl EndpointTls {
    pub(super) fn new(endpoint: EndpointConfig) -> Self {
        Self { endpoint, current: Mutex::default() }
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.endpoint.address
    }

    pub(super) fn certificate(&self) -> &CertificateSource {
        &self.endpoint.tls_cert
    }

    /// Reads the certificate. If it is what it was before, so is the configuration, with the sessions in it.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let pem = match &self.endpoint.tls_cert {
            // Not in this thread: the file's mount may hang.
            CertificateSource::File(path) => tokio::fs::read(path).await?,
            CertificateSource::Log(pem) => pem.clone().into_bytes(),
        };
        let mut current = self.current.lock();
        if let Some((_, config)) = current.as_ref().filter(|(known, _)| *known == pem) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(PinnedCertificates::from_pem(&pem)?.client_config()?);
        *current = Some((pem, Arc::clone(&config)));
        Ok(config)
    }

    /// Connects: looks the name up, TCP, TLS.
    pub(super) async fn handshake(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config().await.map_err(io::Error::other)?;
        let address = self.address();
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, tcp).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::HandshakeKind;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A listener with a new certificate: where it is, and the certificate.
    async fn listener() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key);
        let cert = cert.unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                tls.write_all(b"x").await.unwrap();
            }
        });
        (address, cert.pem())
    }

    /// Connects and, as every client of a server that speaks, reads something: the session comes with it.
    async fn visit(tls: &EndpointTls) -> io::Result<HandshakeKind> {
        let mut stream = tls.handshake().await?;
        stream.read_exact(&mut [0]).await?;
        Ok(stream.get_ref().1.handshake_kind().unwrap())
    }

    #[tokio::test]
    async fn a_session_is_resumed_while_the_file_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.cert");
        let (address, cert) = listener().await;
        std::fs::write(&path, &cert).unwrap();
        let tls = EndpointTls::new(EndpointConfig { address, tls_cert: path.clone().into() });
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(visit(&tls).await.unwrap());
        }
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
        let (_, further) = listener().await;
        std::fs::write(&path, format!("{further}{cert}")).unwrap();
        assert_eq!(visit(&tls).await.unwrap(), HandshakeKind::Full, "other pins, other sessions");
        assert_eq!(visit(&tls).await.unwrap(), HandshakeKind::Resumed);
    }

    #[tokio::test]
    async fn a_session_gets_nobody_past_a_pin_that_was_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.cert");
        let (address, cert) = listener().await;
        std::fs::write(&path, &cert).unwrap();
        let tls = EndpointTls::new(EndpointConfig { address, tls_cert: path.clone().into() });
        visit(&tls).await.unwrap();
        std::fs::write(&path, listener().await.1).unwrap();
        assert!(visit(&tls).await.is_err(), "it has the key of a certificate that is not trusted any more");
    }
}

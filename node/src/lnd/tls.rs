//! TLS to LND: exactly the certificate in the file is accepted.
//!
//! LND's self-signed certificate says that it is a CA, which the usual verification refuses for a server.
//! Pinning its DER is stricter anyway. The peer still has to prove, by the handshake's signature, that it
//! has the certificate's key. Names and validity are not looked at: the pin is the trust.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;

/// Why no TLS can be set up from a certificate file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It holds no certificate.
    #[error("holds no PEM certificate")]
    NoCertificate,
    /// The TLS library refuses the setup.
    #[error("{0}")]
    Setup(#[from] rustls::Error),
}

/// Accepts the certificates of one file, and nothing else.
#[derive(Debug)]
pub struct PinnedCertificates {
    pins: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl PinnedCertificates {
    /// Pins every certificate of this PEM text.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let pins: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate)?;
        if pins.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self { pins, provider: Arc::new(ring::default_provider()) })
    }

    /// A client configuration that talks HTTP/2 to the holder of a pinned certificate.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn client_config(self) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl ServerCertVerifier for PinnedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pins.iter().any(|pin| pin == end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
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

use crate::replica::TlsPaths;
use crate::types::ReplicaId;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// This replica's certificate and key, and the CA it trusts, read once at start.
pub(crate) struct TlsMaterial {
    paths: TlsPaths,
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for TlsMaterial {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("certificate {path}: {reason}")]
    Certificate { path: PathBuf, reason: String },
}

impl TlsMaterial {
    /// Reads the files and checks that the certificate names this replica. Blocks.
    pub(crate) fn load(paths: &TlsPaths, id: ReplicaId) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read { path: path.to_path_buf(), source })
        };
        let this = Self {
            ca: read(&paths.ca)?,
            cert: read(&paths.cert)?,
            key: read(&paths.key)?,
            paths: paths.clone(),
        };
        let wrong = |reason: String| TlsError::Certificate { path: paths.cert.clone(), reason };
        let (_, pem) = x509_parser::pem::parse_x509_pem(&this.cert)
            .map_err(|error| wrong(format!("not a PEM certificate: {error}")))?;
        this.check_name(&pem.contents, id).map_err(wrong)?;
        Ok(this)
    }

    pub(crate) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
            .timeout(HANDSHAKE_TIMEOUT)
    }

    /// To talk to one replica: only a certificate with its name is taken.
    pub(crate) fn client(&self, target: ReplicaId) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .ca_certificate(Certificate::from_pem(&self.ca))
            .domain_name(self.paths.name_of(target))
            .timeout(HANDSHAKE_TIMEOUT)
    }

    /// Whether a certificate (DER, already verified against the CA) names this replica.
    pub(crate) fn check_name(&self, der: &[u8], id: ReplicaId) -> Result<(), String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("malformed: {error}"))?;
        let names = certificate.subject_alternative_name().map_err(|error| format!("malformed: {error}"))?;
        let names: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
            .collect();
        let wanted = self.paths.name_of(id);
        if names.iter().any(|name| name.eq_ignore_ascii_case(&wanted)) {
            Ok(())
        } else {
            Err(format!("it must carry the DNS name {wanted:?}, but has {names:?}"))
        }
    }
}

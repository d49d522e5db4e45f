use super::tls_listener::ServerTls;
use crate::replica::TlsPaths;
use crate::types::ReplicaId;
use parking_lot::RwLock;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a handshake may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// This replica's certificate and key, and the CA it trusts. Can be read again while it is used.
pub(crate) struct TlsMaterial {
    paths: TlsPaths,
    id: ReplicaId,
    current: RwLock<Pem>,
    /// Counts how often `current` was exchanged.
    generation: AtomicU64,
    server: ServerTls,
}

/// What the files hold.
#[derive(PartialEq, Eq)]
struct Pem {
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
        let pem = Pem::read(paths)?;
        check_own_name(paths, &pem, id)?;
        let server = ServerTls::new(&pem.cert, &pem.key, Some(&pem.ca))
            .map_err(|reason| TlsError::Certificate { path: paths.cert.clone(), reason })?;
        let (current, generation) = (RwLock::new(pem), AtomicU64::new(0));
        Ok(Self { paths: paths.clone(), id, current, generation, server })
    }

    /// Reads the files again; new connections use what they hold. False: nothing has changed. Blocks.
    ///
    /// # Errors
    /// They cannot be used; what was used before still is.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let pem = Pem::read(&self.paths)?;
        if *self.current.read() == pem {
            return Ok(false);
        }
        check_own_name(&self.paths, &pem, self.id)?;
        self.server
            .replace(&pem.cert, &pem.key, Some(&pem.ca))
            .map_err(|reason| TlsError::Certificate { path: self.paths.cert.clone(), reason })?;
        *self.current.write() = pem;
        self.generation.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// Changes whenever connections have to be made anew to use what was read last.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn server(&self) -> ServerTls {
        self.server.clone()
    }

    /// To talk to one replica: only a certificate with its name is taken.
    pub(crate) fn client(&self, target: ReplicaId) -> ClientTlsConfig {
        let pem = self.current.read();
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&pem.cert, &pem.key))
            .ca_certificate(Certificate::from_pem(&pem.ca))
            .domain_name(self.paths.name_of(target))
            .timeout(HANDSHAKE_TIMEOUT)
    }

    /// Whether a certificate (DER, already verified against the CA) names this replica.
    pub(crate) fn check_name(&self, der: &[u8], id: ReplicaId) -> Result<(), String> {
        check_name(&self.paths, der, id)
    }
}

impl Pem {
    fn read(paths: &TlsPaths) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| TlsError::Read { path: path.to_path_buf(), source })
        };
        Ok(Self { ca: read(&paths.ca)?, cert: read(&paths.cert)?, key: read(&paths.key)? })
    }
}

fn check_own_name(paths: &TlsPaths, pem: &Pem, id: ReplicaId) -> Result<(), TlsError> {
    let wrong = |reason: String| TlsError::Certificate { path: paths.cert.clone(), reason };
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem.cert)
        .map_err(|error| wrong(format!("not a PEM certificate: {error}")))?;
    check_name(paths, &pem.contents, id).map_err(wrong)
}

fn check_name(paths: &TlsPaths, der: &[u8], id: ReplicaId) -> Result<(), String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| format!("malformed: {error}"))?;
    let names = certificate.subject_alternative_name().map_err(|error| format!("malformed: {error}"))?;
    let names: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    let wanted = paths.name_of(id);
    if names.iter().any(|name| name.eq_ignore_ascii_case(&wanted)) {
        Ok(())
    } else {
        Err(format!("it must carry the DNS name {wanted:?}, but has {names:?}"))
    }
}

#[cfg(test)]
pub(super) mod test_files {
    use crate::replica::TlsPaths;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use std::path::Path;

    /// Certificates of replica 1, issued by an authority of its own.
    pub(in crate::network) fn write(dir: &Path) -> TlsPaths {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["replica-1.mux".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::new(params, ca_key)).unwrap().pem();
        for (name, content) in [("ca.pem", ca), ("raft.pem", own), ("raft.key", key.serialize_pem())] {
            std::fs::write(dir.join(name), content).unwrap();
        }
        let (ca, cert, key) = (dir.join("ca.pem"), dir.join("raft.pem"), dir.join("raft.key"));
        TlsPaths { ca, cert, key, domain: TlsPaths::DEFAULT_DOMAIN.into() }
    }
}

//! The files that a configuration names: there, readable, of the right kind, and fitting together.

use super::load::Problem;
use super::mask;
use mux_raft::replica::TlsPaths;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A certificate that ends sooner is warned of.
const ENDS_SOON_S: i64 = 30 * 86_400;

const DAY_S: i64 = 86_400;

/// Looks at files and gathers what is wrong with them.
#[derive(Default)]
pub(super) struct Files {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// PEM certificates, the end entity's first.
pub(super) type Chain = Vec<CertificateDer<'static>>;

impl Files {
    fn problem(&mut self, key: &str, wrong: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(key, wrong, remedy));
    }

    fn read(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        match std::fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let remedy = "correct the path, or make the file readable for this user";
                self.problem(key, format!("{}: {error}", mask::path(path)), remedy);
                None
            }
        }
    }

    /// A file of certificates, each of which can be read.
    pub(super) fn certificates(&mut self, key: &str, path: &Path) -> Option<Chain> {
        let bytes = self.read(key, path)?;
        let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let wrong = match chain {
            Ok(chain) if chain.is_empty() => "it holds no certificate".to_owned(),
            Ok(chain) => match chain.iter().find_map(|der| ends_at(der).err()) {
                None => return Some(chain),
                Some(why) => format!("a certificate in it cannot be read: {why}"),
            },
            Err(error) => error.to_string(),
        };
        let remedy = "put the certificate there in PEM (-----BEGIN CERTIFICATE-----)";
        self.problem(key, format!("{}: {wrong}", mask::path(path)), remedy);
        None
    }

    /// A certificate and its private key.
    pub(super) fn key_pair(&mut self, cert: (&str, &PathBuf), key: (&str, &PathBuf)) -> Option<Chain> {
        let chain = self.certificates(cert.0, cert.1);
        let secret = self.secret(key.0, key.1);
        let chain = chain?;
        self.warn_of_end(cert.0, &chain);
        let der = match PrivateKeyDer::from_pem_slice(&secret?) {
            Ok(der) => der,
            Err(error) => {
                let remedy = "put the private key there in PEM (-----BEGIN PRIVATE KEY-----)";
                self.problem(key.0, format!("{}: {error}", mask::path(key.1)), remedy);
                return None;
            }
        };
        match CertifiedKey::from_der(chain.clone(), der, &ring::default_provider()) {
            Ok(_) => Some(chain),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let wrong = format!("{} does not belong to {}", mask::path(key.1), cert.1.display());
                self.problem(key.0, wrong, format!("use the key that {} was made for", cert.0));
                None
            }
            Err(error) => {
                let remedy = "use an ECDSA (P-256, P-384), Ed25519 or RSA key";
                self.problem(key.0, format!("{}: {error}", mask::path(key.1)), remedy);
                None
            }
        }
    }

    /// A file that only its owner may read.
    fn secret(&mut self, key: &str, path: &Path) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let bytes = self.read(key, path)?.into();
        if is_open(path) {
            let remedy = format!("chmod 600 {}", path.display());
            self.problem(key, format!("{} is open to every user", path.display()), remedy);
        }
        Some(bytes)
    }

    /// A macaroon: LND says whether it is one.
    pub(super) fn macaroon(&mut self, key: &str, path: &Path) {
        let Some(bytes) = self.read(key, path) else { return };
        if bytes.is_empty() {
            let remedy = "bake one, see README: `lncli bakemacaroon --save_to`";
            self.problem(key, format!("{} is empty", path.display()), remedy);
        }
        if is_open(path) {
            let remedy = format!("chmod 600 {}", path.display());
            let wrong = format!("{} is open to every user", path.display());
            self.warnings.push(Problem::new(key, wrong, remedy));
        }
    }

    /// Warns if a certificate has ended, or does so soon.
    pub(super) fn warn_of_end(&mut self, key: &str, chain: &Chain) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let Some(end) = chain.iter().filter_map(|der| ends_at(der).ok()).min() else { return };
        let left = end.saturating_sub(now);
        if left < ENDS_SOON_S {
            let wrong = if left < 0 {
                "the certificate has expired".to_owned()
            } else {
                format!("the certificate expires in {} days", left / DAY_S)
            };
            let remedy = "put a new one in its place; a running replica takes it without a restart";
            self.warnings.push(Problem::new(key, wrong, remedy));
        }
    }
}

/// Seconds since the Unix epoch.
fn ends_at(der: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.timestamp())
}

fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// What the other replicas would refuse in this replica's certificate. That it has expired is warned of elsewhere.
pub(super) fn wrong_issuer(ca: &Chain, own: &Chain, id: u64) -> Option<Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate.clone()).ok()?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let name = format!("replica-{id}.{}", TlsPaths::DEFAULT_DOMAIN);
    let server = ServerName::try_from(name.clone()).ok()?;
    let (end_entity, intermediates) = own.split_first()?;
    let wrong =
        verifier.verify_server_cert(end_entity, intermediates, &server, &[], UnixTime::now()).err()?;
    match wrong {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let remedy = format!("use the certificate of this replica: it must carry the DNS name {name}");
            Some(Problem::new("raft.tls_cert", format!("it is not replica {id}'s certificate"), remedy))
        }
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            let remedy = "use the certificate and the authority of the same `muxd init`";
            Some(Problem::new("raft.tls_cert", "it was not issued by the authority in raft.tls_ca", remedy))
        }
        // Expired, or not valid yet: there is a warning, and clocks can be wrong.
        _ => None,
    }
}

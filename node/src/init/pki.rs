//! Certificates: an authority for the replicas among themselves, and one certificate for clients to trust.
//!
//! The API's certificate is self-signed and *not* an authority: it can be given to any client as the one
//! thing to trust, whether that client builds on OpenSSL, Go or rustls (which refuses an authority's
//! certificate as a server's).

use mux_raft::replica::TlsPaths;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Long: the authority only signs replicas of one cluster, and its key is kept apart.
const AUTHORITY_DAYS: u32 = 20 * 365;
/// Long enough to outlive the hardware; `mux_certificate_expiry_timestamp_seconds` warns.
const LEAF_DAYS: u32 = 5 * 365;

/// Certificate and key, PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

/// The replicas' certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: String,
}

impl Authority {
    pub(super) fn new(cluster: &str) -> Result<Self, Error> {
        let mut params = params(&format!("{cluster} replicas"), Vec::new(), AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), cert })
    }

    pub(super) fn cert_pem(&self) -> &str {
        &self.cert
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for both ends of a connection between replicas. A replica is believed by its name
    /// alone ([`TlsPaths::name_of`]); the hosts are for tools.
    pub(super) fn replica_certificate(&self, id: u64, hosts: Vec<String>) -> Result<Pair, Error> {
        let name = format!("replica-{id}");
        let mut names = vec![name.clone(), format!("{name}.{}", TlsPaths::DEFAULT_DOMAIN)];
        names.extend(hosts);
        let mut params = params(&name, names, LEAF_DAYS)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// The certificate of every replica's API.
pub(super) fn api_certificate(cluster: &str, hosts: Vec<String>) -> Result<Pair, Error> {
    let mut params = params(&format!("{cluster} API"), hosts, LEAF_DAYS)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
}

fn params(common_name: &str, mut names: Vec<String>, days: u32) -> Result<CertificateParams, Error> {
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    // A day back: the other machine's clock may be behind.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

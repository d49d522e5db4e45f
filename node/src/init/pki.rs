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
use std::net::IpAddr;
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
        let params = authority_params(cluster)?;
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), cert })
    }

    /// The one that [`Self::new`] made. It keeps the name that it was given then, whatever the cluster is called now:
    /// a restored one has another name.
    pub(super) fn load(cert: &str, key: &str) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(cert, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer, cert: cert.to_owned() })
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

/// Whether a certificate names all these hosts.
pub(super) fn covers(cert: &str, hosts: &[String]) -> bool {
    use x509_parser::extensions::GeneralName;
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert.as_bytes()) else { return false };
    let Ok(parsed) = pem.parse_x509() else { return false };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
    let names: Vec<String> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    hosts.iter().all(|host| names.contains(host))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn authority_params(cluster: &str) -> Result<CertificateParams, Error> {
    let mut params = params(&format!("{cluster} replicas"), Vec::new(), AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
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

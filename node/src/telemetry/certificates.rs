//! When certificates end: the alarm that is always forgotten.

use crate::lnd::CertificateSource;

/// A certificate to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Label: "api", "raft", "raft-ca", or "lnd-" and an alias.
    pub name: String,
    /// PEM.
    pub source: CertificateSource,
}

/// Sets `mux_certificate_expiry_timestamp_seconds` for each. Files are read again each time: certificates
/// are exchanged under a running replica.
pub fn record_expiries(certificates: &[CertificateFile]) {
    for certificate in certificates {
        match not_after(certificate) {
            Ok(seconds) => {
                // A date of this century is exact in a double.
                metrics::gauge!(
                    "mux_certificate_expiry_timestamp_seconds",
                    "certificate" => certificate.name.clone()
                )
                .set(seconds as f64);
            }
            Err(error) => {
                tracing::warn!(certificate = certificate.name, error, "a certificate cannot be read");
            }
        }
    }
}

/// Seconds since the Unix epoch.
fn not_after(certificate: &CertificateFile) -> Result<i64, String> {
    let pem = certificate.source.read().map_err(|error| error.to_string())?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|error| error.to_string())?;
    let parsed = pem.parse_x509().map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_read_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let written =
            crate::init::write_cluster(&crate::init::ClusterPlan::loopback(dir.path().join("c"), 1));
        let path = written.unwrap().api_cert;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seconds =
            not_after(&CertificateFile { name: "api".into(), source: path.clone().into() }).unwrap();
        let days = (u64::try_from(seconds).unwrap() - now) / 86_400;
        assert!((1_800..=1_830).contains(&days), "{days}");
        std::fs::write(&path, "no certificate").unwrap();
        assert!(not_after(&CertificateFile { name: "api".into(), source: path.into() }).is_err());
    }
}

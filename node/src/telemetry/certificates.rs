//! When certificates end: the alarm that is always forgotten.

use crate::lnd::CertificateSource;
use std::collections::{BTreeMap, BTreeSet};

/// A certificate to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Label: "api", "raft", "raft-ca", or "lnd-" and an alias.
    pub name: String,
    /// PEM.
    pub source: CertificateSource,
}

/// A certificate that ends sooner is told of.
const SOON_S: i64 = 30 * DAY_S;
const DAY_S: i64 = 86_400;

/// What was told already, so that a certificate is told of once a day, and when another takes its place.
#[derive(Debug, Default)]
pub struct Expiries {
    told: BTreeMap<String, Told>,
    /// On the page of metrics, from which nothing can be taken away.
    shown: BTreeSet<String>,
}

/// When, and the end that the certificate had (`None`: it could not be read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    at: i64,
    end: Option<i64>,
}

impl Expiries {
    /// Sets `mux_certificate_expiry_timestamp_seconds` for each, and warns of those that end. Files are read again
    /// each time: certificates are exchanged under a running replica. One that is not watched any more, because its front
    /// node was removed, never ends: an alert on "soon" falls silent.
    pub fn record(&mut self, certificates: &[CertificateFile], now_ms: u64) {
        let now = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
        for certificate in certificates {
            let end = not_after(certificate);
            let known = end.as_ref().ok().copied();
            let told = self.told.get(&certificate.name);
            let same = told.filter(|told| told.end == known);
            let due = same.is_none_or(|told| now.saturating_sub(told.at) >= DAY_S);
            let is_another = same.is_none();
            if record_one(certificate, end, now, due) {
                self.told.insert(certificate.name.clone(), Told { at: now, end: known });
            } else if is_another {
                self.told.remove(&certificate.name);
            }
        }
        let watched: BTreeSet<_> = certificates.iter().map(|certificate| certificate.name.clone()).collect();
        for gone in self.shown.difference(&watched) {
            show(gone, f64::INFINITY);
            self.told.remove(gone);
        }
        self.shown = watched;
    }
}

fn show(certificate: &str, end: f64) {
    metrics::gauge!("mux_certificate_expiry_timestamp_seconds", "certificate" => certificate.to_owned())
        .set(end);
}

/// What is to be said of a certificate that ends at this time.
fn warning(certificate: &CertificateFile, now: i64, end: i64) -> Option<String> {
    let left = end.saturating_sub(now);
    let CertificateFile { name, source } = certificate;
    if left >= SOON_S {
        None
    } else if left >= 0 {
        Some(format!("the certificate {name} in {source} ends in {} days: issue a new one", left / DAY_S))
    } else if name.starts_with("lnd-") {
        // The exact certificate is pinned: nobody looks at its dates here, but others do.
        Some(format!(
            "the certificate {name} in {source} has ended: LND makes a new one when its tls.cert is removed"
        ))
    } else {
        Some(format!("the certificate {name} in {source} has ended: it is refused; issue a new one"))
    }
}

/// Whether something was told.
fn record_one(certificate: &CertificateFile, end: Result<i64, String>, now: i64, due: bool) -> bool {
    match end {
        Ok(seconds) => {
            // A date of this century is exact in a double.
            show(&certificate.name, seconds as f64);
            let warning = warning(certificate, now, seconds).filter(|_| due);
            if let Some(warning) = &warning {
                tracing::warn!(certificate = certificate.name, "{warning}");
            }
            warning.is_some()
        }
        Err(error) => {
            if due {
                let path = &certificate.source;
                tracing::warn!(certificate = certificate.name, %path, error, "a certificate cannot be read");
            }
            due
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
    use std::path::PathBuf;

    #[test]
    fn a_certificate_is_told_of_a_month_ahead_and_when_it_has_ended() {
        let own = CertificateFile { name: "raft".into(), source: PathBuf::from("/etc/raft.pem").into() };
        assert_eq!(warning(&own, 0, SOON_S), None);
        let soon = warning(&own, 0, SOON_S - 1).unwrap();
        assert!(soon.contains("/etc/raft.pem ends in 29 days"), "{soon}");
        let ended = warning(&own, 10, 9).unwrap();
        assert!(
            ended.contains("raft in /etc/raft.pem has ended") && ended.contains("issue a new one"),
            "{ended}"
        );
    }

    #[test]
    fn it_is_told_once_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let gone = [CertificateFile { name: "api".into(), source: dir.path().join("none").into() }];
        let mut expiries = Expiries::default();
        let mut told = Vec::new();
        for hour in 0..49 {
            expiries.record(&gone, hour * 3_600_000);
            told.push(expiries.told["api"].at);
        }
        told.dedup();
        assert_eq!(told, [0, 86_400, 172_800]);
    }

    #[test]
    fn another_certificate_in_the_same_file_is_told_of_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.pem");
        let file = [CertificateFile { name: "api".into(), source: path.clone().into() }];
        let mut expiries = Expiries::default();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut ends = Vec::new();
        for year in [2_020, 2_021] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
            expiries.record(&file, 1_800_000_000_000 + u64::try_from(year).unwrap());
            ends.push(expiries.told["api"].end);
        }
        assert_eq!(ends, [Some(1_577_836_800), Some(1_609_459_200)]);
    }

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

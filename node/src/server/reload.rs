//! Certificates and macaroons that are exchanged while the replica runs.
//!
//! The files are read every few seconds and at SIGHUP, and compared by content: whether somebody writes them in place
//! or swaps a symlink, as Kubernetes does, makes no difference. What cannot be used changes nothing: it is reported,
//! counted, and looked at again.

use super::grpc::ApiTls;
use super::reloading::Look;
use crate::lnd::{CertificateSource, FrontNodeConfig, PinnedCertificates};
use crate::telemetry::{CertificateFile, Expiries};
use mux_raft::clock::{Clock as _, SystemClock};
use mux_raft::network::ServerTls;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it is looked when certificates end, although nothing was exchanged.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// What can be exchanged, and who uses it.
pub(super) struct Exchangeable {
    /// The API's listener, and its files.
    pub(super) api: ServerTls,
    pub(super) api_cert: PathBuf,
    pub(super) api_key: PathBuf,
    /// Reads the files for the other replicas and uses what is new. False: nothing is.
    pub(super) raft: Box<dyn FnMut() -> Result<bool, String> + Send>,
    /// Which read their files at every connect.
    pub(super) front_nodes: Box<dyn Fn() -> Vec<FrontNodeConfig> + Send>,
    /// Certificates of which it is told when they end.
    pub(super) ending: Box<dyn Fn() -> Vec<CertificateFile> + Send>,
}

/// Looks at the files and puts what is new to use. Blocks for a few small files, or for as long as a mount hangs.
pub(super) struct Reloader {
    use_of: Exchangeable,
    /// What was last seen of each set of files, sound or not.
    seen: BTreeMap<String, [u8; 32]>,
    expiries: Expiries,
    expiries_at: Option<Instant>,
    /// What was told of last.
    ending: Vec<CertificateFile>,
}

impl Look for Reloader {
    fn look(&mut self) {
        let news = self.reload();
        let ending = (self.use_of.ending)();
        // Front nodes come and go, and the certificates of some are in the log.
        let others = ending != self.ending;
        if news || others || self.expiries_at.is_none_or(|at| at.elapsed() >= EXPIRY_INTERVAL) {
            self.expiries_at = Some(Instant::now());
            self.expiries.record(&ending, SystemClock::new().wall_ms());
            self.ending = ending;
        }
    }
}

impl Reloader {
    /// Has not looked yet.
    pub(super) fn new(use_of: Exchangeable) -> Self {
        Self {
            use_of,
            seen: BTreeMap::new(),
            expiries: Expiries::default(),
            expiries_at: None,
            ending: Vec::new(),
        }
    }

    /// Whether anything was put to use.
    fn reload(&mut self) -> bool {
        // Not short-circuiting: everything is looked at.
        self.reload_api() | self.reload_raft() | self.reload_lnd()
    }

    fn reload_api(&mut self) -> bool {
        let tls = ApiTls::read(&self.use_of.api_cert, &self.use_of.api_key);
        let first = !self.seen.contains_key("api");
        if !self.is_news("api", &digest_of(&tls)) {
            return false;
        }
        match tls.and_then(|tls| self.use_of.api.replace(&tls.cert, &tls.key, None)) {
            // Most likely what was read at the start: nothing to tell.
            Ok(()) if first => true,
            outcome => told("api", outcome),
        }
    }

    fn reload_raft(&mut self) -> bool {
        match (self.use_of.raft)() {
            Ok(false) => {
                self.seen.remove("raft");
                false
            }
            Ok(true) => told("raft", Ok(())),
            // Told once, not every few seconds.
            Err(why) => self.is_news("raft", &sha256(&[why.as_bytes()])) && told("raft", Err(why)),
        }
    }

    /// Links read their files at every connect; here they are only looked at, so that a mistake shows before it is
    /// needed.
    fn reload_lnd(&mut self) -> bool {
        let mut any = false;
        for front in (self.use_of.front_nodes)() {
            for (at, endpoint) in front.endpoints.iter().enumerate() {
                let CertificateSource::File(path) = &endpoint.tls_cert else { continue };
                let sound = |pem: &[u8]| match PinnedCertificates::from_pem(pem) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{}: {error}", path.display())),
                };
                any |= self.examine(&format!("lnd-{}-{at}", front.alias), path, &sound);
            }
            let path = &front.macaroon;
            let sound = |bytes: &[u8]| match bytes.is_empty() {
                false => Ok(()),
                true => Err(format!("{} is empty", path.display())),
            };
            any |= self.examine(&format!("macaroon-{}", front.alias), path, &sound);
        }
        any
    }

    fn examine(&mut self, what: &str, path: &Path, sound: &dyn Fn(&[u8]) -> Result<(), String>) -> bool {
        let read = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let read = read.and_then(|bytes| sound(&bytes).map(|()| bytes));
        let digest = match &read {
            Ok(bytes) => sha256(&[b"sound", bytes]),
            Err(why) => sha256(&[why.as_bytes()]),
        };
        let first = !self.seen.contains_key(what);
        // The first look has nothing to compare with; the link itself says what is wrong then.
        self.is_news(what, &digest) && !first && told(what, read.map(drop))
    }

    fn is_news(&mut self, what: &str, digest: &[u8; 32]) -> bool {
        self.seen.insert(what.to_owned(), *digest).as_ref() != Some(digest)
    }
}

fn told(what: &str, outcome: Result<(), String>) -> bool {
    match outcome {
        Ok(()) => {
            tracing::info!(what, "reloaded: new connections use it");
            metrics::counter!("mux_reloads_total").increment(1);
            true
        }
        Err(why) => {
            tracing::error!(what, why, "cannot be reloaded: what was in use stays in use; correct the file");
            metrics::counter!("mux_reload_failures_total").increment(1);
            false
        }
    }
}

fn digest_of(tls: &Result<ApiTls, String>) -> [u8; 32] {
    match tls {
        Ok(tls) => sha256(&[&tls.cert, &tls.key]),
        Err(why) => sha256(&[why.as_bytes()]),
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests;

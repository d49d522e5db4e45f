//! Certificates and macaroons that are exchanged while the replica runs.
//!
//! The files are read every few seconds and at SIGHUP, and compared by content: whether somebody writes them in place
//! or swaps a symlink, as Kubernetes does, makes no difference. What cannot be used changes nothing: it is reported,
//! counted, and looked at again.

use super::grpc::ApiTls;
use crate::link::Links;
use crate::lnd::{CertificateSource, PinnedCertificates};
use mux_raft::network::ServerTls;
use mux_raft::replica::Replica;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks at the files and puts what is new to use. Blocks for a few small files.
pub(super) struct Reloader {
    pub(super) replica: Arc<Replica>,
    pub(super) links: Links,
    pub(super) api: ServerTls,
    pub(super) api_cert: PathBuf,
    pub(super) api_key: PathBuf,
    /// What was last seen of each set of files, sound or not.
    seen: BTreeMap<String, [u8; 32]>,
}

impl Reloader {
    /// What is there now is what was just read at the start.
    pub(super) fn new(
        replica: Arc<Replica>,
        links: Links,
        api: ServerTls,
        (cert, key): (&Path, &Path),
    ) -> Self {
        let (api_cert, api_key) = (cert.to_owned(), key.to_owned());
        let mut reloader = Self { replica, links, api, api_cert, api_key, seen: BTreeMap::new() };
        let api = ApiTls::read(&reloader.api_cert, &reloader.api_key);
        reloader.is_news("api", &digest_of(&api));
        reloader
    }

    /// Whether anything was put to use.
    pub(super) fn reload(&mut self) -> bool {
        // Not short-circuiting: everything is looked at.
        self.reload_api() | self.reload_raft() | self.reload_lnd()
    }

    fn reload_api(&mut self) -> bool {
        let tls = ApiTls::read(&self.api_cert, &self.api_key);
        if !self.is_news("api", &digest_of(&tls)) {
            return false;
        }
        told("api", tls.and_then(|tls| self.api.replace(&tls.cert, &tls.key, None)))
    }

    fn reload_raft(&mut self) -> bool {
        match self.replica.reload_certificates() {
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
        for front in self.links.front_nodes() {
            for (at, endpoint) in front.endpoints.iter().enumerate() {
                let CertificateSource::File(path) = &endpoint.tls_cert else { continue };
                let sound = |pem: &[u8]| match PinnedCertificates::from_pem(pem) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{}: {error}", path.display())),
                };
                any |= self.look(&format!("lnd-{}-{at}", front.alias), path, &sound);
            }
            let path = &front.macaroon;
            let sound = |bytes: &[u8]| match bytes.is_empty() {
                false => Ok(()),
                true => Err(format!("{} is empty", path.display())),
            };
            any |= self.look(&format!("macaroon-{}", front.alias), path, &sound);
        }
        any
    }

    fn look(&mut self, what: &str, path: &Path, sound: &dyn Fn(&[u8]) -> Result<(), String>) -> bool {
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

//! Nothing leaks: looks for every secret of a run in what the replicas wrote and publish.
//!
//! The secrets are the preimages that payers learned, those of all stored invoices, paid or not, with their
//! payment secrets and texts, all macaroons, the cluster's seed and the private keys; the places are the
//! replicas' log files, their HTTP pages, and what they say to `muxcli status`.

use super::{Cluster, ClusterError};
use crate::{
    ledger::{check::Violation, leaks::Secrets},
    payer::{PeerError, invoice::PayableInvoice},
};
use mux_proto::lndsim::v1::{SubscribeOutcomesRequest, outcome};
use muxd::keys::{ClusterKeys, ClusterSeed};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long one replica's page, or one LND's list of outcomes, may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// HTTP pages looked at.
const PAGES: [&str; 2] = ["/metrics", "/readyz?verbose"];

/// What was looked for, where, and what was found.
#[derive(Debug)]
pub struct LeakReport {
    /// Preimages that payers learned.
    pub preimages: usize,
    /// All secrets looked for.
    pub secrets: usize,
    /// Bytes looked at.
    pub bytes: usize,
    /// HTTP pages among them.
    pub pages: usize,
    /// Secrets where none may be.
    pub violations: Vec<Violation>,
}

impl Cluster {
    /// Looks through every replica's log file and, if it runs, its metrics page.
    ///
    /// # Errors
    /// [`ClusterError`], if a file, a page or an LND's outcomes cannot be read.
    pub async fn look_for_leaks(&mut self) -> Result<LeakReport, ClusterError> {
        let mut secrets = Secrets::default();
        let preimages = self.add_preimages(&mut secrets).await?;
        let keys = self.add_files(&mut secrets)?;
        self.add_invoices(&mut secrets, &keys).await?;
        let mut report =
            LeakReport { preimages, secrets: secrets.len(), bytes: 0, pages: 0, violations: Vec::new() };
        let mut look = |place: String, text: &[u8]| {
            report.bytes += text.len();
            report.violations.extend(secrets.found_in(&place, text));
        };
        for replica in &mut self.replicas {
            look(format!("the log of {}", replica.name), &std::fs::read(replica.process.log())?);
            if replica.is_up() {
                for path in PAGES {
                    look(format!("{path} of {}", replica.name), &fetch(replica.metrics, path).await?);
                    report.pages += 1;
                }
                let status = format!("{:?}", replica.client.status().await?);
                look(format!("the status of {}", replica.name), status.as_bytes());
            }
        }
        Ok(report)
    }

    async fn add_preimages(&self, secrets: &mut Secrets) -> Result<usize, ClusterError> {
        let mut learned = 0;
        for lnd in &self.lnds {
            let last = lnd.state().await?.last_outcome_seq;
            let read = async {
                let request = SubscribeOutcomesRequest { from_seq: 1 };
                let mut outcomes = lnd.control().subscribe_outcomes(request).await?.into_inner();
                let mut preimages = Vec::new();
                let mut seen = 0;
                while seen < last
                    && let Some(outcome) = outcomes.message().await?
                {
                    seen = outcome.seq;
                    if let Some(outcome::Result::SettledPreimage(preimage)) = outcome.result {
                        preimages.push((outcome.payment_hash, preimage));
                    }
                }
                Ok::<_, tonic::Status>(preimages)
            };
            let late = |_| PeerError::Unavailable(format!("{} does not tell its outcomes", lnd.alias));
            let preimages = tokio::time::timeout(FETCH_DEADLINE, read)
                .await
                .map_err(late)?
                .map_err(|status| PeerError::Unavailable(status.to_string()))?;
            learned += preimages.len();
            for (hash, preimage) in preimages {
                secrets.add(format!("the preimage of {}", hex::encode(hash)), &preimage);
            }
        }
        Ok(learned)
    }

    /// Everything that a stored invoice keeps from those who must not know it.
    async fn add_invoices(&mut self, secrets: &mut Secrets, keys: &ClusterKeys) -> Result<(), ClusterError> {
        let Some(replica) = self.replicas.iter_mut().find_map(|one| one.is_up().then_some(&*one)) else {
            return Ok(());
        };
        for invoice in replica.client.list_invoices().await? {
            let text = invoice.payment_request;
            let Ok(parsed) = PayableInvoice::parse(&text) else { continue };
            let hash = parsed.hash;
            secrets.add(format!("the text of invoice {hash}"), text.as_bytes());
            secrets.add(format!("the payment secret of {hash}"), &parsed.secret.0);
            if let Some(preimage) = keys.secrets().preimage(&hash, &parsed.secret) {
                secrets.add(format!("the derived preimage of {hash}"), &preimage.0);
            }
        }
        Ok(())
    }

    fn add_files(&self, secrets: &mut Secrets) -> Result<ClusterKeys, std::io::Error> {
        let seed = std::fs::read_to_string(self.replicas[0].dir.join("seed"))?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(seed.trim(), &mut bytes).map_err(std::io::Error::other)?;
        secrets.add("the seed", &bytes);
        let keys = ClusterKeys::derive(&ClusterSeed::from_bytes(bytes));
        secrets.add("the virtual node's key", &keys.node_secret().secret_bytes());
        secrets.add("the macaroon root", keys.macaroon_root());

        for lnd in &self.lnds {
            secrets.add(format!("{}'s macaroon", lnd.alias), &std::fs::read(&lnd.macaroon)?);
        }
        secrets.add("the admin macaroon", &std::fs::read(&self.macaroon)?);
        for replica in &self.replicas {
            for name in ["raft.key", "api.key"] {
                let of = format!("{} of {}", name, replica.name);
                add_key(secrets, &of, &replica.dir.join(name))?;
            }
        }
        Ok(keys)
    }
}

/// A private key, by its bytes and by each line of its file that says something.
fn add_key(secrets: &mut Secrets, name: &str, path: &Path) -> Result<(), std::io::Error> {
    let text = std::fs::read_to_string(path)?;
    for line in text.lines().filter(|line| !line.starts_with("-----")) {
        secrets.add(name, line.as_bytes());
    }
    Ok(())
}

/// The whole answer to `GET` of one of the HTTP pages, head included.
///
/// # Errors
/// It does not answer, or not with a page.
pub async fn fetch(address: SocketAddr, path: &str) -> Result<Vec<u8>, std::io::Error> {
    let fetch = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page).await?;
        if !page.starts_with(b"HTTP/1.1 200") && !page.starts_with(b"HTTP/1.1 503") {
            return Err(std::io::Error::other(format!("{address} gives no page {path}")));
        }
        Ok(page)
    };
    tokio::time::timeout(FETCH_DEADLINE, fetch).await?
}

use super::outcome::Proposals;
use super::reads::Acknowledged;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::{Condition, Coverage};
use crate::sim::net::Port;
use crate::sim::random;
use crate::sim::swarm::Load;
use crate::sim::time::SimTime;
use mux_raft::consensus::{Committed, Consensus as _, ProposeError};
use mux_raft::machine::command::{CancelScope, NewInvoice};
use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
use mux_raft::machine::{Command, Rejection, Reply, RequestId};
use mux_raft::replica::Replica;
use mux_raft::types::{LogIndex, Msat, PaymentHash, PaymentSecret};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// After an attempt that failed.
const RETRY: Duration = Duration::from_millis(100);

/// What applications asked for, and what they were told. It outlives all processes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Book {
    seed: u64,
    load: Load,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    stopped: bool,
    clients: u64,
    invoices: u64,
    under_way: u64,
    proposals: Proposals,
    /// Invoices that were acknowledged: their number.
    added: BTreeMap<PaymentHash, u64>,
    /// Which command an index was acknowledged for.
    by_index: BTreeMap<u64, (u64, RequestId)>,
    /// How far what was acknowledged reaches.
    reaches: Acknowledged,
    problems: Vec<String>,
}

/// Counts as under way for as long as it lives.
struct UnderWay(Book);

impl UnderWay {
    fn begin(book: &Book) -> Self {
        book.inner.lock().under_way += 1;
        Self(book.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.inner.lock().under_way -= 1;
    }
}

impl Book {
    pub(super) fn new(seed: u64, load: Load) -> Self {
        Self { seed, load, inner: Arc::default() }
    }

    /// No new commands from now on; what is under way is brought to an end.
    pub(super) fn stop(&self) {
        self.inner.lock().stopped = true;
    }

    pub(super) fn under_way(&self) -> u64 {
        self.inner.lock().under_way
    }

    pub(super) fn proposals(&self) -> Proposals {
        self.inner.lock().proposals
    }

    /// Applications begin to use a replica.
    pub(super) fn begin(&self, replica: &Arc<Replica>, port: &Port, coverage: &Coverage) {
        for _ in 0..self.load.clients {
            let number = {
                let mut inner = self.inner.lock();
                inner.clients += 1;
                inner.clients
            };
            let client = Client {
                book: self.clone(),
                replica: Arc::clone(replica),
                port: port.clone(),
                coverage: coverage.clone(),
                rng: random::stream(self.seed, &format!("client {number}")),
            };
            tokio::spawn(client.run());
        }
    }

    fn next_invoice(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.invoices += 1;
        inner.invoices
    }

    fn is_stopped(&self) -> bool {
        self.inner.lock().stopped
    }

    /// Something is not as it must be.
    pub(super) fn wrong(&self, text: String) {
        self.inner.lock().problems.push(text);
    }

    /// What was not as it must be since this was asked last.
    pub(super) fn take_problems(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().problems)
    }

    /// How far a read must see that began at this time.
    pub(super) fn reaches_before(&self, began: SimTime) -> LogIndex {
        self.inner.lock().reaches.before(began)
    }

    /// A command was acknowledged.
    fn acknowledged(&self, at: SimTime, id: RequestId, committed: &Committed) {
        let mut inner = self.inner.lock();
        inner.proposals.acknowledged += 1;
        inner.reaches.add(at, committed.at.index);
        let (term, index) = (committed.at.term, committed.at.index);
        let first = *inner.by_index.entry(index).or_insert((term, id));
        if first != (term, id) {
            let text =
                format!("two commands were acknowledged at index {index}, in terms {} and {term}", first.0);
            inner.problems.push(text);
        }
    }

    fn added(&self, hash: PaymentHash, add_index: u64) {
        self.inner.lock().added.insert(hash, add_index);
    }

    /// What was acknowledged must be there, on every replica.
    pub(super) fn check(&self, hosts: &[ReplicaHost]) -> Vec<String> {
        let inner = self.inner.lock();
        let mut problems = Vec::new();
        for host in hosts {
            let Some(seen) = host.replica() else { continue };
            let cell = seen.replica.cell();
            let archive = Arc::clone(cell.archive());
            let wrong = cell.read(|state| {
                let number = |hash: &PaymentHash| match state.invoice(hash) {
                    Some(invoice) => Some(invoice.add_index),
                    None => {
                        let found = archive.invoice(state.archive_tip(), hash).ok().flatten();
                        found.map(|archived| archived.invoice.add_index)
                    }
                };
                let lost = inner.added.iter().find(|(hash, index)| number(hash) != Some(**index));
                lost.map(|(hash, index)| (*hash, *index, number(hash)))
            });
            if let Some((hash, index, found)) = wrong {
                problems.push(format!(
                    "replica {}: invoice {hash} was acknowledged as number {index} and is {found:?}",
                    host.id()
                ));
            }
        }
        problems
    }
}

/// An application.
pub(super) struct Client {
    pub(super) book: Book,
    pub(super) replica: Arc<Replica>,
    pub(super) port: Port,
    pub(super) coverage: Coverage,
    rng: StdRng,
}

impl Client {
    async fn run(mut self) {
        loop {
            let pause = random::interval(&mut self.rng, Duration::from_millis(self.book.load.pause_ms));
            tokio::time::sleep(pause).await;
            if self.book.is_stopped() {
                return;
            }
            if self.rng.random_bool(0.3) {
                self.read().await;
                continue;
            }
            let hash = self.add().await;
            if let Some(hash) = hash
                && self.rng.random_bool(0.3)
            {
                self.commit(Command::CancelInvoice { hash, scope: CancelScope::Invoice }).await;
            }
        }
    }

    /// Adds an invoice. None: nobody knows whether.
    async fn add(&mut self) -> Option<PaymentHash> {
        let number = self.book.next_invoice();
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let hash = PaymentHash(hash);
        // Some expire while the run lasts.
        let lives_s = if self.rng.random_bool(0.3) { self.rng.random_range(2..20) } else { 1_000_000 };
        let invoice = NewInvoice {
            hash,
            secret: PaymentSecret(self.rng.random()),
            terms: InvoiceTerms {
                kind: InvoiceKind::Stored,
                amount_msat: Msat(self.rng.random_range(0..1_000_000)),
                expires_at_ms: (1_700_000_000 + self.port.now().as_ms() / 1000 + lives_s) * 1000,
                min_final_cltv: 80,
                key_epoch: 0,
            },
            payment_request: "lnbc".repeat(self.rng.random_range(1..60)),
            description: String::new(),
            description_hash: None,
        };
        let committed = self.commit(Command::AddInvoice(Box::new(invoice))).await?;
        match committed.reply {
            Reply::InvoiceAdded { add_index } => {
                self.book.added(hash, add_index);
                Some(hash)
            }
            Reply::Rejected(Rejection::InvoiceExists(_)) => {
                self.book.wrong(format!("invoice {hash} was added once, and the answer is that it exists"));
                None
            }
            _ => None,
        }
    }

    /// Whoever proposed something reads it where it was proposed.
    fn check_applied(&self, committed: &Committed) {
        let applied = self.replica.state().read(|state| state.applied().index);
        let index = committed.at.index;
        if applied < index {
            let id = self.replica.status().borrow().id;
            let text =
                format!("replica {id} acknowledged entry {index} and has applied only up to {applied}");
            self.book.wrong(text);
        }
    }

    /// Proposes a command until it is known to be in the log, or for certain not to be, as an application does that
    /// has its own id for it.
    async fn commit(&mut self, command: Command) -> Option<Committed> {
        let id = RequestId(self.rng.random());
        let _under_way = UnderWay::begin(&self.book);
        let mut doubtful = false;
        loop {
            let result = self.replica.propose(command.clone(), Some(id)).await;
            if self.port.is_cut() {
                // The process has died: whatever this was, nobody heard it.
                return None;
            }
            match result {
                Ok(committed) => {
                    if !self.replica.status().borrow().leads {
                        self.coverage.met(Condition::CommittedByFollower);
                    }
                    self.check_applied(&committed);
                    self.book.acknowledged(self.port.now(), id, &committed);
                    return Some(committed);
                }
                Err(ProposeError::Unknown(_)) => {
                    doubtful = true;
                    self.book.inner.lock().proposals.unknown += 1;
                }
                Err(ProposeError::Unavailable(_)) if doubtful => {}
                Err(ProposeError::Unavailable(_)) => {
                    self.book.inner.lock().proposals.unavailable += 1;
                    return None;
                }
                Err(ProposeError::Fatal(_)) => {
                    self.book.inner.lock().proposals.abandoned += 1;
                    return None;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

//! What every call needs, and how it writes and reads.

use super::drain::DrainOrder;
use super::error::ApiError;
use crate::NodeWiring;
use crate::config::{FrontNode, Invoices};
use crate::keys::{ClusterKeys, Network};
use crate::link::LinkStatus;
use mux_proto::mux::v1::Consistency;
use mux_raft::archive::FoundInvoice;
use mux_raft::blocking::Work;
use mux_raft::consensus::{Committed, Consensus, ProposeError, StateCell};
use mux_raft::machine::model::InvoiceState;
use mux_raft::machine::{ArchiveUnreadable, Command, Reply, RequestId, State};
use mux_raft::trace;
use mux_raft::types::PaymentHash;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;

/// A call without a deadline of its own gets this one.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// Longest that a call is allowed to wait for a decision, whatever its deadline.
const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// Kept back from the caller's deadline, so that he hears our answer rather than his own time-out.
const DEADLINE_RESERVE: Duration = Duration::from_millis(200);

/// Between two proposals of the same request after an unknown outcome.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// One is enough: the replica ends.
const DRAINS_QUEUED_MAX: usize = 1;

/// What the links of this replica show. Empty while there are none.
pub type LinkView = Arc<dyn Fn() -> Vec<LinkStatus> + Send + Sync>;

/// What the API is configured with.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// The cluster's name.
    pub cluster_name: String,
    /// Its identity.
    pub cluster_id: [u8; 32],
    /// Its network.
    pub network: Network,
    /// Defaults of invoices.
    pub invoices: Invoices,
    /// `lnmux.return_preimage`.
    pub return_preimage: bool,
    /// The front nodes of this replica's configuration.
    pub front_nodes: Vec<FrontNode>,
    /// Its directory, to which paths of macaroons are relative.
    pub dir: PathBuf,
}

/// Shared by all calls.
pub struct Context {
    pub(super) config: ApiConfig,
    pub(super) consensus: Arc<dyn Consensus>,
    pub(super) keys: Arc<ClusterKeys>,
    pub(super) links: LinkView,
    pub(super) wiring: NodeWiring,
    /// Ends streams and waits when the replica stops.
    pub(super) stop: CancellationToken,
    /// Where the next invoice begins in the list of front nodes.
    pub(super) rotation: AtomicUsize,
    /// Whoever ends this replica; nobody, where only the API runs.
    pub(super) drains: OnceLock<mpsc::Sender<DrainOrder>>,
}

impl Context {
    /// Around a replica's parts. `stop` ends its streams.
    #[must_use]
    pub fn new(
        config: ApiConfig,
        consensus: Arc<dyn Consensus>,
        keys: Arc<ClusterKeys>,
        links: LinkView,
        wiring: NodeWiring,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            config,
            consensus,
            keys,
            links,
            wiring,
            stop,
            rotation: AtomicUsize::new(0),
            drains: OnceLock::new(),
        })
    }

    /// For whoever ends this replica: orders to drain it. Only the first call gets any.
    #[must_use]
    pub fn drain_orders(&self) -> mpsc::Receiver<DrainOrder> {
        let (orders_to, orders) = mpsc::channel(DRAINS_QUEUED_MAX);
        // A second receiver would be a second end.
        let _ = self.drains.set(orders_to);
        orders
    }

    /// Reads the applied state.
    pub(super) fn read<T>(&self, reader: impl FnOnce(&State) -> T) -> T {
        self.consensus.state().read(reader)
    }

    /// Reads memory and archive, off the async threads: the archive's disk may take its time.
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        reader: impl FnOnce(&StateCell) -> Result<T, ArchiveUnreadable> + Send + 'static,
    ) -> Result<T, ApiError> {
        let consensus = Arc::clone(&self.consensus);
        let read = self.wiring.blocking.run(Work::Archive, move || reader(consensus.state())).await;
        let read = read.map_err(|error| ApiError::Internal(format!("reading the archive: {error}")))?;
        read.map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// An invoice, wherever it is.
    pub(super) async fn find_invoice(&self, hash: PaymentHash) -> Result<Option<FoundInvoice>, ApiError> {
        self.look_up(move |cell| cell.find_invoice(&hash)).await
    }

    /// An invoice's state, wherever it is; while it is in memory without leaving the thread.
    pub(super) async fn state_of(&self, hash: PaymentHash) -> Result<Option<InvoiceState>, ApiError> {
        match self.read(|state| state.invoice(&hash).map(|invoice| invoice.state)) {
            Some(state) => Ok(Some(state)),
            None => Ok(self.find_invoice(hash).await?.map(|found| found.invoice.state)),
        }
    }

    /// Waits until reads are as fresh as asked.
    pub(super) async fn barrier(&self, consistency: i32) -> Result<(), ApiError> {
        match Consistency::try_from(consistency) {
            Ok(Consistency::Stale) => Ok(()),
            Ok(Consistency::Unspecified | Consistency::Linearizable) => {
                self.consensus.read_barrier().await?;
                Ok(())
            }
            Err(_) => Err(ApiError::Invalid(format!("{consistency} is no consistency"))),
        }
    }

    /// Commits a command, once, whatever it takes until the deadline: an unknown outcome is found out by
    /// proposing the same again, which the state machine recognises by the request's id, or (without one)
    /// answers the same anyway. Ids are remembered for long: commands that can do without spare the memory.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] only if the deadline came first.
    pub(super) async fn submit(
        &self,
        command: Command,
        request: Option<RequestId>,
        deadline: Instant,
    ) -> Result<Committed, ApiError> {
        if let Command::AddInvoice(invoice) = &command {
            tell_hash(&invoice.hash);
        } else if let Command::SettleInvoice { hash, .. } | Command::CancelInvoice { hash, .. } = &command {
            tell_hash(hash);
        }
        let mut unknown = None;
        loop {
            let outcome = tokio::time::timeout_at(deadline, self.consensus.propose(command.clone(), request));
            let why = match outcome.await {
                Ok(Ok(committed)) => return accepted(committed),
                Ok(Err(ProposeError::Unknown(why))) => why,
                // An earlier attempt may still be committed.
                Ok(Err(error)) if unknown.is_none() => return Err(error.into()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            let again = Instant::now() + RETRY_PAUSE;
            if again >= deadline || self.stop.is_cancelled() {
                return Err(ProposeError::Unknown(why).into());
            }
            unknown = Some(why);
            tokio::time::sleep_until(again).await;
        }
    }
}

/// For every line that this call writes from now on, and its span.
pub(super) fn tell_hash(hash: &PaymentHash) {
    let span = tracing::Span::current();
    span.record("payment_hash", tracing::field::display(hash));
    trace::link_payment(&span, &hash.0);
}

fn accepted(committed: Committed) -> Result<Committed, ApiError> {
    match committed.reply {
        Reply::Rejected(rejection) => Err(rejection.into()),
        _ => Ok(committed),
    }
}

/// A request id of its own for a call that brings none.
pub(super) fn fresh_request() -> Option<RequestId> {
    Some(RequestId(rand::random()))
}

/// When the caller stops waiting (`grpc-timeout`), less a reserve; a default otherwise.
pub(super) fn deadline(metadata: &MetadataMap) -> Instant {
    let asked = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    let wait = asked.map_or(DEADLINE_DEFAULT, |asked| asked.saturating_sub(DEADLINE_RESERVE));
    Instant::now() + wait.min(DEADLINE_MAX)
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(amount.saturating_mul(60))),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc_are_understood() {
        assert_eq!(parse_timeout("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for wrong in ["", "S", "10", "10x", "123456789S", "-1S", "10\u{fc}"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }
}

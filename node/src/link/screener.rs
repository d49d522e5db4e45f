//! What a link asks of the keys: the seam to onions and payment secrets.

mod cluster;

pub use cluster::ClusterScreener;
use mux_proto::lnrpc::failure::FailureCode;
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::machine::archive::ArchivedInvoice;
use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::{FailReason, FrontNodePolicy};
use mux_raft::types::{BlockHeight, PaymentHash, PaymentSecret, Preimage};

/// Judges intercepted HTLCs without state. Slow (elliptic curves): called off the async threads.
pub trait Screener: Send + Sync + 'static {
    /// Whether this scid could be one of this cluster's virtual ones. `false` means foreign for certain.
    fn may_be_ours(&self, scid: u64) -> bool;

    /// Runs the stateless checks on an HTLC that the log does not know.
    fn screen(&self, request: &ForwardHtlcInterceptRequest, context: &ScreenContext) -> Screened;

    /// How a recorded FAIL sounds for this HTLC: the same at every replica.
    fn failure(&self, request: &ForwardHtlcInterceptRequest, reason: FailReason) -> Failure;

    /// The preimage of an own invoice. Only called for HTLCs whose applied verdict is SETTLE.
    fn preimage(&self, hash: &PaymentHash, secret: &PaymentSecret) -> Option<Preimage>;
}

/// What the checks may look at besides the HTLC itself.
#[derive(Clone, Copy, Debug)]
pub struct ScreenContext {
    /// What invoices announced under this scid.
    pub policy: FrontNodePolicy,
    /// For the failure's `height` field, if it is known.
    pub height: Option<BlockHeight>,
}

/// What the checks say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screened {
    /// Not for the virtual node, or not acceptable and on chain, where nothing can be said.
    Foreign,
    /// Never acceptable, whatever the state.
    Reject {
        /// How it sounds.
        failure: Failure,
        /// What was wrong; for metric labels, never told to payers.
        cause: &'static str,
    },
    /// To be offered to the cluster.
    Offer(Box<HtlcOffer>),
    /// Not judged: it paid an invoice that is finished, and its recorded verdict stands.
    Archived(Box<ArchivedInvoice>),
}

/// How a FAIL is told to LND. The two exclude each other.
#[derive(Clone, PartialEq, Eq)]
pub enum Failure {
    /// In the voice of the virtual node: 292 bytes, encrypted for the payer.
    Message(Vec<u8>),
    /// In the voice of the front node.
    Code(FailureCode),
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(bytes) => write!(f, "Message({} bytes)", bytes.len()),
            Self::Code(code) => write!(f, "Code({code:?})"),
        }
    }
}

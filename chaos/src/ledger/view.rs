//! What the cluster and the simulated LND nodes say at the end: the other side of the ledger.

use mux_proto::{lndsim::v1::HtlcEntry, mux::v1 as mux};
use mux_raft::types::{LogIndex, NodePubkey, PaymentHash};
use std::collections::BTreeMap;

/// Everything that is compared with the payer's ledger. Taken when nothing moves any more.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Every replica's view.
    pub replicas: Vec<ReplicaView>,
    /// Every simulated LND's books.
    pub lnds: Vec<LndView>,
}

/// What one replica says.
#[derive(Clone, Debug, Default)]
pub struct ReplicaView {
    /// For people.
    pub name: String,
    /// Rolling state hash by the applied index it belongs to, as observed.
    pub state_hashes: BTreeMap<LogIndex, Vec<u8>>,
    /// Invoices by linearizable reads at this replica; those asked for and not found are missing.
    pub invoices: BTreeMap<PaymentHash, InvoiceView>,
    /// Reads that got no answer, with the reason: not the same as "not found".
    pub unread: BTreeMap<PaymentHash, String>,
}

/// An invoice as a replica tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvoiceView {
    /// Where it stands.
    pub state: mux::InvoiceState,
    /// Decided sum, from SETTLING on.
    pub paid_msat: u64,
    /// Confirmed sum.
    pub received_msat: u64,
    /// When the decision to settle was taken, in log time, which is Unix milliseconds up to what the replicas' clocks
    /// differ by; 0 before.
    pub decided_at_ms: u64,
    /// When it was decided in fact, as somebody saw who looks at all replicas (the simulation): log time stands still while
    /// no majority can compare clocks. As `decided_at_ms`, where nobody looks.
    pub seen_decided_ms: u64,
    /// When the entry that decided it was in a log first, as the same somebody saw: with the majority gone it may be committed
    /// long after that, and what is known of its HTLCs meanwhile comes too late. As `decided_at_ms`, where nobody looks.
    pub proposed_ms: u64,
    /// The preimage is shown.
    pub shows_preimage: bool,
    /// Its HTLCs.
    pub htlcs: Vec<HtlcView>,
}

impl InvoiceView {
    /// The cluster decided to settle it.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        matches!(
            self.state,
            mux::InvoiceState::Settling | mux::InvoiceState::Settled | mux::InvoiceState::Partial
        )
    }

    /// The preimage of what nobody has decided is shown, to somebody who could tell the payer.
    #[must_use]
    pub fn shows_too_early(&self) -> bool {
        self.shows_preimage && !self.is_decided()
    }

    /// Nothing is under way any more.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !matches!(self.state, mux::InvoiceState::Accepted | mux::InvoiceState::Settling)
    }
}

impl From<&mux::Invoice> for InvoiceView {
    fn from(invoice: &mux::Invoice) -> Self {
        Self {
            state: invoice.state(),
            paid_msat: invoice.amount_paid_msat,
            received_msat: invoice.amount_received_msat,
            decided_at_ms: invoice.decided_at_ms,
            seen_decided_ms: invoice.decided_at_ms,
            proposed_ms: invoice.decided_at_ms,
            shows_preimage: !invoice.preimage.is_empty(),
            htlcs: invoice.htlcs.iter().map(HtlcView::from).collect(),
        }
    }
}

/// An HTLC as a replica tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HtlcView {
    /// Front node's key.
    pub front: Vec<u8>,
    /// Channel.
    pub chan_id: u64,
    /// Number.
    pub htlc_id: u64,
    /// `held`, `settle` or the reason of the failure.
    pub verdict: String,
    /// How it ended.
    pub final_state: String,
}

impl From<&mux::HtlcInfo> for HtlcView {
    fn from(htlc: &mux::HtlcInfo) -> Self {
        Self {
            front: htlc.front_node.clone().into(),
            chan_id: htlc.chan_id,
            htlc_id: htlc.htlc_id,
            verdict: htlc.verdict.clone(),
            final_state: htlc.r#final.clone(),
        }
    }
}

/// The books of one simulated LND.
#[derive(Clone, Debug)]
pub struct LndView {
    /// For people.
    pub alias: String,
    /// Identity.
    pub node: NodePubkey,
    /// Every HTLC it ever had.
    pub htlcs: Vec<HtlcEntry>,
    /// What a correct client never does.
    pub complaints: Vec<String>,
}

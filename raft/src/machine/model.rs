//! The records that make up the state. Readers (links, API) see these; only `apply` changes them.

mod event;
mod front_node;

pub use event::{Event, EventKind};
pub use front_node::{
    FrontNode, FrontNodeAccess, FrontNodeEndpoint, FrontNodeExtra, FrontNodeMode, Session, Tip,
};

use crate::mutant::{Mutant, planted};
use crate::types::{
    BlockHeight, CircuitKey, LogIndex, LogTimeMs, Msat, PaymentHash, PaymentSecret, Preimage, SessionId,
    SetId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Blocks before `incoming_expiry` from which LND fails a re-offered HTLC by itself
/// (`lncfg.DefaultCltvInterceptDelta`): the effective end of the time to settle.
pub const LND_INTERCEPT_DELTA: BlockHeight = 22;

/// A height that was confirmed longer ago than this counts for nothing.
pub const HEIGHT_FRESH_MS: LogTimeMs = 60_000;

/// An owner not heard from for this long does not count as live.
pub const SESSION_FRESH_MS: LogTimeMs = 3_000;

/// A front node further than this from the median is flagged.
pub const HEIGHT_DEVIATION_MAX: BlockHeight = 6;

/// A gap in log time longer than this (no quorum, no leader) gives timers [`GAP_GRACE_MS`].
pub const GAP_MS: LogTimeMs = 5_000;

/// See [`GAP_MS`].
pub const GAP_GRACE_MS: LogTimeMs = 10_000;

/// Blocks after its expiry from which an HTLC without a record of its end is UNCONFIRMED.
pub const UNCONFIRMED_AFTER_BLOCKS: BlockHeight = 144;

/// Blocks after its expiry until which a FAIL verdict is kept at least.
pub const FAIL_KEPT_BLOCKS: BlockHeight = 6;

/// Blocks that `incoming_expiry` must exceed `height + 22 + margin` by for an HTLC to be accepted.
pub const ACCEPT_SLACK_BLOCKS: BlockHeight = 6;

/// Blocks by which an outgoing expiry may fall short of `height + min_final_cltv` (blocks found on the way).
pub const MIN_FINAL_SLACK_BLOCKS: BlockHeight = 3;

/// The kind of an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvoiceKind {
    /// In the log before it is handed out.
    Stored,
    /// Unknown to the log until its first HTLC.
    Stateless,
    /// Stored, for a hash whose preimage the caller keeps.
    Hold,
}

/// What an invoice's payment secret says about it, so that any replica can judge an HTLC without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceTerms {
    /// How it came to be.
    pub kind: InvoiceKind,
    /// Zero: the payer chooses.
    pub amount_msat: Msat,
    /// Whole seconds, in milliseconds.
    pub expires_at_ms: LogTimeMs,
    /// BOLT 11 `min_final_cltv_expiry_delta`.
    pub min_final_cltv: u16,
    /// Generation of the keys that made the secret.
    pub key_epoch: u8,
}

/// The hop from a front node to the virtual node as invoices announce it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontNodePolicy {
    /// Virtual short channel id; names this policy for ever.
    pub scid: u64,
    /// Fee of the hop.
    pub fee_base_msat: u32,
    /// Fee of the hop, millionths.
    pub fee_ppm: u32,
    /// Blocks between incoming and outgoing expiry.
    pub cltv_delta: u16,
}

/// What operators may set, for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Settle a complete set at once; otherwise an application does.
    pub auto_settle: bool,
    /// Blocks kept in hand before LND's own deadline.
    pub margin_blocks: BlockHeight,
    /// How long an incomplete set may wait.
    pub mpp_timeout_ms: LogTimeMs,
    /// How long an accepted set may wait for the application (hold invoices: until their block deadline).
    pub accept_timeout_ms: LogTimeMs,
    /// HTLCs in one set.
    pub parts_per_set_max: u32,
    /// Undecided HTLCs of one channel.
    pub held_per_channel_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_settle: true,
            margin_blocks: 6,
            mpp_timeout_ms: 60_000,
            accept_timeout_ms: 60_000,
            parts_per_set_max: 32,
            held_per_channel_max: 400,
        }
    }
}

/// Where an invoice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InvoiceState {
    /// Payable. A set may be collecting.
    Open,
    /// A complete set is held; nothing is decided.
    Accepted,
    /// Decided: every HTLC of the set must be settled.
    Settling,
    /// LND confirmed every HTLC of the set final and settled.
    Settled,
    /// Decided, every HTLC is final, and some money did not arrive.
    Partial,
    /// Never payable again.
    Canceled,
    /// Never payable again.
    Expired,
}

impl InvoiceState {
    /// The decision to settle was taken: the preimage may be revealed.
    #[must_use]
    pub fn is_decided(self) -> bool {
        match self {
            Self::Settling | Self::Settled | Self::Partial => true,
            Self::Open | Self::Accepted | Self::Canceled | Self::Expired => false,
        }
    }
}

/// An invoice.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its name.
    pub hash: PaymentHash,
    /// Its payment secret; with the cluster's seed it gives the preimage of its own invoices.
    pub secret: PaymentSecret,
    /// What the secret says.
    pub terms: InvoiceTerms,
    /// Where it stands.
    pub state: InvoiceState,
    /// BOLT 11 text; empty for a stateless one (nobody told the cluster).
    pub payment_request: String,
    /// Plain description, or empty.
    pub description: String,
    /// Hash of a description.
    pub description_hash: Option<[u8; 32]>,
    /// Gap-free number of its creation (stateless: of its first HTLC).
    pub add_index: u64,
    /// Gap-free number of its settle decision; 0 before.
    pub decision_index: u64,
    /// Gap-free number of its SETTLED or PARTIAL; 0 before.
    pub settle_index: u64,
    /// Log time of creation.
    pub created_at_ms: LogTimeMs,
    /// Log time of the decision; 0 before.
    pub decided_at_ms: LogTimeMs,
    /// Log time of the end (SETTLED, PARTIAL, CANCELED, EXPIRED); 0 before.
    pub finalized_at_ms: LogTimeMs,
    /// Counts sets: the attempt under way, or the last one.
    pub attempt: u32,
    /// The set being collected, accepted or decided.
    pub set: Option<HtlcSet>,
    /// Sum that LND confirmed settled.
    pub received_msat: Msat,
    /// Application's preimage of a [`InvoiceKind::Hold`] invoice; only ever kept from the settle on.
    pub preimage: Option<Preimage>,
}

impl fmt::Debug for Invoice {
    /// Without the payment request, which contains the payment secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invoice")
            .field("hash", &self.hash)
            .field("terms", &self.terms)
            .field("state", &self.state)
            .field("add_index", &self.add_index)
            .field("decision_index", &self.decision_index)
            .field("settle_index", &self.settle_index)
            .field("attempt", &self.attempt)
            .field("set", &self.set)
            .field("received_msat", &self.received_msat)
            .finish_non_exhaustive()
    }
}

/// One attempt to pay an invoice: (hash, attempt).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcSet {
    /// Which attempt.
    pub attempt: u32,
    /// What every part says the whole is.
    pub total_msat: Msat,
    /// Sum of the parts' outgoing amounts.
    pub sum_msat: Msat,
    /// Its HTLCs.
    pub parts: BTreeSet<CircuitKey>,
    /// Log time of the first part.
    pub started_at_ms: LogTimeMs,
    /// Log time at which it became complete; 0 before.
    pub accepted_at_ms: LogTimeMs,
    /// An application asked to settle while the gate was closed.
    pub settle_intent: bool,
    /// SHA-256 over the sorted keys; set once complete.
    pub id: Option<SetId>,
}

/// The recorded answer to an HTLC. Never changes once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// SETTLE with the invoice's preimage.
    Settle,
    /// FAIL; how it sounds follows from the reason alone.
    Fail(FailReason),
}

/// Why an HTLC is failed. Determines the failure that the payer sees, at every replica alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailReason {
    /// `incorrect_or_unknown_payment_details` with the accept height: unknown, expired, paid or cancelled
    /// invoice, wrong amount or total, wrong secret, too few blocks.
    IncorrectDetails {
        /// For the failure's `height` field.
        height: BlockHeight,
        /// For operators and tests; payers cannot tell these apart.
        cause: DetailsCause,
    },
    /// `mpp_timeout`: the set stayed incomplete for too long.
    MppTimeout,
    /// `temporary_channel_failure`, spoken by the front node, so that the payer tries another hint.
    Temporary {
        /// For operators and tests.
        cause: TemporaryCause,
    },
}

/// What was wrong, for operators; the payer hears one voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DetailsCause {
    /// Stored invoice that the log does not know (never added, or long gone).
    UnknownInvoice,
    /// Its secret is not the invoice's.
    WrongSecret,
    /// The invoice expired.
    Expired,
    /// It was cancelled, or its set was.
    Canceled,
    /// It is paid, or another set is being settled.
    AlreadyPaid,
    /// total_msat below the amount, above twice the amount, zero, or not that of the set.
    WrongTotal,
    /// The set would exceed twice the amount, or has too many parts.
    TooMuch,
    /// Too few blocks left.
    TooSoon,
    /// The set had no settle decision before its first deadline.
    Deadline,
    /// The application did not settle in time.
    AcceptTimeout,
    /// Another HTLC of the set went on chain.
    SetOnChain,
    /// Seen first on chain, or after it had gone on chain undecided.
    OnChain,
}

/// What was in the way, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TemporaryCause {
    /// Too many undecided HTLCs on the channel.
    ChannelFull,
    /// No height is known to judge the expiry by, or the node's is implausible.
    NoHeight,
    /// LND failed it without our answer.
    FailedByLnd,
    /// The set was complete, but could not be settled safely in time (a link down, a height unknown).
    GateClosed,
    /// The front node that held a part of the set was removed. Level 3.
    FrontNodeRemoved,
}

/// How far the end of an HTLC is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalState {
    /// Not final.
    Open,
    /// LND: final, settled.
    Settled,
    /// LND: final, not settled.
    Failed,
    /// Resolved, but no record of how; needs an operator.
    Unconfirmed,
    /// An operator says it was settled.
    OperatorSettled,
    /// An operator says it is lost.
    OperatorLost,
}

impl FinalState {
    /// LND or an operator said how it ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Settled | Self::Failed | Self::OperatorSettled | Self::OperatorLost => true,
            Self::Open | Self::Unconfirmed => false,
        }
    }
}

/// An HTLC that the cluster has an opinion on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htlc {
    /// Its name.
    pub key: CircuitKey,
    /// The invoice it pays or tried to pay.
    pub hash: PaymentHash,
    /// Session in which it was last offered.
    pub session: SessionId,
    /// What counts.
    pub outgoing_amount_msat: Msat,
    /// What it carries.
    pub incoming_amount_msat: Msat,
    /// When it ends.
    pub incoming_expiry: BlockHeight,
    /// LND reported it gone: no answer can reach it.
    pub gone: bool,
    /// It was offered from the chain.
    pub on_chain: bool,
    /// The answer, once there is one.
    pub verdict: Option<Verdict>,
    /// How it ended.
    pub final_state: FinalState,
    /// Entry that recorded the verdict; 0 before.
    pub decided_at_index: LogIndex,
}

impl Htlc {
    /// The last height at which a decision to settle is still safe, exclusive.
    #[must_use]
    pub fn settle_deadline(&self, margin_blocks: BlockHeight) -> BlockHeight {
        if planted(Mutant::DeadlineAtExpiry) {
            return self.incoming_expiry;
        }
        self.incoming_expiry.saturating_sub(LND_INTERCEPT_DELTA).saturating_sub(margin_blocks)
    }
}

//! Commands: everything that can change the state.
//!
//! The enums here are the log's format. They are encoded by position (postcard): variants and fields are
//! only ever appended as *new* variants, never changed. A replica that meets a variant it does not know
//! stops rather than diverge.

use super::model::{FrontNodeAccess, FrontNodePolicy, InvoiceTerms, Settings};
use super::state::LogPosition;
use crate::types::{
    BlockHeight, CircuitKey, LogTimeMs, Msat, NodePubkey, PaymentHash, PaymentSecret, Preimage, ReplicaId,
    SessionId, SetId, StoreId,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The highest feature level that this version knows, see [`super::level`]. An entry with a greater one stops
/// the replica.
pub const COMMAND_FORMAT: u16 = 3;

/// A command as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The feature level that the command belongs to, see [`Command::level`].
    pub format: u16,
    /// The leader's log clock when it proposed the entry; apply clamps it so that time never runs back.
    pub time_ms: LogTimeMs,
    /// Deduplicates a client's retries: a second entry with the same id changes nothing and gets the
    /// first one's reply.
    pub request_id: Option<RequestId>,
    /// What to do.
    pub command: Command,
}

/// Names one client request over all its retries. Random, or derived from a client's idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);

/// Everything that can change the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Time passes. Proposed by the leader once a second.
    Tick,
    /// Replaces the cluster's settings.
    Configure(Settings),
    /// Adds a front node, or gives a known one a new policy (under a new virtual scid; the former one keeps
    /// being honoured) or alias.
    PutFrontNode {
        /// The LND node's identity key.
        node: NodePubkey,
        /// For people and metric labels.
        alias: String,
        /// Virtual scid and what the hop over it costs.
        policy: FrontNodePolicy,
    },
    /// The leader decides which replica connects to a front node. Safety never depends on it.
    AssignLink {
        /// The front node.
        node: NodePubkey,
        /// Who shall hold its stream; `None`: nobody.
        replica: Option<ReplicaId>,
    },
    /// The assigned owner opened the interceptor stream. Answered with a new session number.
    LinkUp {
        /// The front node.
        node: NodePubkey,
        /// The owner.
        replica: ReplicaId,
        /// Names this very stream, so that a repeated proposal gets the same session.
        stream: RequestId,
    },
    /// The owner's stream survived a change of leader (or the owner is merely heard from): confirms the
    /// session in the entry's term and reports what it sees. Proposed once a second per link, and at once
    /// after a leader change or a new block.
    LinkReport {
        /// The front node.
        node: NodePubkey,
        /// The session that is reported on.
        session: SessionId,
        /// The node's chain tip.
        tip: Option<ChainTip>,
        /// Channels with held HTLCs that are not active at the moment.
        inactive_channels: Vec<u64>,
    },
    /// The stream of this session ended.
    LinkDown {
        /// The front node.
        node: NodePubkey,
        /// The session that ended.
        session: SessionId,
    },
    /// HTLCs that LND offered and the stateless checks passed.
    OfferHtlcs {
        /// The front node.
        node: NodePubkey,
        /// The session in which LND offered them.
        session: SessionId,
        /// At most [`OFFERS_PER_ENTRY_MAX`].
        offers: Vec<HtlcOffer>,
    },
    /// LND says how HTLCs ended.
    HtlcFinals {
        /// The front node.
        node: NodePubkey,
        /// At most [`FINALS_PER_ENTRY_MAX`].
        finals: Vec<HtlcFinal>,
    },
    /// An operator's word on an HTLC whose end LND can no longer tell. Audited by the event it leaves.
    ResolveHtlc {
        /// The HTLC.
        key: CircuitKey,
        /// Whether its money arrived.
        settled: bool,
    },
    /// Stores an invoice.
    AddInvoice(Box<NewInvoice>),
    /// Settle what is accepted for this hash.
    SettleInvoice {
        /// The invoice.
        hash: PaymentHash,
        /// Only this set.
        set_id: Option<SetId>,
        /// For an invoice made for a caller's hash: must match the hash, taken only while ACCEPTED.
        preimage: Option<Preimage>,
        /// With the gate closed: `true` keeps the intent, so that the set settles when the gate opens.
        keep_intent: bool,
    },
    /// Cancels an invoice, or only the set that is accepted or being collected for it.
    CancelInvoice {
        /// The invoice.
        hash: PaymentHash,
        /// What to cancel.
        scope: CancelScope,
    },
    /// Every member knows this feature level: from here on its commands may be proposed and its rules apply.
    /// Level 2.
    RaiseFeatureLevel {
        /// Never lowers it.
        level: u16,
        /// The first version of `muxd` that knows the level, for the message of one that does not.
        version: String,
    },
    /// How long finished invoices are kept. Level 2.
    SetRetention {
        /// Counted from their end; `None`: for ever.
        keep_finished_ms: Option<LogTimeMs>,
    },
    /// After a restoration: an operator does not wait for LND's word on what is still in doubt. Level 2.
    AcceptRestoration,
    /// From here on this replica is the one with this store, and no other. Proposed by the leader. Level 2.
    EnrolStore {
        /// Its id.
        replica: ReplicaId,
        /// Names its data directory.
        store: StoreId,
    },
    /// Committed entries that replicas have confirmed to have: where their logs end at least, should one come
    /// back with an older disk. Proposed by the leader every few seconds. Level 2.
    NoteLogs {
        /// By replica, without those that confirmed nothing new.
        ends: Vec<(ReplicaId, LogPosition)>,
    },
    /// Adds a front node, or changes how a known one is reached, its alias or its policy (see
    /// [`Command::PutFrontNode`]). One that was removed comes back. Level 2.
    PutFrontNodeAccess {
        /// The LND node's identity key.
        node: NodePubkey,
        /// For people and metric labels.
        alias: String,
        /// Virtual scid and what the hop over it costs.
        policy: FrontNodePolicy,
        /// Where and how; at most [`ACCESS_BYTES_MAX`] in all.
        access: FrontNodeAccess,
    },
    /// Lets new invoices name a front node, or not. Level 2.
    SetFrontNodeDisabled {
        /// The front node.
        node: NodePubkey,
        /// No new invoice names it; its link goes on.
        disabled: bool,
    },
    /// Ends a front node's link for good. Level 2.
    RemoveFrontNode {
        /// The front node.
        node: NodePubkey,
        /// Even if the end of some of its HTLCs is not known.
        force: bool,
    },
    /// This replica is about to be removed: its id never comes back. Level 2.
    RetireReplica {
        /// Its id.
        replica: ReplicaId,
    },
}

/// The most bytes of [`Command::PutFrontNodeAccess::access`]: keeps an entry below the store's 7 KB.
pub const ACCESS_BYTES_MAX: usize = 6_000;

/// The most offers that a batch carries: keeps an entry below the store's 7 KB.
pub const OFFERS_PER_ENTRY_MAX: usize = 16;

/// The most finals that a batch carries.
pub const FINALS_PER_ENTRY_MAX: usize = 64;

/// What [`Command::CancelInvoice`] cancels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelScope {
    /// The invoice itself, with any undecided set.
    Invoice,
    /// The undecided set of this id (`None`: whichever it is); the invoice stays payable.
    Set(Option<SetId>),
    /// A stateless invoice that nobody has paid yet: leaves a tombstone until its expiry. If an HTLC has
    /// created it meanwhile, as [`CancelScope::Invoice`].
    Unseen {
        /// From its payment secret.
        terms: InvoiceTerms,
        /// Its payment secret.
        secret: PaymentSecret,
    },
}

/// A front node's chain tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainTip {
    /// Its height.
    pub height: BlockHeight,
    /// Its block hash.
    pub hash: [u8; 32],
    /// LND's `synced_to_chain`.
    pub synced: bool,
}

/// An HTLC of ours as LND offered it, peeled and checked by its proposer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcOffer {
    /// Incoming channel at the front node.
    pub chan_id: u64,
    /// Index of the HTLC in that channel.
    pub htlc_id: u64,
    /// The hash it pays.
    pub hash: PaymentHash,
    /// From the onion; opened and found genuine by the proposer.
    pub secret: PaymentSecret,
    /// What the secret says the invoice is.
    pub terms: InvoiceTerms,
    /// From the onion.
    pub total_msat: Msat,
    /// What counts.
    pub outgoing_amount_msat: Msat,
    /// What the HTLC carries; the proposer checked it against the outgoing amount and the hop's fee.
    pub incoming_amount_msat: Msat,
    /// What the payer's onion left for the last hop.
    pub outgoing_expiry: BlockHeight,
    /// When the HTLC really ends.
    pub incoming_expiry: BlockHeight,
    /// LND's own deadline: `incoming_expiry - 19`, or at least `incoming_expiry` for an HTLC on chain.
    pub auto_fail_height: u32,
    /// `auto_fail_height >= incoming_expiry`.
    pub on_chain: bool,
}

/// How an HTLC ended, by LND's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HtlcFinal {
    /// Incoming channel.
    pub chan_id: u64,
    /// Index in that channel.
    pub htlc_id: u64,
    /// What LND says.
    pub outcome: FinalOutcome,
}

/// LND's word on the end of an HTLC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalOutcome {
    /// `final_htlc_event` or `LookupHtlcResolution`: final and settled. The money is ours.
    Settled,
    /// Final and not settled.
    Failed,
    /// LND failed it (auto-fail, peer flap) without our answer; not final yet, but gone for us.
    FailedByLnd,
    /// It was resolved and no record of how can be had.
    Unconfirmed,
}

/// An invoice to store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInvoice {
    /// The hash.
    pub hash: PaymentHash,
    /// Its payment secret.
    pub secret: PaymentSecret,
    /// What the secret says.
    pub terms: InvoiceTerms,
    /// The BOLT 11 text.
    pub payment_request: String,
    /// Plain description, or empty.
    pub description: String,
    /// Or its hash.
    pub description_hash: Option<[u8; 32]>,
}

impl fmt::Debug for NewInvoice {
    /// Without the payment request, which contains the payment secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("NewInvoice");
        text.field("hash", &self.hash).field("terms", &self.terms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::InvoiceKind;
    use super::*;

    #[test]
    fn a_payment_request_does_not_print() {
        let terms = InvoiceTerms {
            kind: InvoiceKind::Stored,
            amount_msat: Msat(1),
            expires_at_ms: 1,
            min_final_cltv: 80,
            key_epoch: 1,
        };
        let new = NewInvoice {
            hash: PaymentHash([1; 32]),
            secret: PaymentSecret([2; 32]),
            terms,
            payment_request: "lnbc1secret".into(),
            description: String::new(),
            description_hash: None,
        };
        let text = format!("{:?}", Command::AddInvoice(Box::new(new)));
        assert!(text.contains("NewInvoice") && !text.contains("lnbc1"), "{text}");
    }
}

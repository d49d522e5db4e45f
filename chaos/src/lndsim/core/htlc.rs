use super::failure::Failure;
use mux_proto::{lndsim::v1 as ctl, routerrpc};
use mux_raft::types::{PaymentHash, Preimage};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// `CltvRejectDelta`: blocks before an HTLC's expiry at which LND fails it back by itself (lncfg/config.go).
pub(super) const CLTV_REJECT_DELTA: u32 = 19;
/// `CltvInterceptDelta`: blocks an HTLC must have left to be offered, or kept through a replay.
pub(super) const CLTV_INTERCEPT_DELTA: u32 = 22;
/// Blocks before an incoming HTLC's expiry at which LND goes on chain with a preimage it knows.
pub(super) const BROADCAST_DELTA: u32 = 16;

/// An HTLC of this node: incoming channel and index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HtlcKey {
    /// The incoming channel.
    pub chan_id: u64,
    /// Index in it.
    pub htlc_id: u64,
}

impl fmt::Display for HtlcKey {
    /// As `models.CircuitKey` prints in LND's error texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (block, tx, output) =
            (self.chan_id >> 40, (self.chan_id >> 16) & 0xff_ffff, self.chan_id & 0xffff);
        write!(f, "(Chan ID={block}:{tx}:{output}, HTLC ID={})", self.htlc_id)
    }
}

/// What the payer's peer locked in; never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Name.
    pub key: HtlcKey,
    /// Order of arrival at the node.
    pub arrival: u64,
    /// When, in milliseconds since the Unix epoch.
    pub added_unix_ms: u64,
    /// The hash it is locked to.
    pub payment_hash: PaymentHash,
    /// What the HTLC carries.
    pub incoming_amount_msat: u64,
    /// What the onion says to forward.
    pub outgoing_amount_msat: u64,
    /// When the HTLC times out.
    pub incoming_expiry: u32,
    /// What the onion says for the next one.
    pub outgoing_expiry: u32,
    /// The channel the onion asks for.
    pub requested_chan_id: u64,
    /// The node the onion asks for, of a forward by node id; else empty.
    pub requested_node_id: Vec<u8>,
    /// For the next hop, 1366 bytes; emptied once nobody can ask for it any more.
    pub onion_blob: Vec<u8>,
    /// Of the node's own hop payload.
    pub custom_records: BTreeMap<u64, Vec<u8>>,
    /// Of the incoming message.
    pub in_wire_custom_records: BTreeMap<u64, Vec<u8>>,
    /// What the peer behind a real outgoing channel would settle with.
    pub downstream_preimage: Option<Preimage>,
}

/// What an answer does to an HTLC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// update_fulfill_htlc.
    Settle(Preimage),
    /// update_fail_htlc.
    Fail(Failure),
}

impl Resolution {
    /// Whether it settles.
    #[must_use]
    pub fn settles(&self) -> bool {
        matches!(self, Self::Settle(_))
    }
}

/// Where an HTLC is. The mailbox is not here: it is memory, and lost with the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// In both commitments, nothing sent about it.
    Locked,
    /// The resolution is sent but not signed.
    Sent(Resolution),
    /// The node signed a commitment of the peer without it: no replay any more.
    Signed(Resolution),
    /// The peer revoked the commitment that had it; the node's own still has it.
    Revoked(Resolution),
    /// The commitment with it is confirmed.
    OnChain(OnChain),
    /// Gone, with event and record.
    Final(FinalResolution),
    /// Gone without either; the payload says whether the node has the money.
    Vanished(bool),
}

impl Stage {
    /// Whether it still is in the node's own commitment of an open channel.
    #[must_use]
    pub fn in_local_commitment(&self) -> bool {
        matches!(self, Self::Locked | Self::Sent(_) | Self::Signed(_) | Self::Revoked(_))
    }

    /// Whether nothing more can happen to it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Final(_) | Self::Vanished(_))
    }
}

/// An HTLC output of a confirmed commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnChain {
    /// Of the node's own commitment: sweeping takes two stages.
    pub own_commitment: bool,
    /// What the node claims it with.
    pub claim: Option<Preimage>,
    /// When the claim confirmed.
    pub claimed_height: Option<u32>,
}

/// The truth about an HTLC, as in `final_htlc_event` and `LookupHtlcResolution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalResolution {
    /// The node has the money.
    pub settled: bool,
    /// Resolved by the peers among themselves.
    pub offchain: bool,
    /// `LookupHtlcResolution` knows it.
    pub recorded: bool,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// A forward into a real channel of the node, after RESUME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// The outgoing channel.
    pub chan_id: u64,
    /// Index there.
    pub htlc_id: u64,
    /// Sent on.
    pub amount_msat: u64,
    /// What came back.
    pub result: Option<Resolution>,
}

/// An answer of a client, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerEntry {
    /// SETTLE, FAIL, RESUME or RESUME_MODIFIED.
    pub action: String,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Empty, or the error that ended the stream.
    pub error: String,
    /// To the offer on chain.
    pub on_chain: bool,
}

/// What has become of an HTLC so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where it is.
    pub stage: Stage,
    /// The payer's side has the preimage.
    pub preimage_revealed: bool,
    /// Resumed into a real channel.
    pub forwarded: Option<Forwarded>,
    /// Offers to clients, replays included.
    pub offers: u32,
    /// What clients said.
    pub answers: Vec<AnswerEntry>,
    /// Sequence number of what the payer was told.
    pub outcome_seq: Option<u64>,
}

/// An HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Htlc {
    /// What it is.
    pub(super) terms: Terms,
    /// What became of it.
    pub(super) progress: Progress,
}

impl Htlc {
    /// One that was just locked in.
    #[must_use]
    pub(super) fn new(terms: Terms) -> Self {
        let progress = Progress {
            stage: Stage::Locked,
            preimage_revealed: false,
            forwarded: None,
            offers: 0,
            answers: Vec::new(),
            outcome_seq: None,
        };
        Self { terms, progress }
    }

    /// The height at which LND fails it back by itself while it is off-chain.
    #[must_use]
    pub(super) fn auto_fail_height(&self) -> u32 {
        self.terms.incoming_expiry.saturating_sub(CLTV_REJECT_DELTA)
    }

    /// The offer to the interceptor.
    #[must_use]
    pub(super) fn offer(&self, on_chain: bool) -> routerrpc::ForwardHtlcInterceptRequest {
        let terms = &self.terms;
        let records =
            |map: &BTreeMap<u64, Vec<u8>>| map.iter().map(|(k, v)| (*k, v.clone().into())).collect();
        let deadline = if on_chain { terms.incoming_expiry } else { self.auto_fail_height() };
        routerrpc::ForwardHtlcInterceptRequest {
            incoming_circuit_key: Some(routerrpc::CircuitKey {
                chan_id: terms.key.chan_id,
                htlc_id: terms.key.htlc_id,
            }),
            payment_hash: terms.payment_hash.0.to_vec().into(),
            outgoing_amount_msat: terms.outgoing_amount_msat,
            outgoing_expiry: terms.outgoing_expiry,
            incoming_amount_msat: terms.incoming_amount_msat,
            incoming_expiry: terms.incoming_expiry,
            outgoing_requested_chan_id: terms.requested_chan_id,
            custom_records: records(&terms.custom_records),
            onion_blob: terms.onion_blob.clone().into(),
            auto_fail_height: i32::try_from(deadline).unwrap_or(i32::MAX),
            in_wire_custom_records: records(&terms.in_wire_custom_records),
            outgoing_requested_node_id: terms.requested_node_id.clone().into(),
        }
    }
}

/// What the payer learned, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// From 1, gap-free.
    pub seq: u64,
    /// Which HTLC.
    pub key: HtlcKey,
    /// Its hash.
    pub payment_hash: PaymentHash,
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// What.
    pub result: Resolution,
}

impl From<&Outcome> for ctl::Outcome {
    fn from(outcome: &Outcome) -> Self {
        let result = match &outcome.result {
            Resolution::Settle(preimage) => ctl::outcome::Result::SettledPreimage(preimage.0.to_vec().into()),
            Resolution::Fail(failure) => ctl::outcome::Result::Failed(failure.into()),
        };
        Self {
            seq: outcome.seq,
            chan_id: outcome.key.chan_id,
            htlc_id: outcome.key.htlc_id,
            payment_hash: outcome.payment_hash.0.to_vec().into(),
            unix_ms: outcome.unix_ms,
            result: Some(result),
        }
    }
}

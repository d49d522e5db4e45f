//! The state's records as clients see them. The only place that puts a preimage into an answer.

use crate::keys::ClusterKeys;
use mux_proto::mux::v1 as proto;
use mux_raft::archive::FoundInvoice;
use mux_raft::machine::model::{
    Event, EventKind, FailReason, FinalState, Htlc, Invoice, InvoiceKind, InvoiceState, Verdict,
};
use mux_raft::types::{Msat, Preimage, SetId};

/// The preimage of an invoice that is decided in applied state; nothing before. Promise 1.
pub(super) fn preimage(keys: &ClusterKeys, invoice: &Invoice) -> Option<Preimage> {
    if !invoice.state.is_decided() {
        return None;
    }
    match invoice.terms.kind {
        InvoiceKind::Hold => invoice.preimage.clone(),
        InvoiceKind::Stored | InvoiceKind::Stateless => {
            keys.secrets().preimage(&invoice.hash, &invoice.secret)
        }
    }
}

/// An invoice with the HTLCs of its set.
pub(super) fn invoice(keys: &ClusterKeys, found: &FoundInvoice) -> proto::Invoice {
    let invoice = &found.invoice;
    let set = invoice.set.as_ref();
    proto::Invoice {
        hash: bytes(&invoice.hash.0),
        state: invoice_state(invoice.state).into(),
        amount_msat: invoice.terms.amount_msat.0,
        amount_paid_msat: set.map_or(0, |set| set.sum_msat.0),
        amount_received_msat: invoice.received_msat.0,
        payment_request: invoice.payment_request.clone(),
        description: invoice.description.clone(),
        description_hash: invoice.description_hash.map_or_else(Default::default, |hash| bytes(&hash)),
        created_at_ms: invoice.created_at_ms,
        expires_at_ms: invoice.terms.expires_at_ms,
        decided_at_ms: invoice.decided_at_ms,
        finalized_at_ms: invoice.finalized_at_ms,
        set_id: set.and_then(|set| set.id).map_or_else(Default::default, |id| bytes(&id.0)),
        add_index: invoice.add_index,
        decision_index: invoice.decision_index,
        settle_index: invoice.settle_index,
        stateless: invoice.terms.kind == InvoiceKind::Stateless,
        preimage: preimage(keys, invoice).map_or_else(Default::default, |preimage| bytes(&preimage.0)),
        htlcs: found.htlcs.iter().map(htlc).collect(),
        settle_deadline_height: found.settle_deadline_height.unwrap_or(0),
    }
}

/// An HTLC.
pub(super) fn htlc(htlc: &Htlc) -> proto::HtlcInfo {
    proto::HtlcInfo {
        front_node: bytes(&htlc.key.node.0),
        chan_id: htlc.key.chan_id,
        htlc_id: htlc.key.htlc_id,
        hash: bytes(&htlc.hash.0),
        outgoing_amount_msat: htlc.outgoing_amount_msat.0,
        incoming_amount_msat: htlc.incoming_amount_msat.0,
        incoming_expiry: htlc.incoming_expiry,
        verdict: verdict(htlc.verdict),
        r#final: final_state(htlc.final_state).into(),
        on_chain: htlc.on_chain,
        session: htlc.session,
    }
}

fn verdict(verdict: Option<Verdict>) -> String {
    match verdict {
        None => "held".into(),
        Some(Verdict::Settle) => "settle".into(),
        Some(Verdict::Fail(reason)) => format!("fail: {}", fail_reason(reason)),
    }
}

/// Why an HTLC was failed, for people.
pub(super) fn fail_reason(reason: FailReason) -> String {
    match reason {
        FailReason::IncorrectDetails { cause, .. } => format!("incorrect details ({cause:?})"),
        FailReason::MppTimeout => "mpp timeout".into(),
        FailReason::Temporary { cause } => format!("temporary ({cause:?})"),
    }
}

fn final_state(state: FinalState) -> &'static str {
    match state {
        FinalState::Open => "open",
        FinalState::Settled => "settled",
        FinalState::Failed => "failed",
        FinalState::Unconfirmed => "unconfirmed",
        FinalState::OperatorSettled => "operator-settled",
        FinalState::OperatorLost => "operator-lost",
    }
}

/// An invoice's state.
pub(super) fn invoice_state(state: InvoiceState) -> proto::InvoiceState {
    match state {
        InvoiceState::Open => proto::InvoiceState::Open,
        InvoiceState::Accepted => proto::InvoiceState::Accepted,
        InvoiceState::Settling => proto::InvoiceState::Settling,
        InvoiceState::Settled => proto::InvoiceState::Settled,
        InvoiceState::Partial => proto::InvoiceState::Partial,
        InvoiceState::Canceled => proto::InvoiceState::Canceled,
        InvoiceState::Expired => proto::InvoiceState::Expired,
    }
}

/// An event.
pub(super) fn event(event: &Event) -> proto::SubscribeEventsResponse {
    let told = Told::of(&event.kind);
    proto::SubscribeEventsResponse {
        sequence: event.sequence,
        kind: told.kind.into(),
        hash: bytes(&event.hash.0),
        log_time_ms: event.time_ms,
        invoice_state: invoice_state(event.state).into(),
        amount_msat: told.amount_msat.0,
        set_id: told.set_id.map_or_else(Default::default, |id| bytes(&id.0)),
        detail: told.detail,
    }
}

/// What differs between kinds of events.
struct Told {
    kind: proto::EventKind,
    amount_msat: Msat,
    set_id: Option<SetId>,
    detail: String,
}

impl Told {
    fn of(kind: &EventKind) -> Self {
        let plain = |kind| Self { kind, amount_msat: Msat::ZERO, set_id: None, detail: String::new() };
        match kind {
            EventKind::Added => plain(proto::EventKind::Added),
            EventKind::HtlcJoined { key, amount_msat } => Self {
                amount_msat: *amount_msat,
                detail: key.to_string(),
                ..plain(proto::EventKind::HtlcJoined)
            },
            EventKind::Accepted { set_id, amount_msat } => {
                Self { amount_msat: *amount_msat, set_id: Some(*set_id), ..plain(proto::EventKind::Accepted) }
            }
            EventKind::SetFailed { reason, amount_msat } => Self {
                amount_msat: *amount_msat,
                detail: fail_reason(*reason),
                ..plain(proto::EventKind::SetFailed)
            },
            EventKind::Settling { set_id, amount_msat } => {
                Self { amount_msat: *amount_msat, set_id: Some(*set_id), ..plain(proto::EventKind::Settling) }
            }
            EventKind::Settled { received_msat } => {
                Self { amount_msat: *received_msat, ..plain(proto::EventKind::Settled) }
            }
            EventKind::Partial { received_msat } => {
                Self { amount_msat: *received_msat, ..plain(proto::EventKind::Partial) }
            }
            EventKind::Canceled => plain(proto::EventKind::Canceled),
            EventKind::Voided => Self {
                detail: "voided by the restoration from a backup: it may have been paid after it".into(),
                ..plain(proto::EventKind::Canceled)
            },
            EventKind::Expired => plain(proto::EventKind::Expired),
            EventKind::HtlcFinal { key, state } => {
                let kind = match state {
                    FinalState::Unconfirmed => proto::EventKind::HtlcUnconfirmed,
                    _ => proto::EventKind::HtlcFinal,
                };
                Self { detail: format!("{key} {}", final_state(*state)), ..plain(kind) }
            }
        }
    }
}

/// Bytes for a message.
pub(super) fn bytes(of: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(of)
}

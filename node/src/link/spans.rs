//! The life of an HTLC as spans: offered, screened, proposed, answered. Nothing costs anything here while
//! neither the log's level nor an exporter asks for it.

use super::core::Answer;
use crate::lnd::FrontNodeConfig;
use mux_raft::trace::{self, TraceContext};
use mux_raft::types::{CircuitKey, NodePubkey, PaymentHash};
use tracing::Span;

/// From LND's offer to the answer. All HTLCs of a payment share a trace, at whatever replica they arrive.
pub(super) fn htlc(node: &NodePubkey, key: &CircuitKey, hash: &PaymentHash) -> Span {
    let front_node = node.short();
    let span =
        tracing::debug_span!(parent: None, "htlc", front_node, circuit_key = %key, payment_hash = %hash);
    if !span.is_disabled() {
        let _ = trace::begin(&span, Some(TraceContext::of_payment(&hash.0)));
    }
    span
}

/// A proposal made for several HTLCs, and what it carries to the leader. It belongs to the trace of the first payment that
/// is recorded, and shows the way to those of the others.
pub(super) fn proposal(htlcs: &[Span]) -> (Span, Option<TraceContext>) {
    let Some(first) = htlcs.iter().find(|htlc| trace::is_recorded(htlc)).or_else(|| htlcs.first()) else {
        return (Span::none(), None);
    };
    let span = tracing::debug_span!(parent: first, "htlcs_proposed", count = htlcs.len());
    for htlc in htlcs.iter().filter(|htlc| htlc.id() != first.id()) {
        span.follows_from(htlc);
    }
    let context = (!span.is_disabled()).then(|| trace::begin(&span, None));
    (span, context)
}

/// The line of an answer. There is one for each HTLC, so it is for debugging.
pub(super) fn answered(front: &FrontNodeConfig, answer: &Answer) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let (action, reason) = answer.action.labels();
    answer.span.in_scope(|| {
        tracing::debug!(
            front_node = %front.alias, circuit_key = %answer.key(&front.node),
            payment_hash = %hex::encode(&answer.request.payment_hash), action, reason,
            waited_ms = answer.waited_ms, term = answer.at.term, index = answer.at.index, "HTLC answered"
        );
    });
}

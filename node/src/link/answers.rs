//! From the core's answers to LND's messages. Preimages pass through here and nowhere else.

use super::core::{Action, Answer};
use super::screener::{Failure, Screener};
use mux_proto::routerrpc::{CircuitKey, ForwardHtlcInterceptResponse, ResolveHoldForwardAction};
use mux_raft::types::Preimage;

/// A decided HTLC whose preimage cannot be had: another seed, or a damaged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no preimage for a decided HTLC")]
pub(super) struct NoPreimage;

/// Makes LND's message. Slow for failures (elliptic curves): not for async threads.
pub(super) fn response(
    answer: &Answer,
    screener: &dyn Screener,
) -> Result<ForwardHtlcInterceptResponse, NoPreimage> {
    let key = CircuitKey { chan_id: answer.htlc.chan_id, htlc_id: answer.htlc.htlc_id };
    let empty = ForwardHtlcInterceptResponse {
        incoming_circuit_key: Some(key),
        // Not the zero value, which is SETTLE.
        action: ResolveHoldForwardAction::Fail.into(),
        ..ForwardHtlcInterceptResponse::default()
    };
    let fail = |failure: Failure| match failure {
        Failure::Message(bytes) => {
            ForwardHtlcInterceptResponse { failure_message: bytes.into(), ..empty.clone() }
        }
        Failure::Code(code) => ForwardHtlcInterceptResponse { failure_code: code.into(), ..empty.clone() },
    };
    match &answer.action {
        Action::Resume => {
            Ok(ForwardHtlcInterceptResponse { action: ResolveHoldForwardAction::Resume.into(), ..empty })
        }
        Action::Fail(reason) => Ok(fail(screener.failure(&answer.request, *reason))),
        Action::Reject { failure, cause: _ } => Ok(fail(failure.clone())),
        Action::Settle { hash, secret, preimage } => {
            let preimage = match preimage {
                Some(preimage) => Some(preimage.clone()),
                None => screener.preimage(hash, secret),
            };
            // LND ends the stream for a wrong one, so it is checked here once more.
            let preimage = preimage.filter(|preimage: &Preimage| preimage.payment_hash() == *hash);
            let preimage = preimage.ok_or(NoPreimage)?;
            Ok(ForwardHtlcInterceptResponse {
                action: ResolveHoldForwardAction::Settle.into(),
                preimage: preimage.0.to_vec().into(),
                ..empty
            })
        }
    }
}

//! A client's answer, checked as the RPC layer checks it, before it reaches the held set
//! (lnrpc/routerrpc/forward_interceptor.go). Every error ends the stream.

use super::{
    failure::{Code, Failure},
    htlc::HtlcKey,
    output::StreamError,
};
use mux_proto::{
    lnrpc::failure::FailureCode,
    routerrpc::{ForwardHtlcInterceptResponse, ResolveHoldForwardAction},
};
use mux_raft::types::Preimage;

/// Length of `failure_message`: hmac 32, message and padding 256, their two lengths
/// (lnwire/onion_error.go).
const FAILURE_MESSAGE_BYTES: usize = 292;
/// First TLV type of custom records (lnwire/custom_records.go).
const MIN_CUSTOM_RECORD: u64 = 65_536;

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Settle(Preimage),
    Fail(Failure),
    /// With the amount to forward instead, if not 0.
    Resume {
        out_amount_msat: u64,
    },
}

/// The action's name, for the ledger.
pub(super) fn action_name(response: &ForwardHtlcInterceptResponse) -> String {
    ResolveHoldForwardAction::try_from(response.action)
        .map_or_else(|_| format!("{}", response.action), |action| action.as_str_name().to_owned())
}

/// Which HTLC an answer is for.
pub(super) fn key(response: &ForwardHtlcInterceptResponse) -> Option<HtlcKey> {
    let key = response.incoming_circuit_key.as_ref()?;
    Some(HtlcKey { chan_id: key.chan_id, htlc_id: key.htlc_id })
}

/// The answer's meaning, or LND's error.
pub(super) fn parse(response: &ForwardHtlcInterceptResponse) -> Result<(HtlcKey, Action), StreamError> {
    let key = key(response)
        .ok_or_else(|| StreamError::invalid("CircuitKey missing from ForwardHtlcInterceptResponse"))?;
    let action = match ResolveHoldForwardAction::try_from(response.action) {
        Ok(ResolveHoldForwardAction::Settle) => Action::Settle(preimage(&response.preimage)?),
        Ok(ResolveHoldForwardAction::Fail) => Action::Fail(failure(response)?),
        Ok(ResolveHoldForwardAction::Resume) => Action::Resume { out_amount_msat: 0 },
        Ok(ResolveHoldForwardAction::ResumeModified) => {
            if response.out_wire_custom_records.keys().any(|kind| *kind < MIN_CUSTOM_RECORD) {
                return Err(StreamError::invalid("failed to validate custom records"));
            }
            Action::Resume { out_amount_msat: response.out_amount_msat }
        }
        Err(_) => {
            let text = format!("unrecognized resolve action {}", response.action);
            return Err(StreamError::invalid(text));
        }
    };
    Ok((key, action))
}

fn preimage(bytes: &[u8]) -> Result<Preimage, StreamError> {
    if bytes.is_empty() {
        return Err(StreamError::unknown("missing preimage"));
    }
    let wrong = |_| StreamError::unknown(format!("invalid preimage length of {}, want 32", bytes.len()));
    bytes.try_into().map(Preimage).map_err(wrong)
}

fn failure(response: &ForwardHtlcInterceptResponse) -> Result<Failure, StreamError> {
    let code = response.failure_code;
    if !response.failure_message.is_empty() {
        if code != 0 {
            return Err(StreamError::invalid("failure message and failure code are mutually exclusive"));
        }
        if response.failure_message.len() != FAILURE_MESSAGE_BYTES {
            return Err(StreamError::invalid("failure message length invalid"));
        }
        return Ok(Failure::VirtualNode(response.failure_message.to_vec()));
    }
    match FailureCode::try_from(code) {
        Ok(FailureCode::Reserved | FailureCode::TemporaryChannelFailure) => Ok(Code::TemporaryChannelFailure),
        Ok(FailureCode::InvalidOnionVersion) => Ok(Code::InvalidOnionVersion),
        Ok(FailureCode::InvalidOnionHmac) => Ok(Code::InvalidOnionHmac),
        Ok(FailureCode::InvalidOnionKey) => Ok(Code::InvalidOnionKey),
        Err(_) => Err(StreamError::invalid(format!("unsupported failure code: {code}"))),
    }
    .map(Failure::FrontNode)
}

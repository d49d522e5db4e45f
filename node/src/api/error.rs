//! What goes wrong, in gRPC's words. This is the one table; handlers do not choose codes themselves.
//!
//! | who must act | code |
//! |---|---|
//! | caller: the request makes no sense | INVALID_ARGUMENT |
//! | caller: nothing of that name | NOT_FOUND |
//! | caller: the name is taken | ALREADY_EXISTS |
//! | caller: the state does not allow it (any more) | FAILED_PRECONDITION |
//! | try again, here or at another replica; certainly nothing happened | UNAVAILABLE |
//! | try the same again to find out; it may have happened | ABORTED, text "outcome unknown" |
//! | operator | INTERNAL |

use mux_raft::consensus::ProposeError;
use mux_raft::machine::Rejection;
use mux_raft::members::{MemberError, Refusal, RefusalKind};
use tonic::{Code, Status};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No such thing.
    #[error("{0}")]
    NotFound(String),
    /// The state does not allow it.
    #[error("{0}")]
    Precondition(String),
    /// There is one already.
    #[error("{0}")]
    Exists(String),
    /// Nothing happened; try again.
    #[error("{0}")]
    Unavailable(String),
    /// The position asked for is no longer kept.
    #[error("{0}")]
    OutOfRange(String),
    /// A fault of this program or its state.
    #[error("{0}")]
    Internal(String),
    /// The state machine said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// There is no answer from the state machine.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl ApiError {
    /// The code of the table.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Unavailable(_) => Code::Unavailable,
            Self::OutOfRange(_) => Code::OutOfRange,
            Self::Internal(_) => Code::Internal,
            Self::Rejected(rejection) => rejection_code(rejection),
            Self::Propose(ProposeError::Unavailable(_) | ProposeError::Fatal(_)) => Code::Unavailable,
            Self::Propose(ProposeError::Unknown(_)) => Code::Aborted,
        }
    }
}

fn rejection_code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::InvoiceExists(_) => Code::AlreadyExists,
        Rejection::UnknownInvoice(_) | Rejection::UnknownSet(_) | Rejection::UnknownFrontNode(_) => {
            Code::NotFound
        }
        Rejection::WrongState(_) | Rejection::NotAssigned | Rejection::Htlc(..) | Rejection::StaleSession => {
            Code::FailedPrecondition
        }
        Rejection::WrongPreimage(_) | Rejection::Invalid(_) => Code::InvalidArgument,
    }
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Refused(refusal) => refusal.into(),
            MemberError::Propose(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { kind, text }: Refusal) -> Self {
        match kind {
            RefusalKind::Invalid => Self::Invalid(text),
            RefusalKind::NotFound => Self::NotFound(text),
            RefusalKind::Exists => Self::Exists(text),
            RefusalKind::NotYet => Self::Unavailable(text),
            RefusalKind::Impossible | RefusalKind::NeedsForce => Self::Precondition(text),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let text = match &error {
            ApiError::Propose(ProposeError::Unknown(why)) => {
                format!(
                    "outcome unknown: it may or may not have happened; repeat the call to find out ({why})"
                )
            }
            // The code says "unavailable" already.
            ApiError::Propose(ProposeError::Unavailable(why)) => why.clone(),
            other => other.to_string(),
        };
        Self::new(error.code(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_raft::machine::model::InvoiceState;
    use mux_raft::types::{CircuitKey, NodePubkey, PaymentHash};

    #[test]
    fn every_failure_has_its_code() {
        let hash = PaymentHash([1; 32]);
        let node = NodePubkey([2; 33]);
        let key = CircuitKey { node, chan_id: 1, htlc_id: 2 };
        let table: Vec<(ApiError, Code)> = vec![
            (ProposeError::Unavailable("x".into()).into(), Code::Unavailable),
            (ProposeError::Unknown("x".into()).into(), Code::Aborted),
            (ProposeError::Fatal("x".into()).into(), Code::Unavailable),
            (Rejection::InvoiceExists(hash).into(), Code::AlreadyExists),
            (Rejection::UnknownInvoice(hash).into(), Code::NotFound),
            (Rejection::UnknownSet(hash).into(), Code::NotFound),
            (Rejection::UnknownFrontNode(node).into(), Code::NotFound),
            (Rejection::WrongState(InvoiceState::Settled).into(), Code::FailedPrecondition),
            (Rejection::WrongPreimage("x".into()).into(), Code::InvalidArgument),
            (Rejection::Invalid("x".into()).into(), Code::InvalidArgument),
            (Rejection::NotAssigned.into(), Code::FailedPrecondition),
            (Rejection::Htlc(key, "is final".into()).into(), Code::FailedPrecondition),
            (Rejection::StaleSession.into(), Code::FailedPrecondition),
            (ApiError::OutOfRange("x".into()), Code::OutOfRange),
        ];
        for (error, code) in table {
            assert_eq!(Status::from(error.clone()).code(), code, "{error:?}");
        }
        let unknown = Status::from(ApiError::from(ProposeError::Unknown("x".into())));
        assert!(unknown.message().contains("outcome unknown"), "clients and muxcli go by this");
    }
}

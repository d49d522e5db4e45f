use super::InterceptedHtlc;
use crate::keys::ClusterKeys;
use crate::onion::{FAILURE_PACKET_BYTES, FailureKey, FailureMessage, PeelError, peel};
use mux_proto::lnrpc::failure::FailureCode;
use mux_raft::machine::model::FailReason;
use mux_raft::types::Msat;

/// How an HTLC is failed.
#[derive(Clone, PartialEq, Eq)]
pub enum Failure {
    /// By the virtual node: for `failure_message`.
    Message(Box<[u8; FAILURE_PACKET_BYTES]>),
    /// By the front node: for `failure_code`.
    Code(FrontNodeCode),
}

/// What LND lets an interceptor make it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontNodeCode {
    /// Payers try another way.
    TemporaryChannelFailure,
    /// The onion's version is not 0.
    InvalidOnionVersion,
    /// The onion was altered, or is for somebody or something else.
    InvalidOnionHmac,
    /// The onion has no valid key (or not an onion's length, which LND reports the same).
    InvalidOnionKey,
}

impl Failure {
    /// Encrypts a message of the virtual node.
    #[must_use]
    pub fn message(key: &FailureKey, message: &FailureMessage) -> Self {
        Self::Message(Box::new(key.encrypt(message)))
    }
}

impl std::fmt::Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(_) => f.write_str("Message(…)"),
            Self::Code(code) => write!(f, "Code({code:?})"),
        }
    }
}

impl FrontNodeCode {
    /// LND's number for it (not BOLT 4's).
    #[must_use]
    pub fn lnd(self) -> FailureCode {
        match self {
            Self::TemporaryChannelFailure => FailureCode::TemporaryChannelFailure,
            Self::InvalidOnionVersion => FailureCode::InvalidOnionVersion,
            Self::InvalidOnionHmac => FailureCode::InvalidOnionHmac,
            Self::InvalidOnionKey => FailureCode::InvalidOnionKey,
        }
    }
}

impl From<PeelError> for FrontNodeCode {
    fn from(error: PeelError) -> Self {
        match error {
            PeelError::Version(_) => Self::InvalidOnionVersion,
            PeelError::Hmac => Self::InvalidOnionHmac,
            PeelError::Key | PeelError::Length(_) => Self::InvalidOnionKey,
        }
    }
}

/// How a recorded reason sounds. The same at every replica and at every replay: it depends on nothing but
/// the reason and the HTLC. `outgoing_amount_msat` is the HTLC's amount as its payer knows it.
#[must_use]
pub fn answer_for(reason: FailReason, outgoing_amount_msat: Msat, key: &FailureKey) -> Failure {
    match reason {
        FailReason::IncorrectDetails { height, cause: _ } => Failure::message(
            key,
            &FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: outgoing_amount_msat, height },
        ),
        FailReason::MppTimeout => Failure::message(key, &FailureMessage::MppTimeout),
        FailReason::Temporary { cause: _ } => Failure::Code(FrontNodeCode::TemporaryChannelFailure),
    }
}

/// As [`answer_for`], for an HTLC whose failure key is not at hand (a replay): peels its onion again.
#[must_use]
pub fn answer_recorded(keys: &ClusterKeys, htlc: &InterceptedHtlc<'_>, reason: FailReason) -> Failure {
    match peel(keys.node_secret(), &htlc.hash, htlc.onion) {
        Ok(peeled) => answer_for(reason, htlc.outgoing_amount_msat, &peeled.failure_key),
        // Recorded HTLCs were peeled before, so this is another onion under the same circuit key: not
        // LND as we know it. The answer has to be a failure all the same.
        Err(error) => Failure::Code(error.into()),
    }
}

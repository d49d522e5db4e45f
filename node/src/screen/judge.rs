use super::answer::{Failure, FrontNodeCode};
use super::htlc::InterceptedHtlc;
use crate::keys::ClusterKeys;
use crate::onion::{FailureKey, FailureMessage, FinalPayload, PeelError, peel};
use mux_raft::machine::command::HtlcOffer;
use mux_raft::machine::model::FrontNodePolicy;
use mux_raft::types::{BlockHeight, Msat};

/// What an HTLC is.
#[derive(Debug)]
pub enum Screened {
    /// Not over a scid of ours: RESUME.
    Foreign,
    /// Certainly not acceptable: FAIL, if the log does not know it.
    Reject {
        /// How.
        failure: Failure,
        /// For operators and metrics.
        cause: RejectCause,
    },
    /// Offered from the chain, and foreign or not acceptable: no answer at all. LND ends the stream for
    /// FAIL and RESUME of these.
    Silent,
    /// Genuine: for the log to decide. It may be on chain ([`HtlcOffer::on_chain`]).
    Offer {
        /// What to propose.
        offer: Box<HtlcOffer>,
        /// Encrypts the failure, should it come to that.
        failure_key: FailureKey,
    },
}

/// What was wrong. Payers do not hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectCause {
    /// Not an onion's length.
    OnionLength,
    /// Not an onion's version.
    OnionVersion,
    /// No valid key in the onion.
    OnionKey,
    /// The onion is not genuine.
    OnionHmac,
    /// We are asked to forward.
    NotFinal,
    /// The payload cannot be understood.
    Payload,
    /// The onion asks for more than the outgoing amount.
    OnionAmount,
    /// The onion asks for a later expiry than the outgoing one.
    OnionExpiry,
    /// The HTLC carries less than outgoing amount and fee.
    IncomingAmount,
    /// The HTLC ends before outgoing expiry and delta.
    IncomingExpiry,
    /// Nothing is paid, or nothing in total.
    ZeroAmount,
    /// Keysend or AMP.
    Spontaneous,
    /// No payment secret.
    NoPaymentData,
    /// Unknown hash or wrong secret: a probe, as a rule.
    SecretNotGenuine,
}

impl RejectCause {
    /// For metric labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::OnionLength => "onion_length",
            Self::OnionVersion => "onion_version",
            Self::OnionKey => "onion_key",
            Self::OnionHmac => "onion_hmac",
            Self::NotFinal => "not_final",
            Self::Payload => "payload",
            Self::OnionAmount => "onion_amount",
            Self::OnionExpiry => "onion_expiry",
            Self::IncomingAmount => "incoming_amount",
            Self::IncomingExpiry => "incoming_expiry",
            Self::ZeroAmount => "zero_amount",
            Self::Spontaneous => "spontaneous",
            Self::NoPaymentData => "no_payment_data",
            Self::SecretNotGenuine => "secret_not_genuine",
        }
    }
}

/// Why not, and how to say it.
enum Objection {
    Onion(PeelError),
    Says(RejectCause, FailureMessage),
    /// `incorrect_or_unknown_payment_details`.
    Details(RejectCause),
}

/// Judges an HTLC that the log does not know. `policy_of` gives the front node's policy, present or
/// former, of a virtual scid. `height` is the chain's height as known for the front node; without one the
/// failures that must name a height are replaced by the front node's temporary failure, which is what a
/// genuine HTLC gets then too.
#[must_use]
pub fn screen(
    keys: &ClusterKeys,
    htlc: &InterceptedHtlc<'_>,
    policy_of: impl Fn(u64) -> Option<FrontNodePolicy>,
    height: Option<BlockHeight>,
) -> Screened {
    let on_chain = htlc.is_on_chain();
    let Some(policy) = policy_of(htlc.scid) else {
        return if on_chain { Screened::Silent } else { Screened::Foreign };
    };
    let (objection, failure_key) = match peel(keys.node_secret(), &htlc.hash, htlc.onion) {
        Err(error) => (Objection::Onion(error), None),
        Ok(peeled) => {
            let judged = match &peeled.payload {
                _ if !peeled.is_final => {
                    Err(Objection::Says(RejectCause::NotFinal, FailureMessage::UnknownNextPeer))
                }
                Err(error) => Err(Objection::Says(
                    RejectCause::Payload,
                    FailureMessage::InvalidOnionPayload { tlv_type: error.tlv_type, offset: error.offset },
                )),
                Ok(payload) => judge(keys, htlc, &policy, payload),
            };
            match judged {
                Ok(offer) => {
                    return Screened::Offer { offer: Box::new(offer), failure_key: peeled.failure_key };
                }
                Err(objection) => (objection, Some(peeled.failure_key)),
            }
        }
    };
    if on_chain {
        return Screened::Silent;
    }
    let (failure, cause) = voice(objection, failure_key.as_ref(), htlc, height);
    Screened::Reject { failure, cause }
}

/// In the order in which a node that receives for itself checks: onion against HTLC, then the invoice.
fn judge(
    keys: &ClusterKeys,
    htlc: &InterceptedHtlc<'_>,
    policy: &FrontNodePolicy,
    payload: &FinalPayload,
) -> Result<HtlcOffer, Objection> {
    if payload.amt_to_forward > htlc.outgoing_amount_msat {
        let htlc_msat = htlc.outgoing_amount_msat;
        let message = FailureMessage::FinalIncorrectHtlcAmount { htlc_msat };
        return Err(Objection::Says(RejectCause::OnionAmount, message));
    }
    if payload.outgoing_cltv > htlc.outgoing_expiry {
        let cltv_expiry = htlc.outgoing_expiry;
        let message = FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry };
        return Err(Objection::Says(RejectCause::OnionExpiry, message));
    }
    check_hop(htlc, policy).map_err(Objection::Details)?;
    if htlc.outgoing_amount_msat == Msat::ZERO {
        return Err(Objection::Details(RejectCause::ZeroAmount));
    }
    if payload.has_keysend_preimage || payload.has_amp {
        return Err(Objection::Details(RejectCause::Spontaneous));
    }
    let Some(data) = &payload.payment_data else {
        return Err(Objection::Details(RejectCause::NoPaymentData));
    };
    if data.total_msat == Msat::ZERO {
        return Err(Objection::Details(RejectCause::ZeroAmount));
    }
    let terms = keys.secrets().open(&htlc.hash, &data.secret);
    let terms = terms.ok_or(Objection::Details(RejectCause::SecretNotGenuine))?;
    Ok(HtlcOffer {
        chan_id: htlc.chan_id,
        htlc_id: htlc.htlc_id,
        hash: htlc.hash,
        secret: data.secret.clone(),
        terms,
        total_msat: data.total_msat,
        outgoing_amount_msat: htlc.outgoing_amount_msat,
        incoming_amount_msat: htlc.incoming_amount_msat,
        outgoing_expiry: htlc.outgoing_expiry,
        incoming_expiry: htlc.incoming_expiry,
        auto_fail_height: u32::try_from(htlc.auto_fail_height).unwrap_or(0),
        on_chain: htlc.is_on_chain(),
    })
}

/// What the front node would check if it really forwarded.
fn check_hop(htlc: &InterceptedHtlc<'_>, policy: &FrontNodePolicy) -> Result<(), RejectCause> {
    let outgoing = htlc.outgoing_amount_msat;
    let base = Msat(u64::from(policy.fee_base_msat));
    let needed = outgoing.hop_fee(base, policy.fee_ppm).and_then(|fee| outgoing.checked_add(fee));
    if needed.is_none_or(|needed| htlc.incoming_amount_msat < needed) {
        return Err(RejectCause::IncomingAmount);
    }
    let needed = htlc.outgoing_expiry.checked_add(BlockHeight::from(policy.cltv_delta));
    if needed.is_none_or(|needed| htlc.incoming_expiry < needed) {
        return Err(RejectCause::IncomingExpiry);
    }
    Ok(())
}

fn voice(
    objection: Objection,
    key: Option<&FailureKey>,
    htlc: &InterceptedHtlc<'_>,
    height: Option<BlockHeight>,
) -> (Failure, RejectCause) {
    let temporary = Failure::Code(FrontNodeCode::TemporaryChannelFailure);
    let (cause, message) = match objection {
        Objection::Onion(error) => {
            let cause = match error {
                PeelError::Length(_) => RejectCause::OnionLength,
                PeelError::Version(_) => RejectCause::OnionVersion,
                PeelError::Key => RejectCause::OnionKey,
                PeelError::Hmac => RejectCause::OnionHmac,
            };
            return (Failure::Code(error.into()), cause);
        }
        Objection::Says(cause, message) => (cause, Some(message)),
        Objection::Details(cause) => (
            cause,
            height.map(|height| FailureMessage::IncorrectOrUnknownPaymentDetails {
                htlc_msat: htlc.outgoing_amount_msat,
                height,
            }),
        ),
    };
    let failure = match (key, message) {
        (Some(key), Some(message)) => Failure::message(key, &message),
        _ => temporary,
    };
    (failure, cause)
}

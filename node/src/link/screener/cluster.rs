use super::{Failure, ScreenContext, Screened, Screener};
use crate::keys::{ClusterKeys, is_virtual_scid};
use crate::screen::{self, InterceptedHtlc, answer_recorded};
use mux_proto::lnrpc::failure::FailureCode;
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::machine::model::FailReason;
use mux_raft::types::{PaymentHash, PaymentSecret, Preimage};
use std::sync::Arc;

/// Screens with the keys of the cluster.
#[derive(Clone, Debug)]
pub struct ClusterScreener {
    keys: Arc<ClusterKeys>,
}

impl ClusterScreener {
    /// With these keys.
    #[must_use]
    pub fn new(keys: Arc<ClusterKeys>) -> Self {
        Self { keys }
    }
}

impl Screener for ClusterScreener {
    fn may_be_ours(&self, scid: u64) -> bool {
        is_virtual_scid(scid)
    }

    fn screen(&self, request: &ForwardHtlcInterceptRequest, context: &ScreenContext) -> Screened {
        let Ok(htlc) = InterceptedHtlc::from_request(request) else { return Screened::Foreign };
        let policy_of = |scid| (scid == context.policy.scid).then_some(context.policy);
        match screen::screen(&self.keys, &htlc, policy_of, context.height) {
            screen::Screened::Foreign | screen::Screened::Silent => Screened::Foreign,
            screen::Screened::Reject { failure, cause } => {
                Screened::Reject { failure: failure.into(), cause: cause.label() }
            }
            screen::Screened::Offer { offer, failure_key: _ } => Screened::Offer(offer),
        }
    }

    fn failure(&self, request: &ForwardHtlcInterceptRequest, reason: FailReason) -> Failure {
        match InterceptedHtlc::from_request(request) {
            Ok(htlc) => answer_recorded(&self.keys, &htlc, reason).into(),
            Err(_) => Failure::Code(FailureCode::TemporaryChannelFailure),
        }
    }

    fn preimage(&self, hash: &PaymentHash, secret: &PaymentSecret) -> Option<Preimage> {
        self.keys.secrets().preimage(hash, secret)
    }
}

impl From<screen::Failure> for Failure {
    fn from(failure: screen::Failure) -> Self {
        match failure {
            screen::Failure::Message(packet) => Self::Message(packet.to_vec()),
            screen::Failure::Code(code) => Self::Code(code.lnd()),
        }
    }
}

use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::types::{BlockHeight, Msat, PaymentHash};

/// An HTLC as LND's interceptor shows it. Custom records, in the onion's outer layer or on the wire, say
/// nothing to us and are not here.
#[derive(Clone, Copy, Debug)]
pub struct InterceptedHtlc<'a> {
    /// Incoming channel.
    pub chan_id: u64,
    /// Index in that channel.
    pub htlc_id: u64,
    /// What it pays.
    pub hash: PaymentHash,
    /// What the payer told the front node to pass on.
    pub outgoing_amount_msat: Msat,
    /// Expiry that the payer told the front node to pass on.
    pub outgoing_expiry: BlockHeight,
    /// What it carries.
    pub incoming_amount_msat: Msat,
    /// When it ends.
    pub incoming_expiry: BlockHeight,
    /// The channel that it shall be forwarded over: the virtual scid, if it is for us.
    pub scid: u64,
    /// The onion for the next hop.
    pub onion: &'a [u8],
    /// When LND acts by itself.
    pub auto_fail_height: i32,
}

/// A request that LND never sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// There is nothing that an answer could refer to.
    #[error("the intercepted HTLC has no circuit key")]
    NoCircuitKey,
    /// Not 32 bytes.
    #[error("the intercepted HTLC has a payment hash of {0} bytes")]
    PaymentHash(usize),
}

impl<'a> InterceptedHtlc<'a> {
    /// From LND's message.
    ///
    /// # Errors
    /// [`MalformedRequest`].
    pub fn from_request(request: &'a ForwardHtlcInterceptRequest) -> Result<Self, MalformedRequest> {
        let key = request.incoming_circuit_key.as_ref().ok_or(MalformedRequest::NoCircuitKey)?;
        let hash = PaymentHash::try_from(&request.payment_hash[..])
            .map_err(|_| MalformedRequest::PaymentHash(request.payment_hash.len()))?;
        Ok(Self {
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            hash,
            outgoing_amount_msat: Msat(request.outgoing_amount_msat),
            outgoing_expiry: request.outgoing_expiry,
            incoming_amount_msat: Msat(request.incoming_amount_msat),
            incoming_expiry: request.incoming_expiry,
            scid: request.outgoing_requested_chan_id,
            onion: &request.onion_blob,
            auto_fail_height: request.auto_fail_height,
        })
    }

    /// Whether it is offered from the chain: then only SETTLE is an answer, and FAIL or RESUME end LND's
    /// stream. LND says so by `auto_fail_height ≥ incoming_expiry` (off chain it is 19 less). Zero or less
    /// is what LND versions that we refuse said for on-chain HTLCs, and no off-chain HTLC has it, so it
    /// counts as on-chain too: the side on which nothing is accepted and nothing is answered wrongly.
    #[must_use]
    pub fn is_on_chain(&self) -> bool {
        match BlockHeight::try_from(self.auto_fail_height) {
            Ok(0) | Err(_) => true,
            Ok(height) => height >= self.incoming_expiry,
        }
    }
}

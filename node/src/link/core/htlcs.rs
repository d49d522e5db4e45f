use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::types::CircuitKey;

/// An HTLC at this link's front node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HtlcId {
    /// Incoming channel.
    pub(crate) chan_id: u64,
    /// Index in that channel.
    pub(crate) htlc_id: u64,
}

impl From<CircuitKey> for HtlcId {
    fn from(key: CircuitKey) -> Self {
        Self { chan_id: key.chan_id, htlc_id: key.htlc_id }
    }
}

/// Whether this offer came from the chain, where only SETTLE may be answered. LND says it by its deadline
/// alone; the releases that said 0 are refused at the gate, but silence is the safe reading of it.
pub(super) fn is_on_chain(request: &ForwardHtlcInterceptRequest) -> bool {
    match u32::try_from(request.auto_fail_height) {
        Ok(0) | Err(_) => true,
        Ok(height) => height >= request.incoming_expiry,
    }
}

//! Decided HTLCs that do not become final in time.
//!
//! A SETTLE off chain does not make LND defend the money on chain: if the peer takes the preimage and stops
//! signing, LND waits until the peer may take the HTLC back.

use super::{LinkCore, MonoMs, Output};
use mux_raft::machine::State;
use mux_raft::machine::model::{Htlc, Verdict};
use mux_raft::types::{BlockHeight, CircuitKey, Msat};
use std::collections::BTreeMap;

/// LND goes on chain this many blocks before an expiry for HTLCs that it knows the preimage of.
const LND_BROADCAST_DELTA: BlockHeight = 16;

/// Less than this has no output on chain: LND's default limit of dust. (On a channel without anchors more than this is
/// dust, by what a claim costs there; LND does not tell.) It is paid off the chain or not at all, and is lost with its
/// channel.
const DUST_LIMIT: Msat = Msat(354_000);

/// How soon a close that failed is tried again. LND may be restarting; it is not to be flooded meanwhile.
const CLOSE_RETRY_MS: MonoMs = 10_000;

/// What was alarmed about already.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    alarmed: BTreeMap<CircuitKey, BlockHeight>,
    closing: BTreeMap<u64, Closing>,
}

/// A channel that is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// LND was asked; it has not failed to.
    Asked,
    /// Ask again, not before.
    Failed(MonoMs),
}

/// Closing its channel would lose it.
fn is_dust(htlc: &Htlc) -> bool {
    htlc.incoming_amount_msat < DUST_LIMIT
}

impl LinkCore {
    /// Raises the alarm for each endangered HTLC, once per block, and closes its channel, once, if there is anything to be
    /// had on chain.
    pub(super) fn check_rescue(&mut self, state: &State, now: MonoMs) {
        let node = self.config.node;
        let Some(height) = state.height_for(&node) else { return };
        let before = LND_BROADCAST_DELTA.saturating_add(self.config.rescue_margin);
        let endangered: Vec<_> = state
            .unresolved_htlcs(&node)
            .filter(|htlc| htlc.verdict == Some(Verdict::Settle))
            .filter(|htlc| height.saturating_add(before) >= htlc.incoming_expiry)
            .collect();
        // Both are ordered by key.
        self.rescue.alarmed.retain(|key, _| endangered.binary_search_by(|htlc| htlc.key.cmp(key)).is_ok());
        for htlc in endangered {
            if self.rescue.alarmed.insert(htlc.key, height) != Some(height) {
                self.outputs.push_back(Output::Alarm {
                    key: htlc.key,
                    hash: htlc.hash,
                    incoming_expiry: htlc.incoming_expiry,
                    height,
                    is_dust: is_dust(htlc),
                });
            }
            let due = match self.rescue.closing.get(&htlc.key.chan_id) {
                None => true,
                Some(Closing::Asked) => false,
                Some(Closing::Failed(not_before)) => now >= *not_before,
            };
            if self.config.force_close && !htlc.on_chain && !is_dust(htlc) && due {
                self.rescue.closing.insert(htlc.key.chan_id, Closing::Asked);
                self.outputs.push_back(Output::ForceClose { chan_id: htlc.key.chan_id });
            }
        }
    }

    /// The force-close did not go through: try again after a while.
    pub(crate) fn force_close_failed(&mut self, chan_id: u64, now: MonoMs) {
        self.rescue.closing.insert(chan_id, Closing::Failed(now.saturating_add(CLOSE_RETRY_MS)));
    }
}

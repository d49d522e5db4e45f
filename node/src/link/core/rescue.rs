//! Decided HTLCs that do not become final in time.
//!
//! A SETTLE off chain does not make LND defend the money on chain: if the peer takes the preimage and stops
//! signing, LND waits until the peer may take the HTLC back.

use super::{LinkCore, Output};
use mux_raft::machine::State;
use mux_raft::machine::model::Verdict;
use mux_raft::types::{BlockHeight, CircuitKey};
use std::collections::{BTreeMap, BTreeSet};

/// LND goes on chain this many blocks before an expiry for HTLCs that it knows the preimage of.
const LND_BROADCAST_DELTA: BlockHeight = 16;

/// What was alarmed about already.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    alarmed: BTreeMap<CircuitKey, BlockHeight>,
    closed: BTreeSet<u64>,
}

impl LinkCore {
    /// Raises the alarm for each endangered HTLC, once per block, and closes its channel, once.
    pub(super) fn check_rescue(&mut self, state: &State) {
        let node = self.config.node;
        let Some(height) = state.height_for(&node) else { return };
        let before = LND_BROADCAST_DELTA.saturating_add(self.config.rescue_margin);
        let endangered: Vec<_> = state
            .htlcs_of(&node)
            .filter(|htlc| htlc.verdict == Some(Verdict::Settle) && !htlc.final_state.is_final())
            .filter(|htlc| height.saturating_add(before) >= htlc.incoming_expiry)
            .collect();
        self.rescue.alarmed.retain(|key, _| endangered.iter().any(|htlc| htlc.key == *key));
        for htlc in endangered {
            if self.rescue.alarmed.insert(htlc.key, height) != Some(height) {
                self.outputs.push_back(Output::Alarm {
                    key: htlc.key,
                    hash: htlc.hash,
                    incoming_expiry: htlc.incoming_expiry,
                    height,
                });
            }
            let channel = htlc.key.chan_id;
            if self.config.force_close && !htlc.on_chain && self.rescue.closed.insert(channel) {
                self.outputs.push_back(Output::ForceClose { chan_id: channel });
            }
        }
    }

    /// The force-close did not go through: try again at the next tick.
    pub(crate) fn force_close_failed(&mut self, chan_id: u64) {
        self.rescue.closed.remove(&chan_id);
    }
}

//! How HTLCs ended at a simulated LND, for those who wait for it.

use super::{HtlcKey, HtlcOutcome, NewHtlc};
use crate::ledger::FailureSource;
use mux_proto::lndsim::v1::{AddHtlcRequest, Outcome, htlc_failure::Speaker, outcome};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::oneshot;

enum Slot {
    Ended(HtlcOutcome),
    Awaited(oneshot::Sender<HtlcOutcome>),
}

/// One node's. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    slots: Arc<Mutex<HashMap<HtlcKey, Slot>>>,
}

impl Ends {
    /// An end that the node told. The first one of an HTLC stands: it has one.
    pub(crate) fn deliver(&self, outcome: Outcome) {
        let key = HtlcKey { chan_id: outcome.chan_id, htlc_id: outcome.htlc_id };
        let Some(ended) = read(outcome) else { return };
        let mut slots = self.slots.lock();
        match slots.remove(&key) {
            Some(Slot::Awaited(waiting)) => {
                // A payer that gave up does not listen any more.
                let _ = waiting.send(ended.clone());
                slots.insert(key, Slot::Ended(ended));
            }
            Some(first @ Slot::Ended(_)) => {
                slots.insert(key, first);
            }
            None => {
                slots.insert(key, Slot::Ended(ended));
            }
        }
    }

    /// Waits for an HTLC's end, however long that takes.
    pub(crate) async fn of(&self, key: HtlcKey) -> HtlcOutcome {
        let ended = {
            let mut slots = self.slots.lock();
            if let Some(Slot::Ended(outcome)) = slots.get(&key) {
                return outcome.clone();
            }
            let (sender, receiver) = oneshot::channel();
            slots.insert(key, Slot::Awaited(sender));
            receiver
        };
        match ended.await {
            Ok(outcome) => outcome,
            // Nobody delivers any more; whoever waits has a deadline.
            Err(_) => std::future::pending().await,
        }
    }
}

fn read(outcome: Outcome) -> Option<HtlcOutcome> {
    Some(match outcome.result? {
        outcome::Result::SettledPreimage(preimage) => HtlcOutcome::Settled(preimage),
        outcome::Result::Failed(failure) => {
            let code = u16::try_from(failure.bolt4_code).unwrap_or(0);
            match failure.speaker() {
                Speaker::VirtualNode => HtlcOutcome::Packet(failure.packet),
                Speaker::FrontNode => HtlcOutcome::FailedBy(FailureSource::FrontNode, code),
                Speaker::Downstream => HtlcOutcome::FailedBy(FailureSource::Downstream, code),
                Speaker::Upstream => HtlcOutcome::FailedBy(FailureSource::Upstream, code),
                Speaker::Unspecified => HtlcOutcome::FailedBy(FailureSource::Unreadable, code),
            }
        }
    })
}

impl From<NewHtlc> for AddHtlcRequest {
    fn from(htlc: NewHtlc) -> Self {
        Self {
            payment_hash: htlc.hash.map(|hash| hash.0.to_vec().into()).unwrap_or_default(),
            incoming_amount_msat: htlc.incoming_amount_msat,
            outgoing_amount_msat: htlc.outgoing_amount_msat,
            incoming_expiry: htlc.incoming_expiry,
            outgoing_expiry: htlc.outgoing_expiry,
            outgoing_requested_chan_id: htlc.outgoing_scid,
            onion_blob: htlc.onion,
            downstream_preimage: htlc.downstream_preimage,
            ..Self::default()
        }
    }
}

//! What happens to an HTLC that is resumed: the switch forwards it into a real channel of the node, or
//! fails it because there is none (a virtual short channel id).

use super::{
    Core,
    channel::Downstream,
    failure::{Code, Failure},
    htlc::{Forwarded, HtlcKey, Resolution, Stage},
};
use mux_proto::routerrpc::{self, htlc_event};
use mux_raft::types::Preimage;

impl Core {
    /// Forwards with `out_amount_msat` instead of the onion's amount, if not 0. A second forward of the
    /// same HTLC (replayed, resumed again) is dropped, as the circuit exists.
    pub(super) fn forward(&mut self, key: HtlcKey, out_amount_msat: u64) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        if htlc.progress.forwarded.is_some() || htlc.progress.stage != Stage::Locked {
            return;
        }
        let chan_id = htlc.terms.requested_chan_id;
        let amount_msat =
            if out_amount_msat == 0 { htlc.terms.outgoing_amount_msat } else { out_amount_msat };
        if !self.is_active(chan_id) {
            return self.fail_locally(key, Code::UnknownNextPeer);
        }
        let Some(channel) = self.channel_mut(chan_id) else { return };
        let Some(left) = channel.local_msat.checked_sub(amount_msat) else {
            return self.fail_locally(key, Code::TemporaryChannelFailure);
        };
        channel.local_msat = left;
        let htlc_id = channel.next_outgoing_id;
        channel.next_outgoing_id = htlc_id.saturating_add(1);
        if let Some(htlc) = self.htlc_mut(key) {
            let info = routerrpc::HtlcInfo {
                incoming_timelock: htlc.terms.incoming_expiry,
                outgoing_timelock: htlc.terms.outgoing_expiry,
                incoming_amt_msat: htlc.terms.incoming_amount_msat,
                outgoing_amt_msat: amount_msat,
            };
            htlc.progress.forwarded = Some(Forwarded { chan_id, htlc_id, amount_msat, result: None });
            let event = routerrpc::ForwardEvent { info: Some(info) };
            self.htlc_event(key, htlc_event::Event::ForwardEvent(event));
        }
        self.resolve_downstream(key);
    }

    /// The peer behind the outgoing channel does what it is told to.
    pub(super) fn resolve_downstream(&mut self, key: HtlcKey) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let Some(forwarded) = htlc.progress.forwarded.as_ref().filter(|out| out.result.is_none()) else {
            return;
        };
        let (chan_id, amount_msat) = (forwarded.chan_id, forwarded.amount_msat);
        let behaviour = self.db.channels.get(&chan_id).map_or(Downstream::Hold, |channel| channel.downstream);
        let result = match (behaviour, &htlc.terms.downstream_preimage) {
            (Downstream::Hold, _) => return,
            (Downstream::Settle, Some(preimage)) => Resolution::Settle(preimage.clone()),
            (Downstream::Settle | Downstream::Fail, _) => {
                Resolution::Fail(Failure::Downstream(Code::TemporaryChannelFailure))
            }
        };
        if let Some(channel) = self.channel_mut(chan_id) {
            let side = if result.settles() { &mut channel.remote_msat } else { &mut channel.local_msat };
            *side = side.saturating_add(amount_msat);
        }
        if let Some(out) = self.htlc_mut(key).and_then(|htlc| htlc.progress.forwarded.as_mut()) {
            out.result = Some(result.clone());
        }
        if let Resolution::Settle(preimage) = &result {
            self.learn_preimage(preimage);
        }
        self.redeliver(key);
    }

    /// Brings the downstream result to the incoming side, also once more after a restart.
    pub(super) fn redeliver(&mut self, key: HtlcKey) {
        let result =
            self.db.htlcs.get(&key).and_then(|htlc| htlc.progress.forwarded.as_ref()?.result.clone());
        if let Some(result) = result {
            drop(self.mailbox_add(key, result));
        }
    }

    /// The witness cache: whatever is on chain for this hash can be claimed.
    pub(super) fn learn_preimage(&mut self, preimage: &Preimage) {
        let hash = preimage.payment_hash();
        if self.db.witness.insert(hash, preimage.clone()).is_none() {
            self.dirty.records.push(super::Record::Witness(preimage.clone()));
        }
        let keys: Vec<HtlcKey> = self.db.live.iter().copied().collect();
        for key in keys {
            if self.db.htlcs.get(&key).is_some_and(|htlc| htlc.terms.payment_hash == hash) {
                self.claim(key);
            }
        }
    }
}

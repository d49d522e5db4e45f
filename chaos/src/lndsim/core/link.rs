//! The link: how an answer becomes final (htlcswitch/link.go, mailbox.go), and peers that come and go.
//!
//! Mailbox (memory) → sent (the payer's side has the preimage) → signed (acked, no replay) → revoked by the
//! peer → final. A channel's limit stops answers on the way; without one they go through at once.

use super::{
    Core,
    channel::{Limit, Status},
    htlc::{FinalResolution, HtlcKey, Outcome, Resolution, Stage},
    memory::{LoopInput, Timer},
    output::{Output, StreamError},
    record::Record,
};
use mux_proto::{
    lnrpc::{ChannelEventUpdate, channel_event_update as event},
    routerrpc::{self, htlc_event},
};
use mux_raft::types::Preimage;

impl Core {
    /// Puts a resolution into the mailbox. For an HTLC that is resolved already it is a spurious response:
    /// accepted, without effect.
    pub(super) fn mailbox_add(&mut self, key: HtlcKey, resolution: Resolution) -> Result<(), StreamError> {
        if self.mem.mailbox.contains_key(&key) {
            return Err(StreamError::unknown("mailbox already has packet"));
        }
        if self.db.htlcs.get(&key).is_some_and(|htlc| htlc.progress.stage == Stage::Locked) {
            self.mem.mailbox.insert(key, resolution);
            self.advance(key);
        }
        Ok(())
    }

    /// Moves an answer on as far as peer and limit let it.
    pub(super) fn advance(&mut self, key: HtlcKey) {
        while self.is_active(key.chan_id) {
            let Some(htlc) = self.db.htlcs.get(&key) else { return };
            let (here, resolution) = match &htlc.progress.stage {
                Stage::Locked => (Limit::Mailbox, self.mem.mailbox.get(&key).cloned()),
                Stage::Sent(resolution) => (Limit::Sent, Some(resolution.clone())),
                Stage::Signed(resolution) => (Limit::Signed, Some(resolution.clone())),
                Stage::Revoked(resolution) => (Limit::Revoked, Some(resolution.clone())),
                Stage::OnChain(_) | Stage::Final(_) | Stage::Vanished(_) => return,
            };
            let Some(resolution) = resolution else { return };
            if !self.passes_limit(key, here) {
                return;
            }
            self.step(key, here, resolution);
        }
    }

    fn passes_limit(&mut self, key: HtlcKey, here: Limit) -> bool {
        let Some(channel) = self.db.channels.get(&key.chan_id) else { return false };
        if here < channel.limit || self.mem.released.contains(&key) {
            return true;
        }
        if channel.limit_release_ms > 0 && self.mem.waiting.insert(key) {
            let at = self.now_ms.saturating_add(channel.limit_release_ms);
            self.mem.schedule(at, Timer::Release(key));
        }
        false
    }

    /// A limit's time is over for one answer.
    pub(super) fn release(&mut self, key: HtlcKey) {
        if self.mem.waiting.remove(&key) {
            self.mem.released.insert(key);
            self.advance(key);
        }
    }

    fn step(&mut self, key: HtlcKey, here: Limit, resolution: Resolution) {
        let next = match here {
            Limit::Mailbox => {
                self.announce_sent(key, &resolution);
                Stage::Sent(resolution)
            }
            Limit::Sent => {
                self.mem.mailbox.remove(&key);
                Stage::Signed(resolution)
            }
            Limit::Signed => Stage::Revoked(resolution),
            Limit::Revoked | Limit::Final => return self.finish_off_chain(key, &resolution),
        };
        if let Some(htlc) = self.htlc_mut(key) {
            htlc.progress.stage = next;
        }
    }

    /// The removal is sent to the peer: the event that proves nothing, and for a settle the payer's proof.
    fn announce_sent(&mut self, key: HtlcKey, resolution: &Resolution) {
        let event = match resolution {
            Resolution::Settle(preimage) => {
                self.reveal(key, preimage);
                let preimage = preimage.0.to_vec().into();
                htlc_event::Event::SettleEvent(routerrpc::SettleEvent { preimage })
            }
            Resolution::Fail(_) => htlc_event::Event::ForwardFailEvent(routerrpc::ForwardFailEvent {}),
        };
        self.htlc_event(key, event);
    }

    /// An event about a forward.
    pub(super) fn htlc_event(&mut self, key: HtlcKey, event: htlc_event::Event) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let forwarded = htlc.progress.forwarded.as_ref();
        let event = routerrpc::HtlcEvent {
            incoming_channel_id: key.chan_id,
            outgoing_channel_id: forwarded.map_or(htlc.terms.requested_chan_id, |out| out.chan_id),
            incoming_htlc_id: key.htlc_id,
            outgoing_htlc_id: forwarded.map_or(0, |out| out.htlc_id),
            timestamp_ns: self.now_ms.saturating_mul(1_000_000),
            event_type: htlc_event::EventType::Forward.into(),
            event: Some(event),
        };
        self.outputs.push(Output::HtlcEvent(event));
    }

    /// The payer's side learns the preimage.
    pub(super) fn reveal(&mut self, key: HtlcKey, preimage: &Preimage) {
        if let Some(htlc) = self.htlc_mut(key) {
            htlc.progress.preimage_revealed = true;
        }
        self.outcome(key, Resolution::Settle(preimage.clone()));
    }

    /// Tells the payer, once.
    pub(super) fn outcome(&mut self, key: HtlcKey, result: Resolution) {
        let seq = (self.db.outcomes.len() as u64).saturating_add(1);
        let unix_ms = self.now_ms;
        let Some(htlc) = self.htlc_mut(key).filter(|htlc| htlc.progress.outcome_seq.is_none()) else {
            return;
        };
        htlc.progress.outcome_seq = Some(seq);
        let outcome = Outcome { seq, key, payment_hash: htlc.terms.payment_hash, unix_ms, result };
        self.dirty.records.push(Record::Outcome(outcome.clone()));
        self.db.outcomes.push(outcome);
    }

    fn finish_off_chain(&mut self, key: HtlcKey, resolution: &Resolution) {
        self.finish(key, resolution.settles(), true);
        if let Resolution::Fail(_) = resolution {
            self.outcome(key, resolution.clone());
        }
    }

    /// The HTLC is gone: money, record, event.
    pub(super) fn finish(&mut self, key: HtlcKey, settled: bool, offchain: bool) {
        let recorded = self.db.settings.store_final_htlc_resolutions;
        let fin = FinalResolution { settled, offchain, recorded, unix_ms: self.now_ms };
        let Some(htlc) = self.htlc_mut(key) else { return };
        htlc.progress.stage = Stage::Final(fin);
        self.close_htlc(key, settled);
        if self.db.settings.final_events_dropped {
            return;
        }
        let event = routerrpc::FinalHtlcEvent { settled, offchain };
        self.outputs.push(Output::HtlcEvent(routerrpc::HtlcEvent {
            incoming_channel_id: key.chan_id,
            outgoing_channel_id: 0,
            incoming_htlc_id: key.htlc_id,
            outgoing_htlc_id: 0,
            timestamp_ns: self.now_ms.saturating_mul(1_000_000),
            event_type: htlc_event::EventType::Unknown.into(),
            event: Some(htlc_event::Event::FinalHtlcEvent(event)),
        }));
    }

    /// Books the money of an HTLC that is over and forgets it.
    pub(super) fn close_htlc(&mut self, key: HtlcKey, paid: bool) {
        let amount = self.db.htlcs.get(&key).map_or(0, |htlc| htlc.terms.incoming_amount_msat);
        if let Some(channel) = self.channel_mut(key.chan_id) {
            let side = if paid { &mut channel.local_msat } else { &mut channel.remote_msat };
            *side = side.saturating_add(amount);
        }
        self.db.live.remove(&key);
        self.mem.mailbox.remove(&key);
        self.mem.waiting.remove(&key);
        self.mem.released.remove(&key);
        self.trim(key);
    }

    /// The peer is gone. What was sent and not signed goes back to the mailbox.
    pub(super) fn peer_offline(&mut self, chan_id: u64) {
        let Some(channel) = self.channel_mut(chan_id) else { return };
        if !std::mem::replace(&mut channel.online, false) || channel.status != Status::Open {
            return;
        }
        let point = channel.point_message();
        self.unsend(chan_id);
        self.channel_event(event::UpdateType::InactiveChannel, event::Channel::InactiveChannel(point));
    }

    /// Unsigned removals are forgotten by the channel.
    pub(super) fn unsend(&mut self, chan_id: u64) {
        for key in self.live_of(chan_id) {
            if matches!(self.db.htlcs[&key].progress.stage, Stage::Sent(_))
                && let Some(htlc) = self.htlc_mut(key)
            {
                htlc.progress.stage = Stage::Locked;
            }
        }
    }

    /// The peer is back and the channel reestablished: answers go on, the rest is replayed in order.
    pub(super) fn peer_online(&mut self, chan_id: u64) {
        let Some(channel) = self.channel_mut(chan_id) else { return };
        if channel.status != Status::Open || std::mem::replace(&mut channel.online, true) {
            return;
        }
        let point = channel.point_message();
        self.channel_event(event::UpdateType::ActiveChannel, event::Channel::ActiveChannel(point));
        for key in self.live_of(chan_id) {
            self.advance(key);
            if self.db.htlcs[&key].progress.stage == Stage::Locked {
                self.mem.queue.push_back(LoopInput::Intercept { key, replay: true });
            }
        }
    }

    pub(super) fn channel_event(&mut self, kind: event::UpdateType, channel: event::Channel) {
        self.outputs
            .push(Output::ChannelEvent(ChannelEventUpdate { r#type: kind.into(), channel: Some(channel) }));
    }
}

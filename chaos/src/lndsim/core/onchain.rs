//! Channels that go to chain, and their HTLCs there (contractcourt).
//!
//! An HTLC with an output on the confirmed commitment is offered to the interceptor again; a preimage for
//! its hash claims it, with the next block; at its expiry the peer has it back. Dust has no output and is
//! lost at once. An HTLC that the peer's newest commitment no longer had vanishes without any record.

use super::{
    Core, Rejected, Reply,
    channel::{Closure, Commitment, Status},
    failure::{Code, Failure},
    htlc::{BROADCAST_DELTA, Htlc, HtlcKey, OnChain, Resolution, Stage},
    memory::LoopInput,
};
use mux_proto::lnrpc::{self, channel_event_update as event};
use sha2::{Digest as _, Sha256};

impl Core {
    /// `Lightning.CloseChannel`: answers with the closing transaction, which confirms with the next block.
    pub(super) fn close_channel(&mut self, request: &lnrpc::CloseChannelRequest) -> Result<Reply, Rejected> {
        let point = request.channel_point.as_ref().ok_or_else(|| Rejected::Invalid("no channel".into()))?;
        let channel = self.db.channels.values().find(|channel| channel.is_point(point));
        let channel = channel.ok_or_else(|| Rejected::NotFound("channel not found".to_owned()))?;
        let (chan_id, status) = (channel.chan_id, channel.status);
        if status != Status::Open {
            return Err(Rejected::Precondition("channel already closing".to_owned()));
        }
        if request.force {
            self.broadcast(chan_id, Commitment::Local);
        } else if !self.live_of(chan_id).is_empty() {
            let text = "cannot co-op close channel with active htlcs";
            return Err(Rejected::Precondition(text.to_owned()));
        } else {
            self.resolve_channel(chan_id, Closure::Cooperative);
        }
        Ok(Reply::Closing(chan_id, self.closing_txid(chan_id)))
    }

    /// Internal byte order.
    pub(super) fn closing_txid(&self, chan_id: u64) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"closing");
        hasher.update(self.db.settings.identity_pubkey.as_bytes());
        hasher.update(chan_id.to_be_bytes());
        hasher.finalize().into()
    }

    /// The commitment is broadcast: the link is gone, off-chain answers go nowhere from now on.
    pub(super) fn broadcast(&mut self, chan_id: u64, commitment: Commitment) {
        self.unsend(chan_id);
        let closing_unix_ms = self.now_ms;
        if let Some(channel) = self.channel_mut(chan_id) {
            channel.status = Status::Closing(commitment);
            channel.online = false;
            channel.closing_unix_ms = closing_unix_ms;
        }
    }

    /// The commitment is in a block.
    pub(super) fn confirm(&mut self, chan_id: u64, height: u32) {
        let Some(channel) = self.channel_mut(chan_id) else { return };
        let Status::Closing(commitment) = channel.status else { return };
        channel.status = Status::ForceClosed(commitment, height);
        if let Some(summary) = self.close_summary(chan_id) {
            self.channel_event(event::UpdateType::ClosedChannel, event::Channel::ClosedChannel(summary));
        }
        for key in self.live_of(chan_id) {
            self.put_on_chain(key, commitment);
        }
        self.resolve_if_empty(chan_id, commitment);
    }

    fn put_on_chain(&mut self, key: HtlcKey, commitment: Commitment) {
        let dust = self.db.htlcs.get(&key).is_some_and(|htlc| self.is_dust(htlc));
        let Some(htlc) = self.htlc_mut(key) else { return };
        let gone = match &htlc.progress.stage {
            Stage::Signed(resolution) => (commitment == Commitment::RemoteLatest).then_some(resolution),
            Stage::Revoked(resolution) => (commitment != Commitment::Local).then_some(resolution),
            _ => None,
        };
        if let Some(resolution) = gone.cloned() {
            htlc.progress.stage = Stage::Vanished(resolution.settles());
            self.close_htlc(key, resolution.settles());
            if !resolution.settles() {
                self.outcome(key, resolution);
            }
            return;
        }
        let hash = htlc.terms.payment_hash;
        let own_commitment = commitment == Commitment::Local;
        htlc.progress.stage = Stage::OnChain(OnChain { own_commitment, claim: None, claimed_height: None });
        if dust {
            self.lose(key);
        } else if self.db.witness.contains_key(&hash) {
            self.claim(key);
        } else {
            self.mem.queue.push_back(LoopInput::InterceptOnChain(key));
        }
    }

    /// Too small for an output of its own on chain.
    pub(super) fn is_dust(&self, htlc: &Htlc) -> bool {
        let channel = self.db.channels.get(&htlc.terms.key.chan_id);
        channel.is_some_and(|channel| htlc.terms.incoming_amount_msat / 1000 < channel.dust_limit_sat)
    }

    /// The peer has the money back.
    fn lose(&mut self, key: HtlcKey) {
        self.finish(key, false, false);
        self.outcome(key, Resolution::Fail(Failure::Upstream(Code::PermanentChannelFailure)));
    }

    /// Broadcasts the claim of an HTLC output whose preimage is known.
    pub(super) fn claim(&mut self, key: HtlcKey) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let preimage = self.db.witness.get(&htlc.terms.payment_hash).cloned();
        if let Some(Stage::OnChain(output)) = self.htlc_mut(key).map(|htlc| &mut htlc.progress.stage) {
            output.claim = output.claim.take().or(preimage);
        }
    }

    /// What a block does to channels and HTLCs on chain, and what it makes the peers do.
    pub(super) fn chain_block(&mut self, height: u32) {
        let closing = |status: Status| matches!(status, Status::Closing(_));
        let ids: Vec<u64> =
            self.db.channels.values().filter(|c| closing(c.status)).map(|c| c.chan_id).collect();
        ids.into_iter().for_each(|chan_id| self.confirm(chan_id, height));
        let keys: Vec<HtlcKey> = self.db.live.iter().copied().collect();
        for key in keys {
            let Some(htlc) = self.db.htlcs.get(&key) else { continue };
            let expiry = htlc.terms.incoming_expiry;
            match htlc.progress.stage.clone() {
                Stage::OnChain(output) => self.on_chain_block(key, &output, height),
                Stage::Final(_) | Stage::Vanished(_) => {}
                stage => self.off_chain_block(key, &stage, expiry, height),
            }
        }
    }

    fn on_chain_block(&mut self, key: HtlcKey, output: &OnChain, height: u32) {
        let Some(htlc) = self.db.htlcs.get(&key) else { return };
        let expiry = htlc.terms.incoming_expiry;
        let csv_delay = self.db.channels.get(&key.chan_id).map_or(0, |channel| channel.csv_delay);
        let Some(preimage) = &output.claim else {
            if height >= expiry {
                self.lose(key);
                self.after_htlc(key.chan_id);
            }
            return;
        };
        if output.claimed_height.is_none() {
            self.reveal(key, preimage);
            if let Some(Stage::OnChain(output)) = self.htlc_mut(key).map(|htlc| &mut htlc.progress.stage) {
                output.claimed_height = Some(height);
            }
        }
        let claimed = output.claimed_height.unwrap_or(height);
        let wait = if output.own_commitment { csv_delay } else { 0 };
        if height >= claimed.saturating_add(wait) {
            self.finish(key, true, false);
            self.after_htlc(key.chan_id);
        }
    }

    /// The node goes to chain for an HTLC whose preimage is in its witness cache (never because of an
    /// interceptor's SETTLE); the peer does at the HTLC's expiry, when its commitment still has it.
    fn off_chain_block(&mut self, key: HtlcKey, stage: &Stage, expiry: u32, height: u32) {
        if !self.is_open(key.chan_id) {
            return;
        }
        let hash = self.db.htlcs[&key].terms.payment_hash;
        let known = self.db.witness.contains_key(&hash);
        if known && height.saturating_add(BROADCAST_DELTA) >= expiry {
            self.broadcast(key.chan_id, Commitment::Local);
        } else if height >= expiry && !matches!(stage, Stage::Revoked(_)) {
            self.broadcast(key.chan_id, Commitment::RemotePrevious);
            self.confirm(key.chan_id, height);
            if let Some(Stage::OnChain(output)) = self.db.htlcs.get(&key).map(|h| h.progress.stage.clone()) {
                self.on_chain_block(key, &output, height);
            }
        }
    }

    fn after_htlc(&mut self, chan_id: u64) {
        if let Some(Status::ForceClosed(commitment, _)) = self.db.channels.get(&chan_id).map(|c| c.status) {
            self.resolve_if_empty(chan_id, commitment);
        }
    }

    fn resolve_if_empty(&mut self, chan_id: u64, commitment: Commitment) {
        if self.live_of(chan_id).is_empty() {
            self.resolve_channel(chan_id, commitment.into());
        }
    }

    fn resolve_channel(&mut self, chan_id: u64, closure: Closure) {
        let height = self.db.chain.height();
        let Some(channel) = self.channel_mut(chan_id) else { return };
        let closed_at = if let Status::ForceClosed(_, at) = channel.status { at } else { height };
        channel.status = Status::Resolved(closure, closed_at);
        channel.online = false;
        let point = channel.point_message();
        if closure == Closure::Cooperative
            && let Some(summary) = self.close_summary(chan_id)
        {
            self.channel_event(event::UpdateType::ClosedChannel, event::Channel::ClosedChannel(summary));
        }
        self.channel_event(
            event::UpdateType::FullyResolvedChannel,
            event::Channel::FullyResolvedChannel(point),
        );
    }

    /// After a start, every unclaimed output is offered again.
    pub(super) fn resume_on_chain(&mut self) {
        for key in self.db.live.iter().copied().collect::<Vec<_>>() {
            if matches!(self.db.htlcs[&key].progress.stage, Stage::OnChain(_)) {
                self.mem.queue.push_back(LoopInput::InterceptOnChain(key));
            }
        }
    }
}

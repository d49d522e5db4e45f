//! The controls.

use super::{
    Core, Rejected, Reply,
    channel::{Channel, Commitment, Downstream, Limit, Status},
    failure::Code,
    htlc::{Htlc, HtlcKey, Stage, Terms},
    input::Command,
    memory::LoopInput,
    output::Output,
    record::Record,
};
use mux_proto::{
    lndsim::v1::{
        self as ctl, cut_streams_request::Mode, force_close_request, set_downstream_request::Behaviour,
    },
    lnrpc::channel_event_update as event,
};
use mux_raft::types::{PaymentHash, Preimage};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

/// Bytes of an onion (BOLT 4).
const ONION_BYTES: usize = 1366;
/// Bytes of a compressed public key.
const PUBKEY_BYTES: usize = 33;
/// `outgoing_requested_chan_id` of a forward by node id.
const NO_CHANNEL: u64 = u64::MAX;

impl Core {
    pub(super) fn command(&mut self, command: Command) -> Result<Reply, Rejected> {
        match command {
            Command::AddHtlc(request) => return self.add_htlc(request),
            Command::FailHtlc(request) => return self.fail_htlc(&request),
            Command::OpenChannel(request) => return self.open_channel(request),
            Command::PeerDisconnect(request) => self.peers(&request, true, false)?,
            Command::PeerReconnect(request) => self.peers(&request, false, true)?,
            Command::PeerFlap(request) => self.peers(&request, true, true)?,
            Command::ForceClose(request) => self.force_close(&request)?,
            Command::SetStageLimit(request) => self.set_stage_limit(&request)?,
            Command::StopSigning(request) => {
                let limit = if request.stop { ctl::Stage::Signed } else { ctl::Stage::Final };
                let chan_id = request.chan_id;
                let limit = limit.into();
                self.set_stage_limit(&ctl::SetStageLimitRequest { chan_id, limit, release_after_ms: 0 })?;
            }
            Command::SetDownstream(request) => self.set_downstream(&request)?,
            Command::MineBlocks(request) => return self.mine_blocks(&request),
            Command::SetHeight(request) => return self.set_height(&request),
            Command::Reorg(request) => return self.reorg(&request),
            Command::SetChainView(request) => return self.set_chain_view(&request),
            Command::SetFlags(request) => self.set_flags(request),
            Command::SetWalletState(request) => return self.set_power(request.power()),
            Command::Restart(request) => return self.restart(&request),
            Command::CutStreams(request) => self.cut_streams(&request),
            Command::FreezeReads(request) => {
                self.db.settings.reads_frozen = request.frozen;
                self.dirty.settings = true;
            }
            Command::DropFinalEvents(request) => {
                self.db.settings.final_events_dropped = request.drop;
                self.dirty.settings = true;
            }
            Command::RotateTlsCert => self.outputs.push(Output::RotateTlsCert),
        }
        Ok(Reply::Done)
    }

    fn add_htlc(&mut self, request: ctl::AddHtlcRequest) -> Result<Reply, Rejected> {
        let payment_hash: [u8; 32] = exact(&request.payment_hash, "payment_hash")?;
        if request.onion_blob.len() != ONION_BYTES {
            return Err(Rejected::Invalid(format!("onion_blob must have {ONION_BYTES} bytes")));
        }
        let node_id = &request.outgoing_requested_node_id;
        if !node_id.is_empty() && node_id.len() != PUBKEY_BYTES {
            return Err(Rejected::Invalid("outgoing_requested_node_id must have 33 bytes".to_owned()));
        }
        let downstream_preimage = match request.downstream_preimage.as_ref() {
            [] => None,
            bytes => Some(Preimage(exact(bytes, "downstream_preimage")?)),
        };
        let chan_id = self.channel_with_room(request.chan_id, request.incoming_amount_msat)?;
        let Some(channel) = self.channel_mut(chan_id) else {
            return Err(Rejected::NotFound(format!("no channel {chan_id}")));
        };
        let key = HtlcKey { chan_id, htlc_id: channel.next_htlc_id };
        channel.next_htlc_id = channel.next_htlc_id.saturating_add(1);
        channel.remote_msat = channel.remote_msat.saturating_sub(request.incoming_amount_msat);
        let records = |map: std::collections::HashMap<u64, prost::bytes::Bytes>| {
            map.into_iter().map(|(kind, value)| (kind, value.to_vec())).collect()
        };
        let terms = Terms {
            key,
            arrival: self.db.htlcs.len() as u64,
            added_unix_ms: self.now_ms,
            payment_hash: PaymentHash(payment_hash),
            incoming_amount_msat: request.incoming_amount_msat,
            outgoing_amount_msat: request.outgoing_amount_msat,
            incoming_expiry: request.incoming_expiry,
            outgoing_expiry: request.outgoing_expiry,
            requested_chan_id: if node_id.is_empty() {
                request.outgoing_requested_chan_id
            } else {
                NO_CHANNEL
            },
            requested_node_id: node_id.to_vec(),
            onion_blob: request.onion_blob.to_vec(),
            custom_records: records(request.custom_records),
            in_wire_custom_records: records(request.in_wire_custom_records),
            downstream_preimage,
        };
        self.dirty.records.push(Record::HtlcAdded(terms.clone()));
        self.db.htlcs.insert(key, Htlc::new(terms));
        self.db.live.insert(key);
        self.mem.queue.push_back(LoopInput::Intercept { key, replay: false });
        Ok(Reply::Added(key))
    }

    /// The peer must have the money and a free slot; 0 asks for any channel, the one with most money first.
    fn channel_with_room(&self, chan_id: u64, amount_msat: u64) -> Result<u64, Rejected> {
        if self.mem.power != ctl::Power::ServerActive {
            return Err(Rejected::Precondition("the node is not running".to_owned()));
        }
        let wanted = self.channels_meant(chan_id)?;
        let mut channels: Vec<&Channel> = wanted.iter().filter_map(|id| self.db.channels.get(id)).collect();
        channels.retain(|channel| channel.is_active());
        if channels.is_empty() {
            return Err(Rejected::Precondition("no such channel is active".to_owned()));
        }
        channels.retain(|channel| {
            let pending = self.live_of(channel.chan_id).len();
            channel.receivable_msat() >= amount_msat && pending < channel.max_accepted_htlcs as usize
        });
        let best = channels.iter().max_by_key(|channel| channel.remote_msat);
        best.map(|channel| channel.chan_id)
            .ok_or_else(|| Rejected::Exhausted("no channel has room for the HTLC".to_owned()))
    }

    fn fail_htlc(&mut self, request: &ctl::FailHtlcRequest) -> Result<Reply, Rejected> {
        let key = HtlcKey { chan_id: request.chan_id, htlc_id: request.htlc_id };
        let htlc = self.db.htlcs.get(&key).ok_or_else(|| Rejected::NotFound(format!("no HTLC {key}")))?;
        if htlc.progress.stage != Stage::Locked || self.mem.mailbox.contains_key(&key) {
            return Err(Rejected::Precondition("the HTLC is answered already".to_owned()));
        }
        self.fail_locally(key, Code::TemporaryChannelFailure);
        Ok(Reply::Done)
    }

    fn open_channel(&mut self, mut request: ctl::OpenChannelRequest) -> Result<Reply, Rejected> {
        if request.chan_id == 0 {
            request.chan_id = self.free_chan_id();
        }
        if self.db.channels.contains_key(&request.chan_id) {
            return Err(Rejected::Precondition(format!("channel {} exists", request.chan_id)));
        }
        let mut hasher = Sha256::new();
        hasher.update(self.db.settings.identity_pubkey.as_bytes());
        hasher.update(request.chan_id.to_be_bytes());
        let txid: [u8; 32] = hasher.finalize().into();
        let remote = if request.remote_pubkey.is_empty() {
            format!("02{}", hex::encode(Sha256::digest(txid)))
        } else {
            request.remote_pubkey.clone()
        };
        let chan_id = request.chan_id;
        let channel = Channel::new(&request, remote, (txid, 0));
        let reply = Reply::Opened(chan_id, channel.point());
        self.db.channels.insert(chan_id, channel);
        self.dirty.channels.insert(chan_id);
        if let Some(channel) = self.lnrpc_channel(chan_id) {
            self.channel_event(event::UpdateType::OpenChannel, event::Channel::OpenChannel(channel));
        }
        Ok(reply)
    }

    /// A short channel id that no channel has, below the tip.
    fn free_chan_id(&mut self) -> u64 {
        loop {
            let block = u64::from(self.rng.random_range(1..=self.db.chain.tip().max(1)));
            let tx = u64::from(self.rng.random_range(1..=4_000_u32));
            let chan_id = (block << 40) | (tx << 16);
            if !self.db.channels.contains_key(&chan_id) {
                return chan_id;
            }
        }
    }

    fn peers(&mut self, request: &ctl::ChannelRef, leave: bool, back: bool) -> Result<(), Rejected> {
        for chan_id in self.channels_meant(request.chan_id)? {
            if let Some(channel) = self.channel_mut(chan_id) {
                channel.stays_away = !back;
            }
            if leave {
                self.peer_offline(chan_id);
            }
            if back && self.mem.power == ctl::Power::ServerActive {
                self.peer_online(chan_id);
            }
        }
        Ok(())
    }

    fn force_close(&mut self, request: &ctl::ForceCloseRequest) -> Result<(), Rejected> {
        use force_close_request::Commitment as Wanted;
        let commitment = match request.commitment() {
            Wanted::Unspecified | Wanted::Local => Commitment::Local,
            Wanted::RemoteLatest => Commitment::RemoteLatest,
            Wanted::RemotePrevious => Commitment::RemotePrevious,
        };
        if request.chan_id == 0 {
            return Err(Rejected::Invalid("chan_id is needed".to_owned()));
        }
        self.channels_meant(request.chan_id)?;
        if !self.is_open(request.chan_id) {
            return Err(Rejected::Precondition("the channel is not open".to_owned()));
        }
        self.broadcast(request.chan_id, commitment);
        if !request.wait_for_block {
            self.confirm(request.chan_id, self.db.chain.height());
        }
        Ok(())
    }

    fn set_stage_limit(&mut self, request: &ctl::SetStageLimitRequest) -> Result<(), Rejected> {
        let limit = match request.limit() {
            ctl::Stage::Mailbox => Limit::Mailbox,
            ctl::Stage::Sent => Limit::Sent,
            ctl::Stage::Signed => Limit::Signed,
            ctl::Stage::Revoked => Limit::Revoked,
            ctl::Stage::Unspecified | ctl::Stage::Final => Limit::Final,
            ctl::Stage::Locked | ctl::Stage::OnChain | ctl::Stage::Vanished => {
                return Err(Rejected::Invalid("not a stage that answers can wait at".to_owned()));
            }
        };
        for chan_id in self.channels_meant(request.chan_id)? {
            if let Some(channel) = self.channel_mut(chan_id) {
                channel.limit = limit;
                channel.limit_release_ms = request.release_after_ms;
            }
            self.live_of(chan_id).into_iter().for_each(|key| self.advance(key));
        }
        Ok(())
    }

    fn set_downstream(&mut self, request: &ctl::SetDownstreamRequest) -> Result<(), Rejected> {
        let behaviour = match request.behaviour() {
            Behaviour::Unspecified | Behaviour::Settle => Downstream::Settle,
            Behaviour::Fail => Downstream::Fail,
            Behaviour::Hold => Downstream::Hold,
        };
        for chan_id in self.channels_meant(request.chan_id)? {
            if let Some(channel) = self.channel_mut(chan_id) {
                channel.downstream = behaviour;
            }
        }
        let live: Vec<HtlcKey> = self.db.live.iter().copied().collect();
        live.into_iter().for_each(|key| self.resolve_downstream(key));
        Ok(())
    }

    fn set_flags(&mut self, request: ctl::SetFlagsRequest) {
        let settings = &mut self.db.settings;
        settings.require_interceptor = request.require_interceptor.unwrap_or(settings.require_interceptor);
        settings.store_final_htlc_resolutions =
            request.store_final_htlc_resolutions.unwrap_or(settings.store_final_htlc_resolutions);
        settings.ordered_replay = request.ordered_replay.unwrap_or(settings.ordered_replay);
        let set = |field: &mut String, value: Option<String>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        set(&mut settings.version, request.version);
        set(&mut settings.network, request.network);
        set(&mut settings.identity_pubkey, request.identity_pubkey);
        self.dirty.settings = true;
    }

    fn cut_streams(&mut self, request: &ctl::CutStreamsRequest) {
        let slot = self.mem.slot.filter(|slot| !slot.broken && !slot.dead);
        let connection = slot.map(|slot| slot.stream);
        if connection.is_none() && !request.all_connections {
            return;
        }
        let which = if request.all_connections { None } else { connection };
        if request.mode() == Mode::Stall {
            return self.outputs.push(Output::StallConnections(which));
        }
        if let Some(slot) = self.mem.slot.as_mut().filter(|slot| !slot.broken && !slot.dead)
            && request.hold_slot_ms > 0
        {
            slot.dead = true;
            let stream = slot.stream;
            // Whatever is sent from now on goes nowhere and does not block.
            self.mem.sending = false;
            let at = self.now_ms.saturating_add(request.hold_slot_ms);
            self.mem.schedule(at, super::memory::Timer::SlotExpires(stream));
        }
        self.outputs.push(Output::ResetConnections { of: which, gracefully: false });
    }

    /// Whether a channel can be used, for the ledger.
    pub(super) fn channel_status(channel: &Channel) -> ctl::channel_entry::Status {
        use ctl::channel_entry::Status as Shown;
        match channel.status {
            Status::Open => Shown::Open,
            Status::Closing(_) => Shown::Closing,
            Status::ForceClosed(..) => Shown::ForceClosed,
            Status::Resolved(..) => Shown::Resolved,
        }
    }
}

fn exact(bytes: &[u8], name: &str) -> Result<[u8; 32], Rejected> {
    bytes.try_into().map_err(|_| Rejected::Invalid(format!("{name} must have 32 bytes")))
}

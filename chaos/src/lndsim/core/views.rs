//! What LND's read-only calls answer.

use super::{
    Core,
    channel::{Channel, Closure, Status},
    htlc::{Htlc, HtlcKey, Stage},
};
use mux_proto::lnrpc;

/// Why `LookupHtlcResolution` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResolution {
    /// The node was started without the flag.
    #[error("cannot lookup with flag --store-final-htlc-resolutions=false")]
    NotStored,
    /// Not final, or never seen.
    #[error("htlc unknown")]
    Unknown,
}

impl Core {
    /// `GetInfo`.
    #[must_use]
    pub fn get_info(&self) -> lnrpc::GetInfoResponse {
        let (settings, chain) = (&self.db.settings, &self.db.chain);
        let open = self.db.channels.values().filter(|channel| channel.status == Status::Open);
        let active = open.clone().filter(|channel| self.is_active(channel.chan_id)).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        lnrpc::GetInfoResponse {
            identity_pubkey: settings.identity_pubkey.clone(),
            alias: settings.alias.clone(),
            num_pending_channels: 0,
            num_active_channels: count(active),
            num_peers: count(active),
            block_height: chain.height(),
            block_hash: display_hash(chain.hash(chain.height())),
            synced_to_chain: chain.synced,
            uris: Vec::new(),
            best_header_timestamp: i64::try_from(self.now_ms / 1000).unwrap_or(i64::MAX),
            version: settings.version.clone(),
            num_inactive_channels: count(open.count().saturating_sub(active)),
            chains: vec![lnrpc::Chain { chain: "bitcoin".to_owned(), network: settings.network.clone() }],
            synced_to_graph: chain.synced,
            require_htlc_interceptor: settings.require_interceptor,
            store_final_htlc_resolutions: settings.store_final_htlc_resolutions,
            wallet_synced: chain.synced,
        }
    }

    /// `ListChannels`: what is open.
    #[must_use]
    pub fn list_channels(&self, request: &lnrpc::ListChannelsRequest) -> lnrpc::ListChannelsResponse {
        let peer = hex::encode(&request.peer);
        let channels = self.db.channels.values().filter(|channel| channel.status == Status::Open);
        let channels = channels
            .filter(|channel| !request.active_only || self.is_active(channel.chan_id))
            .filter(|channel| peer.is_empty() || channel.remote_pubkey == peer)
            .filter_map(|channel| self.lnrpc_channel(channel.chan_id));
        lnrpc::ListChannelsResponse { channels: channels.collect() }
    }

    /// A channel as LND shows it.
    pub(super) fn lnrpc_channel(&self, chan_id: u64) -> Option<lnrpc::Channel> {
        let channel = self.db.channels.get(&chan_id)?;
        let mut pending: Vec<lnrpc::Htlc> = self
            .live_of(chan_id)
            .into_iter()
            .filter_map(|key| self.db.htlcs.get(&key))
            .filter(|htlc| htlc.progress.stage.in_local_commitment())
            .map(incoming_htlc)
            .collect();
        pending.extend(self.db.live.iter().filter_map(|key| outgoing_htlc(self.db.htlcs.get(key)?, chan_id)));
        let unsettled = pending.iter().map(|htlc| htlc.amount).sum();
        let limits = |channel: &Channel| lnrpc::ChannelConstraints {
            csv_delay: channel.csv_delay,
            chan_reserve_sat: channel.reserve_sat(),
            dust_limit_sat: channel.dust_limit_sat,
            max_pending_amt_msat: channel.capacity_sat.saturating_mul(1000),
            min_htlc_msat: 1,
            max_accepted_htlcs: channel.max_accepted_htlcs,
        };
        Some(lnrpc::Channel {
            active: self.is_active(chan_id),
            remote_pubkey: channel.remote_pubkey.clone(),
            channel_point: channel.point(),
            chan_id,
            capacity: sat(channel.capacity_sat),
            local_balance: sat(channel.local_msat / 1000),
            remote_balance: sat(channel.remote_msat / 1000),
            unsettled_balance: unsettled,
            pending_htlcs: pending,
            private: false,
            initiator: false,
            local_constraints: Some(limits(channel)),
            remote_constraints: Some(limits(channel)),
            alias_scids: Vec::new(),
            zero_conf: false,
            zero_conf_confirmed_scid: 0,
            peer_scid_alias: 0,
        })
    }

    /// `GetChanInfo`; `None` is NotFound.
    #[must_use]
    pub fn get_chan_info(&self, request: &lnrpc::ChanInfoRequest) -> Option<lnrpc::ChannelEdge> {
        let wanted = |channel: &&Channel| {
            if request.chan_id == 0 {
                channel.point() == request.chan_point
            } else {
                channel.chan_id == request.chan_id
            }
        };
        let channel =
            self.db.channels.values().filter(|channel| channel.status == Status::Open).find(wanted)?;
        let policy = || {
            Some(lnrpc::RoutingPolicy {
                time_lock_delta: 80,
                min_htlc: 1000,
                fee_base_msat: 1000,
                fee_rate_milli_msat: 1,
                disabled: !self.is_active(channel.chan_id),
                max_htlc_msat: channel.capacity_sat.saturating_mul(990),
                last_update: u32::try_from(self.now_ms / 1000).unwrap_or(u32::MAX),
            })
        };
        let mut keys = [self.db.settings.identity_pubkey.clone(), channel.remote_pubkey.clone()];
        keys.sort();
        let [node1_pub, node2_pub] = keys;
        Some(lnrpc::ChannelEdge {
            channel_id: channel.chan_id,
            chan_point: channel.point(),
            node1_pub,
            node2_pub,
            capacity: sat(channel.capacity_sat),
            node1_policy: policy(),
            node2_policy: policy(),
        })
    }

    /// `LookupHtlcResolution`.
    ///
    /// # Errors
    /// The flag is off, or the HTLC has no record.
    pub fn lookup_resolution(
        &self,
        request: lnrpc::LookupHtlcResolutionRequest,
    ) -> Result<lnrpc::LookupHtlcResolutionResponse, NoResolution> {
        if !self.db.settings.store_final_htlc_resolutions {
            return Err(NoResolution::NotStored);
        }
        let key = HtlcKey { chan_id: request.chan_id, htlc_id: request.htlc_index };
        match self.db.htlcs.get(&key).map(|htlc| &htlc.progress.stage) {
            Some(Stage::Final(fin)) if fin.recorded => {
                Ok(lnrpc::LookupHtlcResolutionResponse { settled: fin.settled, offchain: fin.offchain })
            }
            _ => Err(NoResolution::Unknown),
        }
    }

    /// `PendingChannels`.
    #[must_use]
    pub fn pending_channels(&self) -> lnrpc::PendingChannelsResponse {
        use lnrpc::pending_channels_response::{ForceClosedChannel, PendingChannel, WaitingCloseChannel};
        let height = self.db.chain.height();
        let mut response = lnrpc::PendingChannelsResponse::default();
        for channel in self.db.channels.values() {
            let shown = Some(PendingChannel {
                remote_node_pub: channel.remote_pubkey.clone(),
                channel_point: channel.point(),
                capacity: sat(channel.capacity_sat),
                local_balance: sat(channel.local_msat / 1000),
                remote_balance: sat(channel.remote_msat / 1000),
            });
            let limbo_balance = sat(channel.local_msat / 1000);
            match channel.status {
                Status::Closing(_) => response
                    .waiting_close_channels
                    .push(WaitingCloseChannel { channel: shown, limbo_balance }),
                Status::ForceClosed(_, at) => {
                    let maturity_height = at.saturating_add(channel.csv_delay);
                    let left = i64::from(maturity_height).saturating_sub(i64::from(height));
                    response.pending_force_closing_channels.push(ForceClosedChannel {
                        channel: shown,
                        closing_txid: display_hash(self.closing_txid(channel.chan_id)),
                        limbo_balance,
                        maturity_height,
                        blocks_til_maturity: i32::try_from(left).unwrap_or(0),
                        recovered_balance: 0,
                    });
                }
                Status::Open | Status::Resolved(..) => {}
            }
        }
        response
    }

    /// `ClosedChannels`: those with nothing left on chain.
    #[must_use]
    pub fn closed_channels(&self, request: lnrpc::ClosedChannelsRequest) -> lnrpc::ClosedChannelsResponse {
        let all = !(request.cooperative || request.local_force || request.remote_force);
        let wanted = |closure: Closure| {
            all || match closure {
                Closure::Cooperative => request.cooperative,
                Closure::LocalForce => request.local_force,
                Closure::RemoteForce => request.remote_force,
            }
        };
        let closed = self
            .db
            .channels
            .values()
            .filter(|channel| matches!(channel.status, Status::Resolved(closure, _) if wanted(closure)));
        let channels = closed.filter_map(|channel| self.close_summary(channel.chan_id)).collect();
        lnrpc::ClosedChannelsResponse { channels }
    }

    pub(super) fn close_summary(&self, chan_id: u64) -> Option<lnrpc::ChannelCloseSummary> {
        use lnrpc::channel_close_summary::ClosureType;
        let channel = self.db.channels.get(&chan_id)?;
        let (closure, close_height) = match channel.status {
            Status::Open => return None,
            Status::Closing(commitment) => (commitment.into(), 0),
            Status::ForceClosed(commitment, at) => (commitment.into(), at),
            Status::Resolved(closure, at) => (closure, at),
        };
        let close_type = match closure {
            Closure::Cooperative => ClosureType::CooperativeClose,
            Closure::LocalForce => ClosureType::LocalForceClose,
            Closure::RemoteForce => ClosureType::RemoteForceClose,
        };
        Some(lnrpc::ChannelCloseSummary {
            channel_point: channel.point(),
            chan_id,
            chain_hash: String::new(),
            closing_tx_hash: display_hash(self.closing_txid(chan_id)),
            remote_pubkey: channel.remote_pubkey.clone(),
            capacity: sat(channel.capacity_sat),
            close_height,
            settled_balance: sat(channel.local_msat / 1000),
            time_locked_balance: 0,
            close_type: close_type.into(),
        })
    }

    /// Whether a closing channel's transaction is confirmed.
    #[must_use]
    pub fn is_close_confirmed(&self, chan_id: u64) -> bool {
        let status = self.db.channels.get(&chan_id).map(|channel| channel.status);
        matches!(status, Some(Status::ForceClosed(..) | Status::Resolved(..)))
    }
}

fn incoming_htlc(htlc: &Htlc) -> lnrpc::Htlc {
    let forwarded = htlc.progress.forwarded.as_ref();
    lnrpc::Htlc {
        incoming: true,
        amount: sat(htlc.terms.incoming_amount_msat / 1000),
        hash_lock: htlc.terms.payment_hash.0.to_vec().into(),
        expiration_height: htlc.terms.incoming_expiry,
        htlc_index: htlc.terms.key.htlc_id,
        forwarding_channel: forwarded.map_or(0, |out| out.chan_id),
        forwarding_htlc_index: forwarded.map_or(0, |out| out.htlc_id),
        locked_in: !matches!(htlc.progress.stage, Stage::Revoked(_)),
    }
}

fn outgoing_htlc(htlc: &Htlc, chan_id: u64) -> Option<lnrpc::Htlc> {
    let out = htlc.progress.forwarded.as_ref()?;
    (out.chan_id == chan_id && out.result.is_none()).then(|| lnrpc::Htlc {
        incoming: false,
        amount: sat(out.amount_msat / 1000),
        hash_lock: htlc.terms.payment_hash.0.to_vec().into(),
        expiration_height: htlc.terms.outgoing_expiry,
        htlc_index: out.htlc_id,
        forwarding_channel: htlc.terms.key.chan_id,
        forwarding_htlc_index: htlc.terms.key.htlc_id,
        locked_in: true,
    })
}

fn sat(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The text form of block and transaction hashes: bytes reversed.
fn display_hash(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hex::encode(hash)
}

//! What only a simulation can tell: every HTLC with everything that happened to it.

use super::{
    Core,
    channel::Limit,
    htlc::{Htlc, HtlcKey, Outcome, Stage},
};
use mux_proto::lndsim::v1 as ctl;

impl Core {
    /// `Control.GetState`.
    #[must_use]
    pub fn state(&self) -> ctl::GetStateResponse {
        let settings = &self.db.settings;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ctl::GetStateResponse {
            alias: settings.alias.clone(),
            identity_pubkey: settings.identity_pubkey.clone(),
            network: settings.network.clone(),
            power: self.mem.power.into(),
            chain: Some(self.db.chain.view()),
            flags: Some(ctl::Flags {
                require_interceptor: settings.require_interceptor,
                store_final_htlc_resolutions: settings.store_final_htlc_resolutions,
                version: settings.version.clone(),
            }),
            channels: self.db.channels.keys().filter_map(|id| self.channel_entry(*id)).collect(),
            interceptor_connected: self.mem.slot.is_some(),
            streams_accepted: self.counters.accepted,
            streams_refused: self.counters.refused,
            streams_killed: self.counters.killed,
            last_kill: self.last_kill.clone(),
            held_htlcs: count(self.mem.held.len()),
            mailbox_packets: count(self.mem.mailbox.len()),
            blocked_on_send: self.mem.sending,
            offers_sent: self.counters.offers,
            complaints: self.db.complaints.clone(),
            last_outcome_seq: self.db.outcomes.len() as u64,
        }
    }

    /// `Control.GetLedger`.
    #[must_use]
    pub fn ledger(&self) -> ctl::GetLedgerResponse {
        let keys = self.htlc_keys();
        ctl::GetLedgerResponse {
            htlcs: keys.into_iter().filter_map(|key| self.htlc(key)).collect(),
            complaints: self.db.complaints.clone(),
        }
    }

    /// Every HTLC, oldest first.
    #[must_use]
    pub fn htlc_keys(&self) -> Vec<HtlcKey> {
        let mut htlcs: Vec<&Htlc> = self.db.htlcs.values().collect();
        htlcs.sort_by_key(|htlc| htlc.terms.arrival);
        htlcs.into_iter().map(|htlc| htlc.terms.key).collect()
    }

    /// `Control.GetHtlc`.
    #[must_use]
    pub fn htlc(&self, key: HtlcKey) -> Option<ctl::HtlcEntry> {
        self.db.htlcs.get(&key).map(|htlc| self.entry(htlc))
    }

    /// Up to `max` outcomes from a sequence number on.
    #[must_use]
    pub fn outcomes_from(&self, seq: u64, max: usize) -> Vec<ctl::Outcome> {
        let skip = usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX);
        self.db.outcomes.iter().skip(skip).take(max).map(ctl::Outcome::from).collect()
    }

    /// What the payer learned, without what was known before that many outcomes.
    #[must_use]
    pub fn outcomes_since(&self, known: usize) -> &[Outcome] {
        self.db.outcomes.get(known..).unwrap_or_default()
    }

    /// Whether the interceptor's answers are left unread.
    #[must_use]
    pub fn reads_frozen(&self) -> bool {
        self.db.settings.reads_frozen
    }

    /// The node's own tip, as announced to a new subscriber.
    #[must_use]
    pub fn tip_epoch(&self) -> mux_proto::chainrpc::BlockEpoch {
        self.db.chain.epoch(self.db.chain.height())
    }

    /// The blocks above a height that a subscriber knows, oldest first.
    #[must_use]
    pub fn epochs_above(&self, height: u32) -> Vec<mux_proto::chainrpc::BlockEpoch> {
        let above = height.saturating_add(1)..=self.db.chain.height();
        above.map(|height| self.db.chain.epoch(height)).collect()
    }

    fn channel_entry(&self, chan_id: u64) -> Option<ctl::ChannelEntry> {
        let channel = self.db.channels.get(&chan_id)?;
        let limit = match channel.limit {
            Limit::Mailbox => ctl::Stage::Mailbox,
            Limit::Sent => ctl::Stage::Sent,
            Limit::Signed => ctl::Stage::Signed,
            Limit::Revoked => ctl::Stage::Revoked,
            Limit::Final => ctl::Stage::Final,
        };
        Some(ctl::ChannelEntry {
            chan_id,
            remote_pubkey: channel.remote_pubkey.clone(),
            channel_point: channel.point(),
            status: Self::channel_status(channel).into(),
            active: self.is_active(chan_id),
            capacity_sat: i64::try_from(channel.capacity_sat).unwrap_or(i64::MAX),
            local_msat: channel.local_msat,
            remote_msat: channel.remote_msat,
            next_htlc_id: channel.next_htlc_id,
            pending_htlcs: u32::try_from(self.live_of(chan_id).len()).unwrap_or(u32::MAX),
            stage_limit: limit.into(),
        })
    }

    fn entry(&self, htlc: &Htlc) -> ctl::HtlcEntry {
        let (terms, progress) = (&htlc.terms, &htlc.progress);
        let fin = match &progress.stage {
            Stage::Final(fin) => Some(ctl::FinalResolution {
                settled: fin.settled,
                offchain: fin.offchain,
                recorded: fin.recorded,
                unix_ms: fin.unix_ms,
            }),
            _ => None,
        };
        let seq = progress.outcome_seq.and_then(|seq| usize::try_from(seq.saturating_sub(1)).ok());
        let answers = progress.answers.iter().map(|answer| ctl::ClientAnswer {
            action: answer.action.clone(),
            unix_ms: answer.unix_ms,
            error: answer.error.clone(),
            on_chain: answer.on_chain,
        });
        ctl::HtlcEntry {
            chan_id: terms.key.chan_id,
            htlc_id: terms.key.htlc_id,
            payment_hash: terms.payment_hash.0.to_vec().into(),
            incoming_amount_msat: terms.incoming_amount_msat,
            outgoing_amount_msat: terms.outgoing_amount_msat,
            incoming_expiry: terms.incoming_expiry,
            outgoing_expiry: terms.outgoing_expiry,
            outgoing_requested_chan_id: terms.requested_chan_id,
            added_unix_ms: terms.added_unix_ms,
            stage: self.stage(htlc).into(),
            offers: progress.offers,
            answers: answers.collect(),
            preimage_revealed: progress.preimage_revealed,
            r#final: fin,
            outcome: seq.and_then(|seq| self.db.outcomes.get(seq)).map(ctl::Outcome::from),
            forwarded_chan_id: progress.forwarded.as_ref().map_or(0, |out| out.chan_id),
            node_paid: match &progress.stage {
                Stage::Final(fin) => fin.settled,
                Stage::Vanished(paid) => *paid,
                _ => false,
            },
            lost_as_dust: matches!(&progress.stage, Stage::Final(fin) if !fin.settled && !fin.offchain)
                && self.is_dust(htlc),
            dust: self.is_dust(htlc),
            closing_unix_ms: self
                .db
                .channels
                .get(&terms.key.chan_id)
                .map_or(0, |channel| channel.closing_unix_ms),
        }
    }

    fn stage(&self, htlc: &Htlc) -> ctl::Stage {
        match &htlc.progress.stage {
            Stage::Locked if self.mem.mailbox.contains_key(&htlc.terms.key) => ctl::Stage::Mailbox,
            Stage::Locked => ctl::Stage::Locked,
            Stage::Sent(_) => ctl::Stage::Sent,
            Stage::Signed(_) => ctl::Stage::Signed,
            Stage::Revoked(_) => ctl::Stage::Revoked,
            Stage::OnChain(_) => ctl::Stage::OnChain,
            Stage::Final(_) => ctl::Stage::Final,
            Stage::Vanished(_) => ctl::Stage::Vanished,
        }
    }
}

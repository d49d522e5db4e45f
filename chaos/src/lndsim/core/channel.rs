use mux_proto::{lndsim::v1 as ctl, lnrpc};
use serde::{Deserialize, Serialize};

/// LND's default for `max_accepted_htlcs` (BOLT 2 upper limit).
const DEFAULT_MAX_ACCEPTED: u32 = 483;
const DEFAULT_CAPACITY_SAT: u64 = 1_000_000_000;
const DEFAULT_DUST_SAT: u64 = 354;
const DEFAULT_CSV: u32 = 4;

/// A channel of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Short channel id.
    pub chan_id: u64,
    /// Hexadecimal.
    pub remote_pubkey: String,
    /// Funding transaction, in the byte order of the RPC's text form, and output.
    pub funding: ([u8; 32], u32),
    /// Open or on its way to the chain.
    pub status: Status,
    /// The peer is connected and the channel reestablished.
    pub online: bool,
    /// The peer does not come back by itself.
    pub stays_away: bool,
    /// Both sides together.
    pub capacity_sat: u64,
    /// The node's side, without HTLCs.
    pub local_msat: u64,
    /// The peer's side, without HTLCs.
    pub remote_msat: u64,
    /// Index of the next incoming HTLC.
    pub next_htlc_id: u64,
    /// Index of the next outgoing HTLC.
    pub next_outgoing_id: u64,
    /// How many HTLCs of the peer may be pending.
    pub max_accepted_htlcs: u32,
    /// Smaller HTLCs have no output on chain.
    pub dust_limit_sat: u64,
    /// Blocks before the second stage of a sweep.
    pub csv_delay: u32,
    /// How far answers get.
    pub limit: Limit,
    /// Answers wait at the limit this long; 0: until it is lifted.
    pub limit_release_ms: u64,
    /// What the peer does with HTLCs forwarded to it.
    pub downstream: Downstream,
    /// When a commitment was broadcast; 0: never.
    #[serde(default)]
    pub closing_unix_ms: u64,
}

/// The last stage an answer may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Limit {
    /// Stays in memory.
    Mailbox,
    /// Is sent, not signed.
    Sent,
    /// Is signed; the peer neither revokes nor signs.
    Signed,
    /// The peer revoked and does not sign.
    Revoked,
    /// No limit.
    Final,
}

/// What the peer behind an outgoing channel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Downstream {
    /// Settles if it has the preimage, else fails.
    Settle,
    /// Fails.
    Fail,
    /// Keeps it.
    Hold,
}

/// Whose commitment goes to chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Commitment {
    /// The node's own.
    Local,
    /// The peer's newest.
    RemoteLatest,
    /// The peer's previous one.
    RemotePrevious,
}

/// Where a channel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Usable, if the peer is there.
    Open,
    /// The closing transaction waits for a block.
    Closing(Commitment),
    /// The commitment is confirmed at this height; HTLC outputs may be left.
    ForceClosed(Commitment, u32),
    /// Nothing left on chain.
    Resolved(Closure, u32),
}

/// How a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Closure {
    /// By agreement.
    Cooperative,
    /// With the node's commitment.
    LocalForce,
    /// With the peer's.
    RemoteForce,
}

impl From<Commitment> for Closure {
    fn from(commitment: Commitment) -> Self {
        match commitment {
            Commitment::Local => Self::LocalForce,
            Commitment::RemoteLatest | Commitment::RemotePrevious => Self::RemoteForce,
        }
    }
}

impl Channel {
    /// An open channel with its peer connected.
    #[must_use]
    pub fn new(request: &ctl::OpenChannelRequest, remote_pubkey: String, funding: ([u8; 32], u32)) -> Self {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let or_32 = |value: u32, default: u32| if value == 0 { default } else { value };
        let capacity_sat = or(u64::try_from(request.capacity_sat).unwrap_or(0), DEFAULT_CAPACITY_SAT);
        let local_sat = u64::try_from(request.local_sat).unwrap_or(0).min(capacity_sat);
        Self {
            chan_id: request.chan_id,
            remote_pubkey,
            funding,
            status: Status::Open,
            online: true,
            stays_away: false,
            capacity_sat,
            local_msat: local_sat.saturating_mul(1000),
            remote_msat: capacity_sat.saturating_sub(local_sat).saturating_mul(1000),
            next_htlc_id: 0,
            next_outgoing_id: 0,
            max_accepted_htlcs: or_32(request.max_accepted_htlcs, DEFAULT_MAX_ACCEPTED),
            dust_limit_sat: or(request.dust_limit_sat, DEFAULT_DUST_SAT),
            csv_delay: or_32(request.csv_delay, DEFAULT_CSV),
            limit: Limit::Final,
            limit_release_ms: 0,
            downstream: Downstream::Settle,
            closing_unix_ms: 0,
        }
    }

    /// Usable now.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == Status::Open && self.online
    }

    /// What the peer must keep (1 %).
    #[must_use]
    pub fn reserve_sat(&self) -> u64 {
        self.capacity_sat / 100
    }

    /// What the peer can still send in one HTLC, in millisatoshi.
    #[must_use]
    pub fn receivable_msat(&self) -> u64 {
        self.remote_msat.saturating_sub(self.reserve_sat().saturating_mul(1000))
    }

    /// `txid:output`.
    #[must_use]
    pub fn point(&self) -> String {
        format!("{}:{}", hex::encode(self.funding.0), self.funding.1)
    }

    /// The same, as LND's events carry it (transaction id in internal byte order).
    #[must_use]
    pub fn point_message(&self) -> lnrpc::ChannelPoint {
        let mut txid = self.funding.0;
        txid.reverse();
        lnrpc::ChannelPoint {
            funding_txid: Some(lnrpc::channel_point::FundingTxid::FundingTxidBytes(txid.to_vec().into())),
            output_index: self.funding.1,
        }
    }

    /// Whether a request means this channel.
    #[must_use]
    pub fn is_point(&self, point: &lnrpc::ChannelPoint) -> bool {
        use lnrpc::channel_point::FundingTxid;
        let mine = match &point.funding_txid {
            Some(FundingTxid::FundingTxidBytes(bytes)) => bytes.iter().rev().eq(self.funding.0.iter()),
            Some(FundingTxid::FundingTxidStr(text)) => *text == hex::encode(self.funding.0),
            None => false,
        };
        mine && point.output_index == self.funding.1
    }
}

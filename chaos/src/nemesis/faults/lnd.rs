//! What an LND node does to its clients. `None`: it is down at the moment, or has nothing to do it with.

use crate::cluster::Lnd;
use mux_proto::lndsim::v1::{
    ChannelRef, CutStreamsRequest, ForceCloseRequest, OpenChannelRequest, Power, RestartRequest,
    SetHeightRequest, SetStageLimitRequest, Stage, channel_entry::Status, cut_streams_request::Mode,
    force_close_request::Commitment, restart_request::Phase,
};

/// Times that the peers of a storm flap.
const FLAPS: usize = 3;

/// What was done, for people; empty: what its kind says.
pub(super) type Done = Option<String>;

pub(super) async fn restart(lnd: &Lnd, chance: u64) -> Done {
    let down = Phase { power: Power::Down.into(), duration_ms: chance / 2 % 3_000 };
    let starting = Phase { power: Power::RpcActive.into(), duration_ms: chance / 4 % 300 };
    let graceful = chance.is_multiple_of(2);
    let request = RestartRequest { phases: vec![down, starting], graceful, peers_stay_offline: false };
    lnd.control().restart(request).await.ok()?;
    Some(format!(", {} ms down", down.duration_ms))
}

pub(super) async fn cut_streams(lnd: &Lnd, chance: u64) -> Done {
    let mode = if chance.is_multiple_of(4) { Mode::Stall } else { Mode::Reset };
    let request = CutStreamsRequest {
        mode: mode.into(),
        hold_slot_ms: chance / 4 % 1_500,
        all_connections: chance.is_multiple_of(2),
    };
    lnd.control().cut_streams(request).await.ok()?;
    Some(if mode == Mode::Stall { ", without a word".into() } else { String::new() })
}

/// Every HTLC that is held is offered again and again.
pub(super) async fn storm(lnd: &Lnd) -> Done {
    for _ in 0..FLAPS {
        for channel in lnd.state().await.ok()?.channels {
            let active = channel.status() == Status::Open && channel.active;
            if active {
                lnd.control().peer_flap(ChannelRef { chan_id: channel.chan_id }).await.ok()?;
            }
        }
    }
    Some(String::new())
}

/// Answers get no further than the node's memory, or the peer's without a signature.
pub(super) async fn hold_answers(lnd: &Lnd, chance: u64) -> Done {
    let limit = if chance.is_multiple_of(2) { Stage::Mailbox } else { Stage::Sent };
    let request = SetStageLimitRequest { chan_id: 0, limit: limit.into(), release_after_ms: 0 };
    lnd.control().set_stage_limit(request).await.ok()?;
    Some(format!(", answers reach {}", limit.as_str_name()))
}

/// The reverse, after a restart that forgets them.
pub(super) async fn lose_answers(lnd: &Lnd) {
    let request = RestartRequest { phases: Vec::new(), graceful: false, peers_stay_offline: false };
    // A node that is down has forgotten them already; the controls work all the same.
    let _ = lnd.control().restart(request).await;
    let limit = Stage::Final.into();
    let _ =
        lnd.control().set_stage_limit(SetStageLimitRequest { chan_id: 0, limit, release_after_ms: 0 }).await;
}

/// One channel goes to chain with everything that is on it; another takes its place.
pub(super) async fn force_close(lnd: &Lnd, chance: u64) -> Done {
    let channels = lnd.state().await.ok()?.channels;
    // Forwards leave by the one with the node's money; it stays.
    let incoming =
        channels.iter().filter(|one| one.status() == Status::Open && one.remote_msat > one.local_msat);
    let incoming: Vec<_> = incoming.collect();
    let channel = incoming.get(usize::try_from(chance).unwrap_or(0) % incoming.len().max(1))?;
    lnd.control().open_channel(OpenChannelRequest::default()).await.ok()?;
    let request = ForceCloseRequest {
        chan_id: channel.chan_id,
        commitment: Commitment::Local.into(),
        wait_for_block: false,
    };
    lnd.control().force_close(request).await.ok()?;
    Some(format!(", with {} HTLCs", channel.pending_htlcs))
}

/// There is one chain: every node sees its tip, one that is down when it is back.
pub(crate) async fn mine(lnds: &[Lnd], blocks: u32) -> Done {
    let mut height = 0;
    for lnd in lnds {
        height = height.max(lnd.state().await.ok()?.chain.unwrap_or_default().tip_height);
    }
    for lnd in lnds {
        lnd.control().set_height(SetHeightRequest { height: height + blocks }).await.ok()?;
    }
    Some(format!(" and all others, height {}", height + blocks))
}

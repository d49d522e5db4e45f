//! What is watched on a connection to a front node, whether or not this replica owns the link: that the
//! node answers, its tip, and its channels. Standbys watch too, so that a take-over starts warm.

use super::LinkTiming;
use super::backoff::{Backoff, jitter};
use crate::lnd::{Dialer, LndClient, LndError};
use mux_proto::lnrpc::{Channel, GetInfoResponse};
use mux_raft::machine::command::ChainTip;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

/// How often an answering node is asked again.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// How soon a node is asked again that gave an error.
const PROBE_RETRY: Duration = Duration::from_millis(300);

/// Errors in a row after which the connection is given up.
const PROBE_ERRORS_MAX: u32 = 2;

/// How often channels are listed although no change was heard of.
const CHANNELS_INTERVAL: Duration = Duration::from_secs(30);

/// Changes of channels that come together are looked at together.
const CHANNELS_DEBOUNCE: Duration = Duration::from_millis(50);

/// How soon an ended subscription is opened again.
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);

/// What the watcher sees.
pub(super) enum Sight {
    /// A node that may be used.
    Connected(Box<LndClient>),
    /// It cannot be used (any more).
    Lost(LndError),
    /// Its tip, just now.
    Tip(ChainTip),
    /// Its channels.
    Channels {
        /// Active ones, under all their ids.
        active: BTreeSet<u64>,
        /// What they can receive together.
        receivable_msat: u64,
    },
}

/// Connects, watches until the connection fails, connects again; for ever.
pub(super) async fn watch(dialer: Dialer, timing: &LinkTiming, sights: mpsc::Sender<Sight>) {
    let mut backoff = Backoff::new(timing);
    loop {
        let error = match dialer.connect().await {
            Ok((client, info)) => {
                backoff.reset();
                watch_connection(&client, &info, timing, &sights).await
            }
            Err(error) => error,
        };
        if sights.send(Sight::Lost(error)).await.is_err() {
            return;
        }
        sleep(jitter(backoff.failed())).await;
    }
}

async fn watch_connection(
    client: &LndClient,
    info: &GetInfoResponse,
    timing: &LinkTiming,
    sights: &mpsc::Sender<Sight>,
) -> LndError {
    if let Some(tip) = tip_of(info) {
        let _ = sights.send(Sight::Tip(tip)).await;
    }
    let _ = sights.send(Sight::Connected(Box::new(client.clone()))).await;
    let block = Notify::new();
    tokio::select! {
        error = probe(client, timing, &block, sights) => error,
        () = follow_blocks(client, &block) => unreachable_watch(client),
        () = follow_channels(client, sights) => unreachable_watch(client),
    }
}

/// The followers only end with the link itself.
fn unreachable_watch(client: &LndClient) -> LndError {
    LndError::Unreachable { endpoint: client.endpoint().to_owned(), reason: "the link is stopped".into() }
}

/// Asks the node whether it is there, and for its tip: regularly, and after each block. Ends with the
/// reason why it cannot be used any more.
async fn probe(
    client: &LndClient,
    timing: &LinkTiming,
    block: &Notify,
    sights: &mpsc::Sender<Sight>,
) -> LndError {
    let mut errors: u32 = 0;
    loop {
        let pause = if errors == 0 { PROBE_INTERVAL } else { PROBE_RETRY };
        let _ = timeout(pause, block.notified()).await;
        let answer = timeout(timing.node_patience, client.checked_info()).await;
        let deadline_ms = u64::try_from(timing.node_patience.as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(Ok(info)) => {
                errors = 0;
                if let Some(tip) = tip_of(&info) {
                    let _ = sights.send(Sight::Tip(tip)).await;
                }
            }
            Err(_) => return LndError::Deadline { call: "GetInfo", deadline_ms },
            Ok(Err(error @ LndError::Refused(_))) => return error,
            Ok(Err(error)) => {
                errors = errors.saturating_add(1);
                if errors >= PROBE_ERRORS_MAX {
                    return error;
                }
            }
        }
    }
}

/// LND prints block hashes in the reverse of their byte order.
fn tip_of(info: &GetInfoResponse) -> Option<ChainTip> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&info.block_hash, &mut hash).ok()?;
    hash.reverse();
    Some(ChainTip { height: info.block_height, hash, synced: info.synced_to_chain })
}

async fn follow_blocks(client: &LndClient, block: &Notify) {
    loop {
        if let Ok(mut epochs) = client.block_epochs().await {
            while let Ok(Some(_)) = epochs.message().await {
                block.notify_one();
            }
        }
        sleep(SUBSCRIBE_RETRY).await;
    }
}

async fn follow_channels(client: &LndClient, sights: &mpsc::Sender<Sight>) {
    let changed = Notify::new();
    let listen = async {
        loop {
            if let Ok(mut events) = client.channel_events().await {
                // Whatever changed before the subscription was confirmed may have been missed.
                changed.notify_one();
                while let Ok(Some(_)) = events.message().await {
                    changed.notify_one();
                }
            }
            sleep(SUBSCRIBE_RETRY).await;
        }
    };
    let list = async {
        loop {
            let started = Instant::now();
            if let Ok(channels) = client.list_channels().await
                && sights.send(summarise(&channels)).await.is_err()
            {
                return;
            }
            let _ = timeout(CHANNELS_INTERVAL, changed.notified()).await;
            tokio::time::sleep_until(started + CHANNELS_DEBOUNCE).await;
        }
    };
    tokio::select! {
        () = listen => (),
        () = list => (),
    }
}

fn summarise(channels: &[Channel]) -> Sight {
    let active = channels.iter().filter(|channel| channel.active);
    let receivable_msat = active.clone().map(receivable_msat).fold(0, u64::saturating_add);
    let ids = active.flat_map(|channel| {
        [channel.chan_id, channel.zero_conf_confirmed_scid]
            .into_iter()
            .chain(channel.alias_scids.iter().copied())
    });
    Sight::Channels { active: ids.filter(|id| *id != 0).collect(), receivable_msat }
}

/// What the peer can send: its balance less its reserve, within what may be pending.
fn receivable_msat(channel: &Channel) -> u64 {
    let balance_sat = u64::try_from(channel.remote_balance).unwrap_or(0);
    let limits = channel.remote_constraints.unwrap_or_default();
    let spendable = balance_sat.saturating_sub(limits.chan_reserve_sat).saturating_mul(1_000);
    if limits.max_pending_amt_msat == 0 { spendable } else { spendable.min(limits.max_pending_amt_msat) }
}

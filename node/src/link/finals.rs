//! Finds out how HTLCs ended whose end the log does not know.
//!
//! Events first, look-ups second: whatever ends while the subscription is being made is found by the
//! look-up. Repeated at every (re)connect and on a timer, starting from applied state, so that nothing
//! depends on an event that LND did not send.

use super::core::HtlcId;
use crate::lnd::{LndClient, LndError};
use mux_proto::lnrpc::LookupHtlcResolutionResponse;
use mux_proto::routerrpc::HtlcEvent;
use mux_raft::consensus::Consensus;
use mux_raft::machine::command::FinalOutcome;
use mux_raft::machine::model::{Htlc, UNCONFIRMED_AFTER_BLOCKS};
use mux_raft::types::{BlockHeight, NodePubkey};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How soon an ended subscription is opened again.
const SUBSCRIBE_RETRY: Duration = Duration::from_millis(500);

/// What is found.
pub(super) enum Finding {
    /// LND said something about an HTLC.
    Event(Box<HtlcEvent>),
    /// A look-up gave the end of an HTLC.
    Final(HtlcId, FinalOutcome),
}

/// Runs until its receiver is gone.
pub(super) async fn follow(
    client: LndClient,
    consensus: Arc<dyn Consensus>,
    node: NodePubkey,
    interval: Duration,
    findings: mpsc::Sender<Finding>,
) {
    while !findings.is_closed() {
        if let Err(error) = follow_once(&client, &*consensus, node, interval, &findings).await {
            tracing::debug!(front_node = %node.short(), %error, "following HTLC events was interrupted");
        }
        sleep(SUBSCRIBE_RETRY).await;
    }
}

async fn follow_once(
    client: &LndClient,
    consensus: &dyn Consensus,
    node: NodePubkey,
    interval: Duration,
    findings: &mpsc::Sender<Finding>,
) -> Result<(), LndError> {
    let mut events = client.htlc_events().await?;
    let listen = async {
        loop {
            let event =
                events.message().await.map_err(|status| client.error("SubscribeHtlcEvents", &status))?;
            let Some(event) = event else { return Ok(()) };
            if findings.send(Finding::Event(Box::new(event))).await.is_err() {
                return Ok(());
            }
        }
    };
    let look_up = async {
        loop {
            if let Err(error) = look_up_all(client, consensus, node, findings).await {
                tracing::warn!(front_node = %node.short(), %error, "looking up how HTLCs ended failed");
            }
            sleep(interval).await;
        }
    };
    tokio::select! {
        ended = listen => ended,
        () = look_up => Ok(()),
    }
}

/// An HTLC without a known end.
struct Open {
    id: HtlcId,
    incoming_expiry: BlockHeight,
}

impl From<&Htlc> for Open {
    fn from(htlc: &Htlc) -> Self {
        Self { id: htlc.key.into(), incoming_expiry: htlc.incoming_expiry }
    }
}

async fn look_up_all(
    client: &LndClient,
    consensus: &dyn Consensus,
    node: NodePubkey,
    findings: &mpsc::Sender<Finding>,
) -> Result<(), LndError> {
    let (open, height) = consensus.state().read(|state| {
        let open: Vec<Open> = state.unresolved_htlcs(&node).map(Open::from).collect();
        (open, state.height_for(&node))
    });
    if open.is_empty() {
        return Ok(());
    }
    // The record is written together with the HTLC's leaving the commitment, so what is no longer
    // pending in a list made first must have its record in a look-up made second.
    let channels = client.list_channels().await?;
    let pending: BTreeSet<HtlcId> = channels
        .iter()
        .flat_map(|channel| channel.pending_htlcs.iter().map(move |htlc| (channel.chan_id, htlc)))
        .filter(|(_, htlc)| htlc.incoming)
        .map(|(chan_id, htlc)| HtlcId { chan_id, htlc_id: htlc.htlc_index })
        .collect();
    let listed: BTreeSet<u64> = channels.iter().map(|channel| channel.chan_id).collect();
    let mut resolved_channels = None;
    for htlc in open.into_iter().filter(|htlc| !pending.contains(&htlc.id)) {
        let record = match client.lookup_htlc(htlc.id.chan_id, htlc.id.htlc_id).await {
            Ok(record) => record,
            // One that LND cannot look up must not keep the others from being looked up.
            Err(error @ LndError::Rpc { .. }) => {
                tracing::warn!(front_node = %node.short(), chan_id = htlc.id.chan_id, %error, "no look-up");
                continue;
            }
            Err(error) => return Err(error),
        };
        let over = if record.is_some() {
            false
        } else if listed.contains(&htlc.id.chan_id) {
            is_long_expired(htlc.incoming_expiry, height)
        } else {
            let resolved = match &resolved_channels {
                Some(resolved) => resolved,
                None => &*resolved_channels.insert(fetch_resolved(client).await?),
            };
            // Looked up before the channels were: once more, or a record made in between is missed.
            resolved.contains(&htlc.id.chan_id) || is_long_expired(htlc.incoming_expiry, height)
        };
        let record = match record {
            None if over => client.lookup_htlc(htlc.id.chan_id, htlc.id.htlc_id).await?,
            record => record,
        };
        if let Some(outcome) = conclude(record, over)
            && findings.send(Finding::Final(htlc.id, outcome)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

async fn fetch_resolved(client: &LndClient) -> Result<BTreeSet<u64>, LndError> {
    Ok(client.closed_channels().await?.iter().map(|channel| channel.chan_id).collect())
}

fn is_long_expired(incoming_expiry: BlockHeight, height: Option<BlockHeight>) -> bool {
    height.is_some_and(|height| height > incoming_expiry.saturating_add(UNCONFIRMED_AFTER_BLOCKS))
}

/// What a look-up says. `over`: if there is no record now, there will never be one.
pub(super) fn conclude(record: Option<LookupHtlcResolutionResponse>, over: bool) -> Option<FinalOutcome> {
    match record {
        Some(LookupHtlcResolutionResponse { settled: true, .. }) => Some(FinalOutcome::Settled),
        Some(LookupHtlcResolutionResponse { settled: false, .. }) => Some(FinalOutcome::Failed),
        None => over.then_some(FinalOutcome::Unconfirmed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_is_proof_and_only_an_end_without_record_is_unconfirmed() {
        let record = |settled| Some(LookupHtlcResolutionResponse { settled, offchain: true });
        assert_eq!(conclude(record(true), false), Some(FinalOutcome::Settled));
        assert_eq!(conclude(record(false), true), Some(FinalOutcome::Failed));
        assert_eq!(conclude(None, false), None);
        assert_eq!(conclude(None, true), Some(FinalOutcome::Unconfirmed));
    }

    #[test]
    fn an_htlc_is_given_up_only_long_after_its_expiry() {
        assert!(!is_long_expired(1_000, None));
        assert!(!is_long_expired(1_000, Some(1_144)));
        assert!(is_long_expired(1_000, Some(1_145)));
    }
}

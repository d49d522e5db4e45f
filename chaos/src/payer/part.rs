//! One part on its way: the onion is built, the HTLC locked in, its end awaited and decoded.

use super::{HtlcOutcome, NewHtlc, Payer, PeerError, failure, onion, plan::Route};
use crate::ledger::{PartEnd, PartFailure, PartRecord, PaymentId};
use mux_raft::types::{PaymentHash, Preimage};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// What all attempts of a payment share.
pub(super) struct Shared {
    pub(super) route: Route,
    /// Nothing is sent any more.
    pub(super) closed: AtomicBool,
}

/// A piece of the amount that still has to be sent.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) amount_msat: u64,
    pub(super) attempt: u32,
    /// Index of the hint to use.
    pub(super) hint: usize,
    /// Before it is sent.
    pub(super) wait: Duration,
}

/// How an attempt ended.
pub(super) enum Attempt {
    Settled {
        preimage_valid: bool,
    },
    Failed(PartFailure),
    NotTaken(PeerError),
    /// The payment was closed while it waited.
    Withdrawn,
}

/// Sends one piece and waits for its end.
pub(super) async fn send(run: &Shared, payer: &Payer, id: PaymentId, piece: &Piece) -> Attempt {
    tokio::time::sleep(piece.wait).await;
    if piece.attempt > 1 && run.closed.load(Ordering::Acquire) {
        return Attempt::Withdrawn;
    }
    let route = &run.route;
    match try_send(payer, id, route, piece).await {
        Ok(attempt) => attempt,
        Err(error) => Attempt::NotTaken(error),
    }
}

async fn try_send(payer: &Payer, id: PaymentId, route: &Route, piece: &Piece) -> Result<Attempt, PeerError> {
    let hint = &route.hints[piece.hint];
    let peer = payer
        .peer_of(hint.front)
        .ok_or_else(|| PeerError::Refused("no channel to the hint's node".into()))?;
    let height = peer.height().await?;
    let fee_msat =
        hint.fee_msat(piece.amount_msat).ok_or_else(|| PeerError::Refused("fee does not fit".into()))?;
    let hop = onion::Hop {
        front: hint.front,
        payee: route.payee,
        scid: hint.scid,
        fee_msat,
        cltv_delta: hint.cltv_delta,
    };
    let terms = onion::PartTerms {
        amount_msat: piece.amount_msat,
        total_msat: route.total_msat,
        height,
        final_cltv: route.final_cltv,
        hash: route.hash,
        secret: route.secret.clone(),
    };
    let built = onion::build(&hop, &terms).map_err(|error| PeerError::Refused(error.to_string()))?;
    let incoming_amount_msat =
        if route.underfunded { built.outgoing_amount_msat / 2 } else { built.incoming_amount_msat };
    let htlc = NewHtlc {
        hash: Some(route.hash),
        incoming_amount_msat,
        outgoing_amount_msat: built.outgoing_amount_msat,
        incoming_expiry: built.incoming_expiry,
        outgoing_expiry: built.outgoing_expiry,
        outgoing_scid: built.outgoing_scid,
        onion: built.packet.into(),
        ..NewHtlc::default()
    };
    let key = peer.add_htlc(htlc).await?;
    let part = payer.ledger.part_sent(
        id,
        PartRecord {
            front: hint.front,
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            amount_msat: piece.amount_msat,
            sent_unix_ms: payer.ledger.now_unix_ms(),
            ended_unix_ms: 0,
            end: None,
        },
    );
    let end = end_of(peer.outcome(key).await, &route.hash, Some(&built.secrets));
    payer.ledger.part_ended(id, part, end.clone());
    Ok(match end {
        PartEnd::Settled { preimage_valid } => Attempt::Settled { preimage_valid },
        PartEnd::Failed(failure) => Attempt::Failed(failure),
    })
}

/// Verifies a preimage, decodes a failure.
pub(super) fn end_of(
    outcome: HtlcOutcome,
    hash: &PaymentHash,
    secrets: Option<&onion::HopSecrets>,
) -> PartEnd {
    match outcome {
        HtlcOutcome::Settled(bytes) => PartEnd::Settled {
            preimage_valid: <[u8; 32]>::try_from(bytes.as_ref())
                .is_ok_and(|bytes| Preimage(bytes).payment_hash() == *hash),
        },
        HtlcOutcome::FailedBy(source, code) => {
            PartEnd::Failed(PartFailure { source, code, data: String::new() })
        }
        HtlcOutcome::Packet(packet) => PartEnd::Failed(
            secrets.map_or_else(failure::unreadable, |secrets| failure::decode(&packet, secrets)),
        ),
    }
}

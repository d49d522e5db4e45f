//! One payment from its first part to its end.

use super::{
    HtlcOutcome, NewHtlc, Payer,
    failure::{self, Action},
    part::{self, Attempt, Piece, Shared},
    plan::Route,
};
use crate::ledger::{
    Expectation, FailureSource, PartEnd, PartFailure, PartRecord, PaymentEnd, PaymentId, PaymentOrder,
    unix_ms,
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use mux_raft::types::{PaymentHash, Preimage};
use rand::{Rng as _, RngCore as _};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Bytes of an onion packet.
const ONION_LEN: usize = 1366;

/// The state of a payment under way.
pub(super) struct Run<'a> {
    payer: &'a Payer,
    id: PaymentId,
    shared: Arc<Shared>,
    started: Instant,
    settled_msat: u64,
    invalid_preimage: bool,
    last_failure: Option<PartFailure>,
    last_error: String,
}

impl<'a> Run<'a> {
    pub(super) fn new(payer: &'a Payer, id: PaymentId, route: Route) -> Self {
        Self {
            payer,
            id,
            shared: Arc::new(Shared { route, closed: AtomicBool::new(false) }),
            started: Instant::now(),
            settled_msat: 0,
            invalid_preimage: false,
            last_failure: None,
            last_error: String::new(),
        }
    }

    /// Sends, retries, waits; gives the payment's end.
    pub(super) async fn finish(mut self) -> PaymentEnd {
        let shared = self.shared.clone();
        let (payer, id) = (self.payer, self.id);
        let mut under_way: FuturesUnordered<BoxFuture<'_, (Piece, Attempt)>> = FuturesUnordered::new();
        for piece in self.first_pieces() {
            under_way.push(attempt(&shared, payer, id, piece));
        }
        let deadline = self.started + payer.patience.give_up_after;
        loop {
            match tokio::time::timeout_at(deadline, under_way.next()).await {
                Err(_) => return PaymentEnd::Undecided,
                Ok(None) => return self.end(),
                Ok(Some((piece, ended))) => {
                    if let Some(piece) = self.react(piece, ended) {
                        under_way.push(attempt(&shared, payer, id, piece));
                    }
                }
            }
        }
    }

    /// The first parts go round the hints, from a random one on.
    fn first_pieces(&self) -> Vec<Piece> {
        let first = self.payer.rng.lock().random_range(0..self.shared.route.hints.len());
        let hints = self.shared.route.hints.len();
        self.shared
            .route
            .amounts
            .iter()
            .enumerate()
            .map(|(at, amount)| Piece {
                amount_msat: *amount,
                attempt: 1,
                hint: (first + at) % hints,
                wait: Duration::ZERO,
            })
            .collect()
    }

    /// What to do after a part's end: perhaps another attempt.
    fn react(&mut self, piece: Piece, ended: Attempt) -> Option<Piece> {
        let action = match ended {
            Attempt::Settled { preimage_valid } => {
                self.settled_msat += piece.amount_msat;
                self.invalid_preimage |= !preimage_valid;
                self.close();
                return None;
            }
            Attempt::Failed(failure) => {
                let action = failure::action(&failure);
                self.last_failure = Some(failure);
                action
            }
            Attempt::Withdrawn => return None,
            Attempt::NotTaken(error) => {
                self.last_error = error.to_string();
                match error {
                    super::PeerError::Unavailable(_) => Action::OtherHint,
                    super::PeerError::Refused(_) => Action::GiveUp,
                }
            }
        };
        let patience = &self.payer.patience;
        if action == Action::GiveUp
            || piece.attempt >= patience.attempts_per_part
            || self.started.elapsed() > patience.retry_for
        {
            self.close();
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return None;
        }
        let hint = match action {
            Action::OtherHint => (piece.hint + 1) % self.shared.route.hints.len(),
            Action::Again | Action::GiveUp => piece.hint,
        };
        let doubled = patience.backoff.saturating_mul(1 << (piece.attempt - 1).min(10));
        Some(Piece {
            amount_msat: piece.amount_msat,
            attempt: piece.attempt + 1,
            hint,
            wait: doubled.min(patience.backoff_max),
        })
    }

    fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    fn end(self) -> PaymentEnd {
        if self.settled_msat >= self.shared.route.total_msat && !self.invalid_preimage {
            return PaymentEnd::Settled;
        }
        if self.settled_msat > 0 {
            return PaymentEnd::Partial;
        }
        match self.last_failure {
            Some(failure) => PaymentEnd::Failed(failure),
            None => PaymentEnd::NotSent(self.last_error),
        }
    }
}

fn attempt<'a>(
    shared: &'a Shared,
    payer: &'a Payer,
    id: PaymentId,
    piece: Piece,
) -> BoxFuture<'a, (Piece, Attempt)> {
    Box::pin(async move {
        let ended = part::send(shared, payer, id, &piece).await;
        (piece, ended)
    })
}

/// See [`Payer::pay_foreign`].
pub(super) async fn pay_foreign(
    payer: &Payer,
    peer: usize,
    outgoing_chan_id: u64,
    amount_msat: u64,
) -> PaymentId {
    let mut preimage = [0; 32];
    let mut onion = vec![0; ONION_LEN];
    {
        let mut rng = payer.rng.lock();
        rng.fill_bytes(&mut preimage);
        rng.fill_bytes(&mut onion[1..]);
    }
    let hash = Preimage(preimage).payment_hash();
    let id = payer.ledger.begin(PaymentOrder {
        label: "not for us".into(),
        hash,
        total_msat: amount_msat,
        expect: Expectation::Settle,
        stored: false,
        foreign: true,
    });
    let sent =
        send_foreign(payer, id, peer, ForeignHtlc { hash, preimage, onion, outgoing_chan_id, amount_msat });
    let end = match tokio::time::timeout(payer.patience.give_up_after, sent).await {
        Err(_) => PaymentEnd::Undecided,
        Ok(Err(error)) => PaymentEnd::NotSent(error.to_string()),
        Ok(Ok(PartEnd::Settled { .. })) => PaymentEnd::Settled,
        Ok(Ok(PartEnd::Failed(failure))) => PaymentEnd::Failed(failure),
    };
    payer.ledger.end(id, end);
    id
}

struct ForeignHtlc {
    hash: PaymentHash,
    preimage: [u8; 32],
    onion: Vec<u8>,
    outgoing_chan_id: u64,
    amount_msat: u64,
}

async fn send_foreign(
    payer: &Payer,
    id: PaymentId,
    peer: usize,
    foreign: ForeignHtlc,
) -> Result<PartEnd, super::PeerError> {
    /// An ordinary forwarding hop.
    const CLTV_DELTA: u32 = 80;
    const FINAL_CLTV: u32 = 83;
    let front = &payer.peers[peer];
    let height = front.height().await?;
    let htlc = NewHtlc {
        hash: Some(foreign.hash),
        incoming_amount_msat: foreign.amount_msat + foreign.amount_msat / 1000 + 1000,
        outgoing_amount_msat: foreign.amount_msat,
        incoming_expiry: height + FINAL_CLTV + CLTV_DELTA,
        outgoing_expiry: height + FINAL_CLTV,
        outgoing_scid: foreign.outgoing_chan_id,
        onion: foreign.onion.into(),
        downstream_preimage: foreign.preimage.to_vec().into(),
    };
    let key = front.add_htlc(htlc).await?;
    let part = payer.ledger.part_sent(
        id,
        PartRecord {
            front: front.node(),
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            amount_msat: foreign.amount_msat,
            sent_unix_ms: unix_ms(),
            ended_unix_ms: 0,
            end: None,
        },
    );
    let outcome = front.outcome(key).await;
    // The virtual node has no part in this one: a packet of it would be a mix-up.
    let end = match outcome {
        HtlcOutcome::Packet(_) => {
            PartEnd::Failed(PartFailure { source: FailureSource::Unreadable, code: 0, data: String::new() })
        }
        other => part::end_of(other, &foreign.hash, None),
    };
    payer.ledger.part_ended(id, part, end.clone());
    Ok(end)
}

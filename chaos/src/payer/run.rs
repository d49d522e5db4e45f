//! One payment from its first part to its end.

use super::{
    Payer,
    failure::{self, Action},
    part::{self, Attempt, Piece, Shared},
    plan::Route,
};
use crate::ledger::{PartFailure, PaymentEnd, PaymentId};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use rand::Rng as _;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::time::Instant;

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
        let between = self.shared.route.between_parts;
        self.shared
            .route
            .amounts
            .iter()
            .enumerate()
            .map(|(at, amount)| Piece {
                amount_msat: *amount,
                attempt: 1,
                hint: (first + at) % hints,
                wait: between * u32::try_from(at).unwrap_or(u32::MAX),
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

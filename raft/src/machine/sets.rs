//! HTLC sets until they are decided: a part joins, the set is complete, the set fails, a part is lost.
//!
//! A set is one attempt to pay an invoice. Failing it answers every part at once and makes the invoice
//! payable again, unless it expired or was cancelled.

use super::apply::Step;
use super::model::{
    DetailsCause, EventKind, FailReason, Htlc, HtlcSet, Invoice, InvoiceState, TemporaryCause, Verdict,
};
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{BlockHeight, CircuitKey, Msat, NodePubkey, PaymentHash, SetId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Why a whole set fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetFailure {
    MppTimeout,
    Details(DetailsCause),
    Temporary(TemporaryCause),
    /// This part was offered again from the chain.
    OnChain(CircuitKey),
    /// The invoice itself is cancelled.
    Canceled,
}

impl SetFailure {
    /// What one part is told.
    fn reason(self, key: &CircuitKey, height: BlockHeight) -> FailReason {
        let details = |cause| FailReason::IncorrectDetails { height, cause };
        match self {
            Self::MppTimeout => FailReason::MppTimeout,
            Self::Details(cause) => details(cause),
            Self::Temporary(cause) => FailReason::Temporary { cause },
            Self::OnChain(part) if part == *key => details(DetailsCause::OnChain),
            Self::OnChain(_) => details(DetailsCause::SetOnChain),
            Self::Canceled => details(DetailsCause::Canceled),
        }
    }

    /// What the set as a whole is said to have failed of.
    fn set_reason(self, height: BlockHeight) -> FailReason {
        match self {
            Self::OnChain(_) => FailReason::IncorrectDetails { height, cause: DetailsCause::SetOnChain },
            _ => self.reason(&NO_KEY, height),
        }
    }
}

/// No HTLC's name.
const NO_KEY: CircuitKey = CircuitKey { node: NodePubkey([0; 33]), chan_id: 0, htlc_id: 0 };

impl State {
    /// Adds a part that passed every check to the set under way, or begins one, and completes it if that
    /// was the last part.
    pub(super) fn join_set(&mut self, step: &mut Step, htlc: Htlc, total_msat: Msat) {
        let (key, hash, amount_msat) = (htlc.key, htlc.hash, htlc.outgoing_amount_msat);
        let time_ms = self.core.time_ms;
        self.insert_htlc(htlc);
        self.change_invoice(&hash, |invoice| {
            let set = invoice.set.get_or_insert_with(|| {
                invoice.attempt = invoice.attempt.saturating_add(1);
                HtlcSet {
                    attempt: invoice.attempt,
                    total_msat,
                    sum_msat: Msat::ZERO,
                    parts: BTreeSet::new(),
                    started_at_ms: time_ms,
                    accepted_at_ms: 0,
                    settle_intent: false,
                    id: None,
                }
            });
            if set.parts.insert(key) {
                // Cannot overflow: the sum was checked against twice the amount.
                set.sum_msat = Msat(set.sum_msat.0.saturating_add(amount_msat.0));
            }
        });
        self.emit(step, hash, EventKind::HtlcJoined { key, amount_msat });
        self.accept_if_complete(step, hash);
    }

    /// An OPEN invoice whose set has reached its total becomes ACCEPTED.
    fn accept_if_complete(&mut self, step: &mut Step, hash: PaymentHash) {
        let time_ms = self.core.time_ms;
        let accepted = self.change_invoice(&hash, |invoice| {
            let set = invoice.set.as_mut().filter(|_| invoice.state == InvoiceState::Open)?;
            let half = planted(Mutant::UnderpaidSettles) && set.sum_msat.0 >= set.total_msat.0 / 2;
            if set.sum_msat < set.total_msat && !half {
                return None;
            }
            let id = set_id(&set.parts);
            set.id = Some(id);
            set.accepted_at_ms = time_ms;
            invoice.state = InvoiceState::Accepted;
            Some((id, set.sum_msat))
        });
        if let Some((set_id, amount_msat)) = accepted.flatten() {
            self.emit(step, hash, EventKind::Accepted { set_id, amount_msat });
        }
    }

    /// Fails the undecided set of an invoice; without one, nothing happens. The invoice is OPEN again, or
    /// EXPIRED if its time is over, or CANCELED if that is the reason.
    pub(super) fn fail_set(&mut self, step: &mut Step, hash: PaymentHash, failure: SetFailure) {
        let time_ms = self.core.time_ms;
        let taken = self.change_invoice(&hash, take_undecided_set);
        let Some(set) = taken.flatten() else { return };
        self.core.intents.remove(&hash);
        for key in &set.parts {
            let height = self.height_for(&key.node).unwrap_or(0);
            self.record_fail(step, key, failure.reason(key, height));
        }
        let height = set.parts.first().and_then(|key| self.height_for(&key.node)).unwrap_or(0);
        let next = self.change_invoice(&hash, |invoice| {
            if failure == SetFailure::Canceled {
                invoice.state = InvoiceState::Canceled;
                invoice.finalized_at_ms = time_ms;
            } else if time_ms >= invoice.terms.expires_at_ms {
                invoice.state = InvoiceState::Expired;
                invoice.finalized_at_ms = time_ms;
            }
            invoice.state
        });
        let reason = failure.set_reason(height);
        self.emit(step, hash, EventKind::SetFailed { reason, amount_msat: set.sum_msat });
        match next {
            Some(InvoiceState::Canceled) => self.emit(step, hash, EventKind::Canceled),
            Some(InvoiceState::Expired) => self.emit(step, hash, EventKind::Expired),
            _ => {}
        }
    }

    /// Takes a part out of its undecided set, because LND let go of it: the set waits for another one.
    pub(super) fn drop_part(&mut self, step: &mut Step, key: CircuitKey) {
        let Some(htlc) = self.core.htlcs.get(&key).filter(|htlc| htlc.verdict.is_none()) else { return };
        let (hash, amount_msat) = (htlc.hash, htlc.outgoing_amount_msat);
        let reason = FailReason::Temporary { cause: TemporaryCause::FailedByLnd };
        self.record_fail(step, &key, reason);
        self.core.intents.remove(&hash);
        let empty = self.change_invoice(&hash, |invoice| {
            if invoice.state == InvoiceState::Accepted {
                invoice.state = InvoiceState::Open;
            }
            let set = invoice.set.as_mut()?;
            if set.parts.remove(&key) {
                set.sum_msat = set.sum_msat.checked_sub(amount_msat).unwrap_or(Msat::ZERO);
            }
            // What an application asked to settle is not what is left of it.
            (set.id, set.accepted_at_ms, set.settle_intent) = (None, 0, false);
            let empty = set.parts.is_empty();
            if empty {
                invoice.set = None;
            }
            Some(empty)
        });
        if let Some(htlc) = self.core.htlcs.get(&key) {
            let kind = EventKind::HtlcFinal { key, state: htlc.final_state };
            self.emit(step, hash, kind);
        }
        if empty.flatten() == Some(true) {
            self.emit(step, hash, EventKind::SetFailed { reason, amount_msat: Msat::ZERO });
        } else {
            self.accept_if_complete(step, hash);
        }
    }

    /// Records a FAIL for an HTLC that has no verdict yet.
    fn record_fail(&mut self, step: &mut Step, key: &CircuitKey, reason: FailReason) {
        let index = self.core.applied.index;
        self.change_htlc(key, |htlc| {
            if htlc.verdict.is_none() || planted(Mutant::CancelAfterDecision) {
                htlc.verdict = Some(Verdict::Fail(reason));
                htlc.decided_at_index = index;
            }
        });
        step.nodes.insert(key.node);
    }
}

/// Takes the set off an invoice that is not decided; it is OPEN for the moment.
fn take_undecided_set(invoice: &mut Invoice) -> Option<HtlcSet> {
    match invoice.state {
        InvoiceState::Settling if planted(Mutant::CancelAfterDecision) => invoice.set.take(),
        InvoiceState::Open | InvoiceState::Accepted => {
            let set = invoice.set.take()?;
            invoice.state = InvoiceState::Open;
            Some(set)
        }
        InvoiceState::Settling
        | InvoiceState::Settled
        | InvoiceState::Partial
        | InvoiceState::Canceled
        | InvoiceState::Expired => None,
    }
}

/// `SHA-256` over the sorted `(node ‖ chan_id ‖ htlc_id)`, integers big-endian: lnmux's set id.
pub(super) fn set_id(parts: &BTreeSet<CircuitKey>) -> SetId {
    let mut hasher = Sha256::new();
    for key in parts {
        hasher.update(key.node.0);
        hasher.update(key.chan_id.to_be_bytes());
        hasher.update(key.htlc_id.to_be_bytes());
    }
    SetId(hasher.finalize().into())
}

//! How HTLCs ended, by LND's or an operator's word, and what that makes of their invoices.
//!
//! A decided HTLC waits for its end and keeps its SETTLE whatever comes; an undecided one that LND let go
//! of leaves its set. SETTLED needs every part settled; a decided part that is lost makes it PARTIAL.

use super::apply::Step;
use super::command::{FinalOutcome, HtlcFinal};
use super::model::{EventKind, FinalState, Htlc, InvoiceState, UNCONFIRMED_AFTER_BLOCKS, Verdict};
use super::reply::{Alarm, Rejection, Reply};
use super::state::State;
use crate::types::{CircuitKey, Msat, NodePubkey, PaymentHash};

impl State {
    pub(super) fn htlc_finals(&mut self, step: &mut Step, node: NodePubkey, finals: &[HtlcFinal]) -> Reply {
        if !self.core.front_nodes.contains_key(&node) {
            return Reply::Rejected(Rejection::UnknownFrontNode(node));
        }
        let mut unknown = Vec::new();
        for HtlcFinal { chan_id, htlc_id, outcome } in finals {
            let key = CircuitKey { node, chan_id: *chan_id, htlc_id: *htlc_id };
            self.compare_with_backup(step, key, *outcome);
            match self.core.htlcs.get(&key).map(|htlc| htlc.verdict) {
                None if self.recalled.has_htlc(&key) => self.final_of_archived(step, key, *outcome),
                None => unknown.push((*chan_id, *htlc_id)),
                Some(Some(Verdict::Settle)) => self.final_of_decided(step, key, *outcome),
                Some(Some(Verdict::Fail(_))) => self.final_of_failed(step, key, *outcome),
                Some(None) => self.final_of_undecided(step, key, *outcome),
            }
        }
        Reply::UnknownHtlcs(unknown)
    }

    fn final_of_decided(&mut self, step: &mut Step, key: CircuitKey, outcome: FinalOutcome) {
        let state = match outcome {
            FinalOutcome::Settled => FinalState::Settled,
            FinalOutcome::Failed => FinalState::Failed,
            FinalOutcome::Unconfirmed => FinalState::Unconfirmed,
            // Off the chain it is gone; from the chain LND may offer it again, and gets its SETTLE.
            FinalOutcome::FailedByLnd => {
                self.change_htlc(&key, |htlc| htlc.gone = true);
                return;
            }
        };
        self.finish_htlc(step, key, state);
    }

    /// Its end stands; LND may say the same again.
    fn final_of_archived(&self, step: &mut Step, key: CircuitKey, outcome: FinalOutcome) {
        let Some(htlc) = self.known_htlc(&key) else { return };
        let contradicts = match outcome {
            FinalOutcome::Settled => !is_settled(htlc.final_state),
            FinalOutcome::Failed => is_settled(htlc.final_state),
            FinalOutcome::FailedByLnd | FinalOutcome::Unconfirmed => false,
        };
        if contradicts {
            step.alarms.push(Alarm::ContradictingFinal(key));
        }
    }

    fn final_of_failed(&mut self, step: &mut Step, key: CircuitKey, outcome: FinalOutcome) {
        match outcome {
            FinalOutcome::Settled => self.settled_without_decision(step, key),
            FinalOutcome::Failed => {
                let settled = self.change_htlc(&key, |htlc| {
                    let settled = is_settled(htlc.final_state);
                    if !settled {
                        htlc.final_state = FinalState::Failed;
                        htlc.gone = true;
                    }
                    settled
                });
                if settled == Some(true) {
                    step.alarms.push(Alarm::ContradictingFinal(key));
                }
            }
            FinalOutcome::FailedByLnd | FinalOutcome::Unconfirmed => {
                self.change_htlc(&key, |htlc| htlc.gone = true);
            }
        }
    }

    fn final_of_undecided(&mut self, step: &mut Step, key: CircuitKey, outcome: FinalOutcome) {
        let state = match outcome {
            FinalOutcome::Settled | FinalOutcome::FailedByLnd => FinalState::Open,
            FinalOutcome::Failed => FinalState::Failed,
            FinalOutcome::Unconfirmed => FinalState::Unconfirmed,
        };
        self.change_htlc(&key, |htlc| {
            htlc.gone = true;
            htlc.final_state = state;
        });
        self.drop_part(step, key);
        if outcome == FinalOutcome::Settled {
            self.settled_without_decision(step, key);
        }
    }

    /// Must not happen, but LND claims every HTLC on chain whose preimage it knows, whatever we answered.
    fn settled_without_decision(&mut self, step: &mut Step, key: CircuitKey) {
        let news = self.change_htlc(&key, |htlc| {
            let news = !is_settled(htlc.final_state);
            htlc.final_state = FinalState::Settled;
            htlc.gone = true;
            news.then_some(htlc.hash)
        });
        if let Some(hash) = news.flatten() {
            step.alarms.push(Alarm::SettledWithoutDecision(key));
            self.emit(step, hash, EventKind::HtlcFinal { key, state: FinalState::Settled });
        }
    }

    /// A decided HTLC ended, or its end became unknowable. The first end that is certain stands.
    fn finish_htlc(&mut self, step: &mut Step, key: CircuitKey, state: FinalState) {
        let change = self.change_htlc(&key, |htlc| {
            let former = htlc.final_state;
            if former == state || former.is_final() {
                return Err(state.is_final() && is_settled(former) != is_settled(state));
            }
            htlc.final_state = state;
            htlc.gone = true;
            Ok((htlc.hash, htlc.outgoing_amount_msat))
        });
        match change {
            None | Some(Err(false)) => {}
            Some(Err(true)) => step.alarms.push(Alarm::ContradictingFinal(key)),
            Some(Ok((hash, amount_msat))) => {
                self.emit(step, hash, EventKind::HtlcFinal { key, state });
                if is_settled(state) {
                    self.change_invoice(&hash, |invoice| {
                        // Cannot overflow: at most the set's sum.
                        let received = invoice.received_msat.0.saturating_add(amount_msat.0);
                        invoice.received_msat = Msat(received);
                    });
                } else if state.is_final() {
                    step.alarms.push(Alarm::DecidedPartLost(key));
                } else {
                    step.alarms.push(Alarm::Unconfirmed(key));
                }
                self.finish_invoice(step, hash);
            }
        }
    }

    /// Every part of a decided set is final: SETTLED, or PARTIAL if one is lost.
    pub(super) fn finish_invoice(&mut self, step: &mut Step, hash: PaymentHash) {
        let Some(invoice) = self.core.invoices.get(&hash) else { return };
        let Some(set) = invoice.set.as_ref().filter(|_| invoice.state == InvoiceState::Settling) else {
            return;
        };
        let ends = |key| self.core.htlcs.get(key).map_or(FinalState::Unconfirmed, |htlc| htlc.final_state);
        let lacks_parts = self.lacks_proved_parts(&hash);
        let waits = lacks_parts && self.may_parts_follow();
        if waits || !set.parts.iter().map(ends).all(FinalState::is_final) {
            return;
        }
        let complete = !lacks_parts && set.parts.iter().map(ends).all(is_settled);
        let received_msat = invoice.received_msat;
        let settle_index = self.core.last_settle_index.saturating_add(1);
        self.core.last_settle_index = settle_index;
        let time_ms = self.core.time_ms;
        self.change_invoice(&hash, |invoice| {
            invoice.state = if complete { InvoiceState::Settled } else { InvoiceState::Partial };
            invoice.settle_index = settle_index;
            invoice.finalized_at_ms = time_ms;
        });
        let kind = if complete {
            EventKind::Settled { received_msat }
        } else {
            EventKind::Partial { received_msat }
        };
        self.emit(step, hash, kind);
    }

    /// An operator's word, where LND has none to give.
    pub(super) fn resolve_htlc(&mut self, step: &mut Step, key: CircuitKey, settled: bool) -> Reply {
        let rejected = |why: &str| Reply::Rejected(Rejection::Htlc(key, why.to_owned()));
        let state = if settled { FinalState::OperatorSettled } else { FinalState::OperatorLost };
        let Some(htlc) = self.known_htlc(&key) else { return rejected("is not known") };
        if htlc.final_state == state {
            return Reply::Done;
        }
        if htlc.final_state.is_final() {
            return rejected("is final");
        }
        if !self.needs_operator(htlc) {
            return rejected("may still be reported on by LND");
        }
        match htlc.verdict {
            Some(Verdict::Settle) => self.finish_htlc(step, key, state),
            None | Some(Verdict::Fail(_)) => {
                let hash = htlc.hash;
                if htlc.verdict.is_none() {
                    self.drop_part(step, key);
                }
                self.change_htlc(&key, |htlc| htlc.final_state = state);
                self.emit(step, hash, EventKind::HtlcFinal { key, state });
            }
        }
        Reply::Done
    }

    /// LND cannot be expected to tell its end any more.
    fn needs_operator(&self, htlc: &Htlc) -> bool {
        let last = htlc.incoming_expiry.saturating_add(UNCONFIRMED_AFTER_BLOCKS);
        let over = self.certain_height(&htlc.key.node).is_some_and(|height| height > last);
        over || htlc.final_state == FinalState::Unconfirmed
    }

    /// Decided HTLCs that are long past their expiry without a word from LND become UNCONFIRMED.
    pub(super) fn mark_unconfirmed(&mut self, step: &mut Step, keys: Vec<CircuitKey>) {
        for key in keys {
            self.finish_htlc(step, key, FinalState::Unconfirmed);
        }
    }
}

fn is_settled(state: FinalState) -> bool {
    matches!(state, FinalState::Settled | FinalState::OperatorSettled)
}

//! What falls due as log time and log height advance.
//!
//! Runs in every entry, by indexes ordered by due time or height. Block deadlines and invoice expiry know
//! no grace; accept and mpp timers do not fire while one is running.

use super::apply::Step;
use super::model::{DetailsCause, EventKind, InvoiceKind, InvoiceState, TemporaryCause};
use super::sets::SetFailure;
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{CircuitKey, LogTimeMs, NodePubkey, PaymentHash};
use std::collections::BTreeSet;

impl State {
    /// Fails and expires whatever is due at the present time and heights.
    pub(super) fn run_due(&mut self, step: &mut Step) {
        self.refresh_heights();
        self.run_deadlines(step);
        self.run_set_timers(step);
        self.run_expiries(step);
    }

    fn run_deadlines(&mut self, step: &mut Step) {
        if planted(Mutant::WaitsPastDeadline) {
            return;
        }
        let nodes: Vec<_> = self.core.front_nodes.keys().copied().collect();
        for node in nodes {
            let Some(height) = self.height_for(&node) else { continue };
            let range = (node, 0, lowest_key(node))..=(node, height, highest_key(node));
            let due: Vec<_> = self.index.deadlines.range(range).map(|(_, _, key)| *key).collect();
            for key in due {
                let Some(hash) = self.core.htlcs.get(&key).map(|htlc| htlc.hash) else { continue };
                if self.is_set_in_doubt(&hash) {
                    continue;
                }
                self.fail_set(step, hash, SetFailure::Details(DetailsCause::Deadline));
            }
        }
    }

    fn run_set_timers(&mut self, step: &mut Step) {
        if self.core.time_ms < self.core.grace_until_ms || self.is_reconciling() {
            return;
        }
        for hash in due(&self.index.set_timers, self.core.time_ms) {
            if let Some(failure) = self.timeout_failure(&hash) {
                self.fail_set(step, hash, failure);
            }
        }
    }

    /// How an undecided set sounds whose time is over.
    fn timeout_failure(&self, hash: &PaymentHash) -> Option<SetFailure> {
        let invoice = self.core.invoices.get(hash)?;
        let set = invoice.set.as_ref()?;
        let automatic = self.core.settings.auto_settle && invoice.terms.kind != InvoiceKind::Hold;
        Some(match invoice.state {
            InvoiceState::Open => SetFailure::MppTimeout,
            _ if automatic || set.settle_intent => SetFailure::Temporary(TemporaryCause::GateClosed),
            _ => SetFailure::Details(DetailsCause::AcceptTimeout),
        })
    }

    fn run_expiries(&mut self, step: &mut Step) {
        if self.is_reconciling() {
            return;
        }
        for hash in due(&self.index.expiries, self.core.time_ms) {
            self.fail_set(step, hash, SetFailure::Details(DetailsCause::Expired));
            self.expire(step, hash);
        }
    }

    /// OPEN without a set, past its expiry: EXPIRED.
    pub(super) fn expire(&mut self, step: &mut Step, hash: PaymentHash) {
        let time_ms = self.core.time_ms;
        let expired = self.change_invoice(&hash, |invoice| {
            let due = invoice.state == InvoiceState::Open && invoice.set.is_none();
            if due {
                invoice.state = InvoiceState::Expired;
                invoice.finalized_at_ms = time_ms;
            }
            due
        });
        if expired == Some(true) {
            self.emit(step, hash, EventKind::Expired);
        }
    }
}

/// Everything whose time is not after this.
fn due<T: Copy + Ord>(timers: &BTreeSet<(LogTimeMs, T)>, time_ms: LogTimeMs) -> Vec<T> {
    timers.iter().take_while(|(due_ms, _)| *due_ms <= time_ms).map(|(_, what)| *what).collect()
}

/// The first key of a node, for ranges.
pub(super) fn lowest_key(node: NodePubkey) -> CircuitKey {
    CircuitKey { node, chan_id: 0, htlc_id: 0 }
}

/// The last key of a node, for ranges.
pub(super) fn highest_key(node: NodePubkey) -> CircuitKey {
    CircuitKey { node, chan_id: u64::MAX, htlc_id: u64::MAX }
}

//! A state that was restored from a backup, and what it must find out before it decides anything.
//!
//! A backup is older than what the cluster did last: verdicts may have been given that it does not know. So a
//! restored state asks first. Every HTLC whose end the backup does not know is *in doubt* until LND says how it
//! ended, or offers it again on a new stream, which proves that no answer took effect. Until none is in doubt
//! nothing is decided, and no timer, block deadline or close of a channel fails a set that is in doubt: LND gives an
//! HTLC back by itself before its time is over. An HTLC that LND settled although the backup knows no decision
//! proves the decision: the rest of its set is settled, too, and parts that came after the backup with it.
//!
//! What came after the backup in full (invoices, HTLCs, events) is not known and cannot be asked for: LND finds
//! the ends of HTLCs by their keys only.

use super::apply::Step;
use super::command::{FinalOutcome, HtlcOffer};
use super::level;
use super::model::{EventKind, FinalState, GAP_GRACE_MS, Htlc, Invoice, InvoiceState, Verdict};
use super::reply::{Rejection, Reply};
use super::sets::SetFailure;
use super::state::{LogPosition, State};
use super::stores::Stores;
use crate::types::{CircuitKey, LogTimeMs, Msat, NodePubkey, PaymentHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// What a restored cluster knows of its restoration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The last entry in the backup.
    pub at: LogPosition,
    /// Log time of the backup.
    pub time_ms: LogTimeMs,
    /// HTLCs in doubt at the restoration.
    pub asked: u64,
    /// HTLCs still in doubt.
    pub in_doubt: BTreeSet<CircuitKey>,
    /// Where LND's word differs from the backup.
    pub differences: Vec<Difference>,
    /// HTLCs that were in doubt when an operator put an end to it.
    pub given_up: BTreeSet<CircuitKey>,
    /// Invoices whose decision is known only from LND.
    pub proved: BTreeSet<PaymentHash>,
    /// Front nodes that have had no session since the restoration: parts that came after the backup may be there.
    pub unheard: BTreeSet<NodePubkey>,
    /// Nothing was in doubt any more, or an operator did not wait.
    pub ended: bool,
    /// Log time before which the last front node that was heard from may still offer what it holds.
    pub closes_at_ms: LogTimeMs,
    /// After that: every front node was heard from, and had its time.
    pub closed: bool,
}

/// Where LND's word differs from the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The HTLC.
    pub key: CircuitKey,
    /// What it paid or tried to pay.
    pub hash: PaymentHash,
    /// What differs.
    pub kind: DifferenceKind,
}

/// See [`Difference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DifferenceKind {
    /// Undecided in the backup, settled at LND: the decision came after the backup. It is recorded again.
    SettledSince,
    /// Undecided in the backup, failed at LND.
    FailedSince,
    /// Decided to settle in the backup, failed at LND: its money did not arrive.
    LostSince,
    /// Failed in the backup, settled at LND.
    SettledAgainstVerdict,
}

impl State {
    /// How the restoration stands, if this cluster was restored from a backup.
    #[must_use]
    pub fn restored(&self) -> Option<&Restored> {
        self.more.restored.as_ref()
    }

    /// Whether HTLCs are still in doubt after a restoration: nothing is decided until then.
    #[must_use]
    pub fn is_reconciling(&self) -> bool {
        self.more.restored.as_ref().is_some_and(|restored| !restored.in_doubt.is_empty())
    }

    /// HTLCs that went on chain and were refused after the restoration, and whose end LND has not told. Had the lost
    /// cluster decided to settle one, nobody would know it here.
    pub fn refused_on_chain_since_restoration(&self) -> impl Iterator<Item = &Htlc> {
        let restored_at = self.more.restored.as_ref().map(|restored| restored.at.index);
        let unresolved = restored_at.map(|at| self.index.unresolved.iter().map(move |key| (at, key)));
        unresolved.into_iter().flatten().filter_map(|(at, key)| {
            let refused = |htlc: &&Htlc| {
                matches!(htlc.verdict, Some(Verdict::Fail(_))) && htlc.on_chain && htlc.decided_at_index > at
            };
            self.core.htlcs.get(key).filter(refused)
        })
    }

    /// Makes the state of a backup the first one of a new cluster: nobody holds a link, no member is known, and
    /// every HTLC that is not final is in doubt.
    pub fn begin_anew(&mut self) {
        for front in self.core.front_nodes.values_mut() {
            front.assigned = None;
            front.session = None;
        }
        self.more.level = self.more.level.max(level::ARCHIVE);
        self.more.stores = Stores::default();
        let unresolved = self.index.unresolved.iter().copied();
        let in_doubt: BTreeSet<_> = unresolved.filter(|key| self.may_hear_of(key)).collect();
        let unheard = self.front_nodes().map(|front| front.node).collect();
        let asked = u64::try_from(in_doubt.len()).unwrap_or(u64::MAX);
        let (at, time_ms) = (self.core.applied, self.core.time_ms);
        self.more.restored = Some(Restored { at, time_ms, asked, in_doubt, unheard, ..Restored::default() });
        // Never taken for the state of the cluster that made the backup.
        let mut hasher = Sha256::new_with_prefix(b"restored");
        hasher.update(self.core.chain_hash);
        self.core.chain_hash = hasher.finalize().into();
        self.rebuild_index();
    }

    /// Cancels what is open and has no HTLCs, each with an event that says why: some of it may have been paid after the
    /// backup, and would be paid twice. Part of making the first state of a new cluster, after [`Self::begin_anew`].
    /// Returns how many.
    pub fn void_open(&mut self) -> u64 {
        let is_unpaid = |invoice: &&Invoice| invoice.state == InvoiceState::Open && invoice.set.is_none();
        let open: Vec<_> =
            self.core.invoices.values().filter(is_unpaid).map(|invoice| invoice.hash).collect();
        if open.is_empty() {
            return 0;
        }
        // Who does not know the event could not read the state.
        self.more.level = self.more.level.max(level::VOIDED);
        let (time_ms, mut step) = (self.core.time_ms, Step::default());
        for hash in &open {
            self.change_invoice(hash, |invoice| {
                invoice.state = InvoiceState::Canceled;
                invoice.finalized_at_ms = time_ms;
            });
            self.emit(&mut step, *hash, EventKind::Voided);
        }
        let mut hasher = Sha256::new_with_prefix(b"voided");
        hasher.update(self.core.chain_hash);
        self.core.chain_hash = hasher.finalize().into();
        u64::try_from(open.len()).unwrap_or(u64::MAX)
    }

    /// LND's word on an HTLC in doubt, before it is acted on. Records the decision that it proves.
    pub(super) fn compare_with_backup(&mut self, step: &mut Step, key: CircuitKey, outcome: FinalOutcome) {
        let Some(restored) = &self.more.restored else { return };
        // What an operator gave up is still a proof when it comes.
        if !restored.in_doubt.contains(&key) && !restored.given_up.contains(&key) {
            return;
        }
        let Some(htlc) = self.core.htlcs.get(&key) else { return };
        let hash = htlc.hash;
        let kind = match (htlc.verdict, outcome) {
            (None, FinalOutcome::Settled) => DifferenceKind::SettledSince,
            (None, FinalOutcome::Failed | FinalOutcome::FailedByLnd) => DifferenceKind::FailedSince,
            (Some(Verdict::Settle), FinalOutcome::Failed) => DifferenceKind::LostSince,
            (Some(Verdict::Fail(_)), FinalOutcome::Settled) => DifferenceKind::SettledAgainstVerdict,
            _ => return,
        };
        if let Some(restored) = &mut self.more.restored {
            restored.differences.push(Difference { key, hash, kind });
        }
        if kind == DifferenceKind::SettledSince {
            self.decide_by_proof(step, hash);
        }
    }

    /// LND has the preimage of this invoice: whatever else of its set is held must be settled.
    fn decide_by_proof(&mut self, step: &mut Step, hash: PaymentHash) {
        let time_ms = self.core.time_ms;
        let undecided = self.change_invoice(&hash, |invoice| {
            let open = matches!(invoice.state, InvoiceState::Open | InvoiceState::Accepted);
            let Some(set) = invoice.set.as_mut().filter(|_| open) else { return false };
            if set.id.is_none() {
                set.id = Some(super::sets::set_id(&set.parts));
                set.accepted_at_ms = time_ms;
            }
            true
        });
        if undecided == Some(true) {
            if let Some(restored) = &mut self.more.restored {
                restored.proved.insert(hash);
            }
            self.decide(step, hash);
        }
    }

    /// Whether the decision on this invoice is known from LND only, and parts of its set came after the backup.
    pub(super) fn lacks_proved_parts(&self, hash: &PaymentHash) -> bool {
        let proved = self.more.restored.as_ref().is_some_and(|restored| restored.proved.contains(hash));
        let lacks = |invoice: &Invoice| {
            let set = invoice.set.as_ref().filter(|_| invoice.state == InvoiceState::Settling);
            set.is_some_and(|set| set.sum_msat < set.total_msat)
        };
        proved && self.core.invoices.get(hash).is_some_and(lacks)
    }

    /// An HTLC that the backup does not know is a missing part of a set whose decision is proved: the preimage is
    /// out, so it is settled with the rest. Says whether it was taken.
    pub(super) fn join_proved_set(&mut self, step: &mut Step, mut htlc: Htlc, offer: &HtlcOffer) -> bool {
        let hash = offer.hash;
        let is_part = |invoice: &Invoice| {
            let total = invoice.set.as_ref().map(|set| set.total_msat);
            invoice.secret == offer.secret && total == Some(offer.total_msat)
        };
        if !self.lacks_proved_parts(&hash) || !self.core.invoices.get(&hash).is_some_and(is_part) {
            return false;
        }
        let (key, amount_msat) = (htlc.key, htlc.outgoing_amount_msat);
        htlc.verdict = Some(Verdict::Settle);
        htlc.decided_at_index = self.core.applied.index;
        self.insert_htlc(htlc);
        self.change_invoice(&hash, |invoice| {
            if let Some(set) = invoice.set.as_mut() {
                set.parts.insert(key);
                set.sum_msat = Msat(set.sum_msat.0.saturating_add(amount_msat.0));
            }
        });
        self.emit(step, hash, EventKind::HtlcJoined { key, amount_msat });
        step.nodes.insert(key.node);
        true
    }

    /// Whether a part of this invoice's set is in doubt: whatever else is known, it must not be failed.
    pub(super) fn is_set_in_doubt(&self, hash: &PaymentHash) -> bool {
        let Some(restored) = &self.more.restored else { return false };
        let invoice = self.core.invoices.get(hash).filter(|_| !restored.in_doubt.is_empty());
        let parts = invoice.and_then(|invoice| invoice.set.as_ref()).map(|set| &set.parts);
        parts.is_some_and(|parts| !parts.is_disjoint(&restored.in_doubt))
    }

    /// Whether parts that came after the backup may still be offered.
    pub(super) fn may_parts_follow(&self) -> bool {
        self.more.restored.as_ref().is_some_and(|restored| !restored.closed)
    }

    /// Nothing is in doubt any more, or nobody waits for it: sets may be decided and fail.
    fn end_reconciliation(&mut self, step: &mut Step) {
        self.core.grace_until_ms = self.core.time_ms.saturating_add(GAP_GRACE_MS);
        let undecided: Vec<_> = self.index.sets.iter().copied().collect();
        for hash in undecided {
            let parts = self.core.invoices.get(&hash).and_then(|invoice| invoice.set.as_ref());
            let on_chain = parts.and_then(|set| {
                set.parts
                    .iter()
                    .copied()
                    .find(|key| self.core.htlcs.get(key).is_some_and(|htlc| htlc.on_chain))
            });
            if let Some(key) = on_chain {
                self.fail_set(step, hash, SetFailure::OnChain(key));
            }
        }
        if self.feature_level() >= level::REMOVAL_FAILS_SETS {
            self.fail_sets_at_removed(step);
        }
        self.decide_pending(step, None);
    }

    /// Once every front node has been heard from, sets that still lack parts have lost them.
    fn close_restoration(&mut self, step: &mut Step) {
        let time_ms = self.core.time_ms;
        let Some(restored) = &mut self.more.restored else { return };
        let waits = !restored.ended || !restored.unheard.is_empty() || time_ms < restored.closes_at_ms;
        if restored.closed || waits {
            return;
        }
        restored.closed = true;
        for hash in restored.proved.clone() {
            self.finish_invoice(step, hash);
        }
    }

    /// At the end of an entry: which HTLCs are no longer in doubt, and what follows when none is.
    pub(super) fn settle_doubts(&mut self, step: &mut Step) {
        let Some(mut restored) = self.more.restored.take() else { return };
        if restored.closed {
            self.more.restored = Some(restored);
            return;
        }
        restored.in_doubt.retain(|key| self.is_in_doubt(key));
        let silent = restored.unheard.len();
        restored.unheard.retain(|node| self.front_node(node).is_some_and(|front| front.session.is_none()));
        let ends = !restored.ended && restored.in_doubt.is_empty();
        restored.ended |= ends;
        if ends || restored.unheard.len() < silent {
            restored.closes_at_ms = self.core.time_ms.saturating_add(GAP_GRACE_MS);
        }
        self.more.restored = Some(restored);
        if ends {
            self.end_reconciliation(step);
        }
        self.close_restoration(step);
    }

    /// LND can still tell: the node was not removed, and a decided HTLC is not one whose end is unknowable.
    fn may_hear_of(&self, key: &CircuitKey) -> bool {
        let unknowable = |htlc: &Htlc| {
            htlc.final_state == FinalState::Unconfirmed && htlc.verdict == Some(Verdict::Settle)
        };
        self.front_node(&key.node).is_some() && !self.core.htlcs.get(key).is_none_or(unknowable)
    }

    /// Not final, and not offered again since the restoration (which ended all sessions).
    fn is_in_doubt(&self, key: &CircuitKey) -> bool {
        let Some(htlc) = self.core.htlcs.get(key) else { return false };
        let session = self.core.front_nodes.get(&key.node).and_then(|front| front.session.as_ref());
        let held = session.is_some_and(|session| session.id == htlc.session);
        let gone_undecided = htlc.gone && htlc.verdict.is_none_or(|verdict| verdict != Verdict::Settle);
        self.may_hear_of(key) && !htlc.final_state.is_final() && !held && !gone_undecided
    }

    /// An operator does not wait for LND's word any longer.
    pub(super) fn accept_restoration(&mut self, step: &mut Step) -> Reply {
        let waits = |restored: &&mut Restored| !restored.in_doubt.is_empty() || !restored.unheard.is_empty();
        let Some(restored) = self.more.restored.as_mut().filter(waits) else {
            return Reply::Rejected(Rejection::Invalid(
                "no HTLC is in doubt, and every node was heard from".into(),
            ));
        };
        restored.given_up = std::mem::take(&mut restored.in_doubt);
        restored.unheard.clear();
        restored.ended = true;
        self.end_reconciliation(step);
        Reply::Done
    }
}

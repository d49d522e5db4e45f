//! What follows from the records and is kept along with them, so that the cost of an entry follows what is
//! due and not the size of the state.
//!
//! Every change of a record goes through `change_invoice`, `change_htlc` and their like: they take the
//! record's entries out, change it, and put its entries back in. Rebuilding is the same `add` over all
//! records, so that kept and rebuilt indexes cannot differ as long as nothing else writes.

use super::command::RequestId;
use super::model::{
    FAIL_KEPT_BLOCKS, FinalState, Htlc, Invoice, InvoiceKind, InvoiceState, Settings,
    UNCONFIRMED_AFTER_BLOCKS, Verdict,
};
use super::state::{Core, State};
use crate::mutant::{Mutant, planted};
use crate::types::{BlockHeight, CircuitKey, LogTimeMs, NodePubkey, PaymentHash, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// How long a tombstone outlives its invoice's expiry.
pub(super) const TOMBSTONE_SLACK_MS: LogTimeMs = 3_600_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) by_add_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_decision_index: BTreeMap<u64, PaymentHash>,
    pub(super) by_settle_index: BTreeMap<u64, PaymentHash>,
    /// Finished invoices with a number, for the archive to take.
    pub(super) finished: BTreeSet<PaymentHash>,
    /// Invoices of each state; no zeros.
    pub(super) counts: BTreeMap<InvoiceState, u64>,
    /// Expiry of OPEN invoices.
    pub(super) expiries: BTreeSet<(LogTimeMs, PaymentHash)>,
    /// When tombstones go.
    pub(super) tombstones: BTreeSet<(LogTimeMs, PaymentHash)>,
    /// Invoices with an undecided set.
    pub(super) sets: BTreeSet<PaymentHash>,
    /// mpp or accept timer of undecided sets.
    pub(super) set_timers: BTreeSet<(LogTimeMs, PaymentHash)>,
    /// Accepted sets that settle as soon as their gate opens, by the nodes of their parts.
    pub(super) pending: BTreeSet<(NodePubkey, PaymentHash)>,
    /// HTLCs not final.
    pub(super) unresolved: BTreeSet<CircuitKey>,
    /// Undecided HTLCs of each (node, channel); no zeros.
    pub(super) held: BTreeMap<(NodePubkey, u64), u32>,
    /// First height at which an undecided HTLC must be failed.
    pub(super) deadlines: BTreeSet<(NodePubkey, BlockHeight, CircuitKey)>,
    /// Height above which a decided HTLC that is not final is UNCONFIRMED.
    pub(super) unconfirmed_after: BTreeSet<(NodePubkey, BlockHeight, CircuitKey)>,
    /// Height above which a FAIL verdict may be forgotten.
    pub(super) failed_until: BTreeSet<(NodePubkey, BlockHeight, CircuitKey)>,
    /// Failed and final HTLCs by the session that offered them last.
    pub(super) ended: BTreeSet<(NodePubkey, SessionId, CircuitKey)>,
    /// Settled by LND without our decision.
    pub(super) unexpected: BTreeSet<CircuitKey>,
    /// Requests by age.
    pub(super) requests: BTreeSet<(LogTimeMs, RequestId)>,
    /// Median height of the nodes that are fresh and plausible.
    pub(super) median: Option<BlockHeight>,
}

impl Index {
    /// Rebuilds everything from the records, except for the median (see `State::refresh_heights`).
    pub(super) fn of(core: &Core) -> Self {
        let mut index = Self::default();
        for invoice in core.invoices.values() {
            index.add_invoice(invoice, &core.settings);
        }
        for htlc in core.htlcs.values() {
            index.add_htlc(htlc, &core.settings);
        }
        index.requests = core.requests.iter().map(|(id, (time_ms, _))| (*time_ms, *id)).collect();
        index
    }

    fn add_invoice(&mut self, invoice: &Invoice, settings: &Settings) {
        let hash = invoice.hash;
        let count = self.counts.entry(invoice.state).or_default();
        *count = count.saturating_add(1);
        for (numbers, number) in [
            (&mut self.by_add_index, invoice.add_index),
            (&mut self.by_decision_index, invoice.decision_index),
            (&mut self.by_settle_index, invoice.settle_index),
        ] {
            if number != 0 {
                numbers.insert(number, hash);
            }
        }
        if is_finished(invoice) {
            self.finished.insert(hash);
        }
        if invoice.state == InvoiceState::Open {
            self.expiries.insert((invoice.terms.expires_at_ms, hash));
        }
        if invoice.add_index == 0 {
            self.tombstones.insert((tombstone_ends_ms(invoice), hash));
        }
        if has_undecided_set(invoice) {
            self.sets.insert(hash);
        }
        if let Some(due_ms) = set_timer_ms(invoice, settings) {
            self.set_timers.insert((due_ms, hash));
        }
        if wants_decision(invoice, settings) {
            self.pending.extend(part_nodes(invoice).map(|node| (node, hash)));
        }
    }

    /// The inverse of `add_invoice`, but for the numbers, which are given for ever.
    fn remove_invoice(&mut self, invoice: &Invoice, settings: &Settings) {
        let hash = invoice.hash;
        if let Some(count) = self.counts.get_mut(&invoice.state) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&invoice.state);
            }
        }
        self.finished.remove(&hash);
        self.expiries.remove(&(invoice.terms.expires_at_ms, hash));
        if invoice.add_index == 0 {
            self.tombstones.remove(&(tombstone_ends_ms(invoice), hash));
        }
        self.sets.remove(&hash);
        if let Some(due_ms) = set_timer_ms(invoice, settings) {
            self.set_timers.remove(&(due_ms, hash));
        }
        if wants_decision(invoice, settings) {
            for node in part_nodes(invoice) {
                self.pending.remove(&(node, hash));
            }
        }
    }

    fn add_htlc(&mut self, htlc: &Htlc, settings: &Settings) {
        let key = htlc.key;
        if !htlc.final_state.is_final() {
            self.unresolved.insert(key);
        }
        match htlc.verdict {
            None => {
                let held = self.held.entry((key.node, key.chan_id)).or_default();
                *held = held.saturating_add(1);
                self.deadlines.insert((key.node, htlc.settle_deadline(settings.margin_blocks), key));
            }
            Some(Verdict::Settle) => {
                if htlc.final_state == FinalState::Open {
                    self.unconfirmed_after.insert((key.node, unconfirmed_after(htlc), key));
                }
            }
            Some(Verdict::Fail(_)) if is_unexpected(htlc) => {
                self.unexpected.insert(key);
            }
            Some(Verdict::Fail(_)) => {
                self.failed_until.insert((key.node, failed_until(htlc), key));
                if htlc.final_state.is_final() {
                    self.ended.insert((key.node, htlc.session, key));
                }
            }
        }
    }

    fn remove_htlc(&mut self, htlc: &Htlc, settings: &Settings) {
        let key = htlc.key;
        self.unresolved.remove(&key);
        match htlc.verdict {
            None => {
                let channel = (key.node, key.chan_id);
                if let Some(held) = self.held.get_mut(&channel) {
                    *held = held.saturating_sub(1);
                    if *held == 0 {
                        self.held.remove(&channel);
                    }
                }
                self.deadlines.remove(&(key.node, htlc.settle_deadline(settings.margin_blocks), key));
            }
            Some(Verdict::Settle) => {
                self.unconfirmed_after.remove(&(key.node, unconfirmed_after(htlc), key));
            }
            Some(Verdict::Fail(_)) => {
                self.unexpected.remove(&key);
                self.failed_until.remove(&(key.node, failed_until(htlc), key));
                self.ended.remove(&(key.node, htlc.session, key));
            }
        }
    }
}

impl State {
    /// Changes an invoice and its index entries. `None`: there is no such invoice.
    pub(super) fn change_invoice<T>(
        &mut self,
        hash: &PaymentHash,
        change: impl FnOnce(&mut Invoice) -> T,
    ) -> Option<T> {
        let invoice = self.core.invoices.get_mut(hash)?;
        self.index.remove_invoice(invoice, &self.core.settings);
        let result = change(invoice);
        self.index.add_invoice(invoice, &self.core.settings);
        Some(result)
    }

    /// A new invoice.
    pub(super) fn insert_invoice(&mut self, invoice: Invoice) {
        self.index.add_invoice(&invoice, &self.core.settings);
        self.core.invoices.insert(invoice.hash, invoice);
    }

    /// An invoice leaves memory, with its numbers.
    pub(super) fn take_invoice(&mut self, hash: &PaymentHash) -> Option<Invoice> {
        let invoice = self.core.invoices.remove(hash)?;
        self.index.remove_invoice(&invoice, &self.core.settings);
        self.index.by_add_index.remove(&invoice.add_index);
        self.index.by_decision_index.remove(&invoice.decision_index);
        self.index.by_settle_index.remove(&invoice.settle_index);
        Some(invoice)
    }

    /// An HTLC leaves memory.
    pub(super) fn take_htlc(&mut self, key: &CircuitKey) -> Option<Htlc> {
        let htlc = self.core.htlcs.remove(key)?;
        self.index.remove_htlc(&htlc, &self.core.settings);
        Some(htlc)
    }

    /// Forgets a tombstone.
    pub(super) fn remove_tombstone(&mut self, hash: &PaymentHash) {
        if let Some(invoice) = self.core.invoices.remove(hash) {
            self.index.remove_invoice(&invoice, &self.core.settings);
        }
    }

    /// Changes an HTLC and its index entries. `None`: there is no such HTLC.
    pub(super) fn change_htlc<T>(
        &mut self,
        key: &CircuitKey,
        change: impl FnOnce(&mut Htlc) -> T,
    ) -> Option<T> {
        let htlc = self.core.htlcs.get_mut(key)?;
        self.index.remove_htlc(htlc, &self.core.settings);
        let result = change(htlc);
        self.index.add_htlc(htlc, &self.core.settings);
        Some(result)
    }

    /// A new HTLC.
    pub(super) fn insert_htlc(&mut self, htlc: Htlc) {
        self.index.add_htlc(&htlc, &self.core.settings);
        self.core.htlcs.insert(htlc.key, htlc);
    }

    /// Forgets an HTLC.
    pub(super) fn remove_htlc(&mut self, key: &CircuitKey) {
        if let Some(htlc) = self.core.htlcs.remove(key) {
            self.index.remove_htlc(&htlc, &self.core.settings);
        }
    }
}

/// Nothing can change it any more. Tombstones are no invoices.
fn is_finished(invoice: &Invoice) -> bool {
    let ended = match invoice.state {
        InvoiceState::Settled | InvoiceState::Partial | InvoiceState::Canceled | InvoiceState::Expired => {
            true
        }
        InvoiceState::Open | InvoiceState::Accepted | InvoiceState::Settling => false,
    };
    ended && invoice.add_index != 0
}

/// LND settled it and the cluster did not say so.
fn is_unexpected(htlc: &Htlc) -> bool {
    let settled = matches!(htlc.final_state, FinalState::Settled | FinalState::OperatorSettled);
    settled && htlc.verdict != Some(Verdict::Settle)
}

fn unconfirmed_after(htlc: &Htlc) -> BlockHeight {
    htlc.incoming_expiry.saturating_add(UNCONFIRMED_AFTER_BLOCKS)
}

fn failed_until(htlc: &Htlc) -> BlockHeight {
    htlc.incoming_expiry.saturating_add(FAIL_KEPT_BLOCKS)
}

fn tombstone_ends_ms(invoice: &Invoice) -> LogTimeMs {
    invoice.terms.expires_at_ms.saturating_add(TOMBSTONE_SLACK_MS)
}

fn has_undecided_set(invoice: &Invoice) -> bool {
    invoice.set.is_some() && !invoice.state.is_decided()
}

/// When the set under way fails unless something happens first: an incomplete one by the mpp timeout, an
/// accepted one by the accept timeout, but for hold invoices, which wait until their block deadline.
fn set_timer_ms(invoice: &Invoice, settings: &Settings) -> Option<LogTimeMs> {
    let set = invoice.set.as_ref()?;
    match invoice.state {
        InvoiceState::Open if planted(Mutant::MppTimeoutEarly) => {
            Some(set.started_at_ms.saturating_add(settings.mpp_timeout_ms / 2))
        }
        InvoiceState::Open => Some(set.started_at_ms.saturating_add(settings.mpp_timeout_ms)),
        InvoiceState::Accepted if invoice.terms.kind != InvoiceKind::Hold => {
            Some(set.accepted_at_ms.saturating_add(settings.accept_timeout_ms))
        }
        _ => None,
    }
}

/// An accepted set that is to be settled as soon as its gate opens.
pub(super) fn wants_decision(invoice: &Invoice, settings: &Settings) -> bool {
    let automatic = settings.auto_settle && invoice.terms.kind != InvoiceKind::Hold;
    let asked = |set: &super::model::HtlcSet| set.settle_intent || automatic;
    invoice.state == InvoiceState::Accepted && invoice.set.as_ref().is_some_and(asked)
}

/// The nodes of the set's parts, in order; neighbours may repeat.
fn part_nodes(invoice: &Invoice) -> impl Iterator<Item = NodePubkey> {
    invoice.set.iter().flat_map(|set| &set.parts).map(|key| key.node)
}

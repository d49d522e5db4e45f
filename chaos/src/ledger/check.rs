//! Compares the payer's ledger with the books of the cluster and of the LND nodes.
//!
//! Pure: everything is given, nothing is fetched. Each rule names the promise it guards; a [`Violation`]
//! carries what is needed to look into it. The views must have been taken when nothing moved any more.

mod books;
mod payments;
mod replicas;

#[cfg(test)]
mod tests;

use super::{ClusterView, InvoiceView, LndView, PaymentRecord};
use mux_proto::lndsim::v1::{ClientAnswer, HtlcEntry};
use mux_raft::types::PaymentHash;
use serde::Serialize;
use std::collections::BTreeMap;

/// How long after LND ended an HTLC the cluster may not know it yet, milliseconds: a link that hears nothing asks after
/// 2 s and waits 5 s for an answer, and an owner's last word counts for 3 s (`muxd::link`, `SESSION_FRESH_MS`).
const NEWS_LATE_MAX_MS: u64 = 10_000;

/// How long a decided HTLC may wait for its SETTLE, milliseconds: until the link has moved and the faults are over that
/// keep it from LND (the longest of the nemesis takes 12 s).
const ANSWER_LATE_MAX_MS: u64 = 20_000;

/// Log time is this near to the LND nodes' clock, milliseconds: wrong clocks that can lead are 5 s off.
const CLOCKS_DIFFER_MAX_MS: u64 = 5_000;

/// A promise that was not kept, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Name of the rule, `snake_case`.
    pub rule: &'static str,
    /// Who, what, where.
    pub evidence: String,
}

/// Everything the rules look at, indexed.
struct Books<'a> {
    payments: &'a [PaymentRecord],
    view: &'a ClusterView,
    by_hash: BTreeMap<PaymentHash, Vec<(&'a LndView, &'a HtlcEntry)>>,
    violations: Vec<Violation>,
}

/// Checks every rule and lists what is wrong; empty if the ledger balances.
#[must_use]
pub fn check(payments: &[PaymentRecord], view: &ClusterView) -> Vec<Violation> {
    let mut by_hash: BTreeMap<PaymentHash, Vec<(&LndView, &HtlcEntry)>> = BTreeMap::new();
    for lnd in &view.lnds {
        for htlc in &lnd.htlcs {
            if let Ok(hash) = PaymentHash::try_from(htlc.payment_hash.as_ref()) {
                by_hash.entry(hash).or_default().push((lnd, htlc));
            }
        }
    }
    let mut books = Books { payments, view, by_hash, violations: Vec::new() };
    payments::one_end_each(&mut books);
    payments::ends_are_as_they_must_be(&mut books);
    payments::honest_payments_are_taken(&mut books);
    payments::one_paid_payment_per_hash(&mut books);
    payments::preimage_means_decided(&mut books);
    replicas::preimages_are_shown_when_decided(&mut books);
    books::money_agrees(&mut books);
    books::sums_agree(&mut books);
    books::answers_never_contradict(&mut books);
    books::sets_are_whole(&mut books);
    books::no_complaints(&mut books);
    replicas::state_hashes_agree(&mut books);
    replicas::acknowledged_invoices_are_there(&mut books);
    replicas::replicas_tell_the_same(&mut books);
    books.violations
}

impl<'a> Books<'a> {
    fn report(&mut self, rule: &'static str, evidence: String) {
        self.violations.push(Violation { rule, evidence });
    }

    /// What the first replica that knows the invoice says. That all say the same is a rule of its own.
    fn invoice(&self, hash: &PaymentHash) -> Option<&'a InvoiceView> {
        self.view.replicas.iter().find_map(|replica| replica.invoices.get(hash))
    }

    fn htlcs(&self, hash: &PaymentHash) -> &[(&'a LndView, &'a HtlcEntry)] {
        self.by_hash.get(hash).map_or(&[], Vec::as_slice)
    }

    /// Hashes that were paid to the virtual node, each once.
    fn hashes(&self) -> Vec<PaymentHash> {
        let mut hashes: Vec<_> = self
            .payments
            .iter()
            .filter(|payment| !payment.order.foreign)
            .map(|payment| payment.order.hash)
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }
}

/// An HTLC for people.
fn name(lnd: &LndView, htlc: &HtlcEntry) -> String {
    format!("{} chan {} htlc {}", lnd.alias, htlc.chan_id, htlc.htlc_id)
}

/// LND took a SETTLE while it had the HTLC, its peer may have passed the preimage on, and then the channel was closed: a dust
/// HTLC has no output that could be claimed. One that has an output is offered again, and must be answered there; a SETTLE
/// that LND refused, or that came when the HTLC had ended, excuses nothing.
fn is_lost_by_lnd(htlc: &HtlcEntry) -> bool {
    let Some(end) = htlc.r#final.filter(|end| !end.settled) else { return false };
    let in_time = |answer: &ClientAnswer| {
        answer.action == "SETTLE" && answer.error.is_empty() && answer.unix_ms < end.unix_ms
    };
    htlc.lost_as_dust && !htlc.node_paid && htlc.answers.iter().any(in_time)
}

/// A decided HTLC brought nothing, and the cluster could not help it.
fn is_lost(htlc: &HtlcEntry, decided: &InvoiceView) -> bool {
    is_lost_by_lnd(htlc) || is_lost_under_way(htlc, decided)
}

/// The channel of a dust HTLC was closed while its SETTLE, or the decision itself, was on the way: from then on LND
/// takes no answer.
///
/// Nothing else is excused. What has an output on chain is offered again, and must be answered there; off the chain LND
/// fails an HTLC only so close to its expiry that it is not decided any more. And the two moments must be close: the
/// decision may be as late as LND's news may be, the answer as late as disturbances may keep it from LND.
fn is_lost_under_way(htlc: &HtlcEntry, decided: &InvoiceView) -> bool {
    let end = htlc.r#final.filter(|end| htlc.lost_as_dust && !end.settled);
    // LND refuses it, or takes it for an HTLC that it only remembers.
    let too_late = |answer: &ClientAnswer| {
        let late = end.is_some_and(|end| answer.unix_ms >= end.unix_ms);
        answer.action == "SETTLE" && (late || !answer.error.is_empty())
    };
    // Log time may stand still for long, and nothing is decided of an HTLC before LND has it.
    let decided_ms = decided.seen_decided_ms.max(htlc.added_unix_ms);
    let waited_ms = htlc.closing_unix_ms.saturating_sub(decided_ms);
    end.is_some()
        && htlc.answers.iter().all(too_late)
        && decided.decided_at_ms > 0
        && waited_ms <= ANSWER_LATE_MAX_MS + CLOCKS_DIFFER_MAX_MS
        && !is_decided_too_late(htlc, decided)
}

/// LND had ended it so long before the decision that the cluster must have known. By the moment in which the decision was in a
/// log where that is known: log time runs ahead of LND's clock by as much as the leader's clock was wrong.
fn is_decided_too_late(htlc: &HtlcEntry, decided: &InvoiceView) -> bool {
    htlc.r#final.is_some_and(|end| {
        let late_ms = decided.proposed_ms.saturating_sub(end.unix_ms);
        !end.settled && late_ms > NEWS_LATE_MAX_MS + CLOCKS_DIFFER_MAX_MS
    })
}

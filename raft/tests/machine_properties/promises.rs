//! What must hold after every entry, whatever the history.

#![allow(unreachable_pub, clippy::unwrap_used)]

use super::seen::Seen;
use mux_raft::archive::InvoiceOrder;
use mux_raft::machine::model::*;
use mux_raft::types::*;
use std::collections::BTreeMap;

/// Every answer that ever went out, longer than the state remembers it.
#[derive(Default)]
pub struct Witness {
    verdicts: BTreeMap<CircuitKey, Verdict>,
    /// All that were known after the entry before.
    htlcs: BTreeMap<CircuitKey, Htlc>,
    events: Vec<Event>,
    pub decisions: u64,
    pub settled: u64,
    pub partial: u64,
    pub attempts: u64,
}

impl Witness {
    /// Compares the state before an entry with the state after it.
    pub fn check(&mut self, before: &Seen, after: &Seen) {
        self.events_have_no_gap(after);
        assert!(after.time_ms() >= before.time_ms(), "time runs back");
        numbers_have_no_gap(after);
        let all = after.htlcs();
        no_set_outlives_its_deadline(after, &all);
        self.verdicts_never_change(after, &all);
        self.htlcs = all.clone();
        let mut counts: BTreeMap<InvoiceState, u64> = BTreeMap::new();
        for invoice in &after.invoices(InvoiceOrder::Added) {
            *counts.entry(invoice.state).or_default() += 1;
            states_only_move_forward(before.invoice(&invoice.hash).as_ref(), invoice);
            amounts_add_up(after, invoice);
            one_verdict_per_set(&all, invoice);
            ends_are_honest(after, invoice);
            let was_decided = before.invoice(&invoice.hash).is_some_and(|invoice| invoice.state.is_decided());
            if invoice.state.is_decided() && !was_decided {
                self.decisions += 1;
                decided_only_through_an_open_gate(before, after, invoice);
            }
            self.attempts = self.attempts.max(u64::from(invoice.attempt));
        }
        let tombstones: u64 = after.invoice_counts().values().sum::<u64>() - counts.values().sum::<u64>();
        *counts.entry(InvoiceState::Canceled).or_default() += tombstones;
        counts.retain(|_, count| *count > 0);
        assert_eq!(after.invoice_counts(), counts);
        self.settled = counts.get(&InvoiceState::Settled).copied().unwrap_or(0);
        self.partial = counts.get(&InvoiceState::Partial).copied().unwrap_or(0);
    }

    fn verdicts_never_change(&mut self, after: &Seen, all: &BTreeMap<CircuitKey, Htlc>) {
        for htlc in self.htlcs.values() {
            let now = all.get(&htlc.key);
            match htlc.verdict {
                // Of a session that is over, an end may come with the verdict and be forgotten with it.
                None => assert!(now.is_some() || !in_present_session(after, htlc), "{} is lost", htlc.key),
                Some(Verdict::Settle) => assert_eq!(now.and_then(|now| now.verdict), htlc.verdict),
                Some(Verdict::Fail(_)) => assert!(now.is_none_or(|now| now.verdict == htlc.verdict)),
            }
        }
        for htlc in all.values() {
            let Some(verdict) = htlc.verdict else {
                assert!(!self.verdicts.contains_key(&htlc.key), "{} had a verdict", htlc.key);
                continue;
            };
            let former = *self.verdicts.entry(htlc.key).or_insert(verdict);
            let same_kind = (former == Verdict::Settle) == (verdict == Verdict::Settle);
            assert!(same_kind, "{}: {former:?}, then {verdict:?}", htlc.key);
        }
    }

    fn events_have_no_gap(&mut self, after: &Seen) {
        let news = after.events_after(self.events.len() as u64);
        self.events.extend(news);
        assert_eq!(self.events.len() as u64, after.event_sequence());
        let last = self.events.last();
        assert!(last.is_none_or(|event| event.sequence == self.events.len() as u64));
    }
}

fn in_present_session(state: &Seen, htlc: &Htlc) -> bool {
    let front = state.front_node(&htlc.key.node);
    front.and_then(|front| front.session.as_ref()).is_some_and(|session| session.id == htlc.session)
}

fn numbers_have_no_gap(state: &Seen) {
    let counted = |order, number: fn(&Invoice) -> u64| {
        let numbers: Vec<u64> = state.invoices(order).iter().map(number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{order:?}");
    };
    counted(InvoiceOrder::Added, |invoice| invoice.add_index);
    counted(InvoiceOrder::Decided, |invoice| invoice.decision_index);
    counted(InvoiceOrder::Settled, |invoice| invoice.settle_index);
}

fn no_set_outlives_its_deadline(state: &Seen, all: &BTreeMap<CircuitKey, Htlc>) {
    for htlc in all.values().filter(|htlc| htlc.verdict.is_none()) {
        let height = state.height_for(&htlc.key.node);
        let deadline = htlc.settle_deadline(state.settings().margin_blocks);
        assert!(height.is_none_or(|height| height < deadline), "{} is undecided at {height:?}", htlc.key);
        let invoice = state.invoice(&htlc.hash);
        let set = invoice.and_then(|invoice| invoice.set);
        assert!(set.is_some_and(|set| set.parts.contains(&htlc.key)), "{} is in no set", htlc.key);
    }
}

fn states_only_move_forward(before: Option<&Invoice>, now: &Invoice) {
    use InvoiceState::{Accepted, Canceled, Expired, Open, Partial, Settled, Settling};
    let former = before.map_or(Open, |invoice| invoice.state);
    let allowed = match former {
        Open | Accepted => true,
        Settling => matches!(now.state, Settling | Settled | Partial),
        Settled | Partial | Canceled | Expired => now.state == former,
    };
    assert!(allowed, "{former:?} → {:?}", now.state);
    if let Some(before) = before.filter(|before| before.state.is_decided()) {
        assert_eq!(before.set.as_ref().map(|set| &set.parts), now.set.as_ref().map(|set| &set.parts));
        assert_eq!(before.decision_index, now.decision_index);
    }
    assert!(now.preimage.is_none() || now.state.is_decided(), "preimage before the decision");
    assert_eq!(now.decision_index != 0, now.state.is_decided());
    assert_eq!(now.settle_index != 0, matches!(now.state, Settled | Partial));
    assert!(now.set.is_some() || !matches!(now.state, Accepted | Settling | Settled | Partial));
}

fn amounts_add_up(state: &Seen, invoice: &Invoice) {
    let Some(set) = &invoice.set else { return };
    let asked = u128::from(invoice.terms.amount_msat.0);
    let total = u128::from(set.total_msat.0);
    let base = if asked == 0 { total } else { asked };
    let parts = set.parts.iter().map(|key| state.htlc(key).expect("a set's parts are known"));
    let sum: u128 = parts.map(|htlc| u128::from(htlc.outgoing_amount_msat.0)).sum();
    assert_eq!(sum, u128::from(set.sum_msat.0));
    assert!(base > 0 && base <= total && total <= 2 * base && sum <= 2 * base && sum > 0);
    let complete = sum >= total;
    assert_eq!(complete, invoice.state != InvoiceState::Open, "complete means accepted or decided");
}

/// Either every HTLC of a set is settled or none is, and no HTLC beyond the winning set.
fn one_verdict_per_set(all: &BTreeMap<CircuitKey, Htlc>, invoice: &Invoice) {
    let decided = invoice.state.is_decided();
    let parts = invoice.set.as_ref().map(|set| &set.parts);
    for htlc in all.values().filter(|htlc| htlc.hash == invoice.hash) {
        let in_set = parts.is_some_and(|parts| parts.contains(&htlc.key));
        match htlc.verdict {
            Some(Verdict::Settle) => assert!(in_set && decided, "{} is settled alone", htlc.key),
            Some(Verdict::Fail(_)) => assert!(!in_set, "{} is failed in a living set", htlc.key),
            None => assert!(in_set && !decided, "{} waits for nothing", htlc.key),
        }
    }
}

fn ends_are_honest(state: &Seen, invoice: &Invoice) {
    let Some(set) = invoice.set.as_ref().filter(|_| invoice.state.is_decided()) else { return };
    let is_settled = |end| matches!(end, FinalState::Settled | FinalState::OperatorSettled);
    let parts: Vec<_> = set.parts.iter().map(|key| state.htlc(key).expect("known")).collect();
    let arrived = parts.iter().filter(|htlc| is_settled(htlc.final_state));
    let received: u64 = arrived.map(|htlc| htlc.outgoing_amount_msat.0).sum();
    assert_eq!(invoice.received_msat, Msat(received));
    let expected = if parts.iter().any(|htlc| !htlc.final_state.is_final()) {
        InvoiceState::Settling
    } else if parts.iter().all(|htlc| is_settled(htlc.final_state)) {
        InvoiceState::Settled
    } else {
        InvoiceState::Partial
    };
    assert_eq!(invoice.state, expected);
}

/// Told from the records alone, not by the machine's own gate.
fn decided_only_through_an_open_gate(before: &Seen, after: &Seen, invoice: &Invoice) {
    let former = before.invoice(&invoice.hash).map(|invoice| invoice.state);
    assert!(former.is_none_or(|state| matches!(state, InvoiceState::Open | InvoiceState::Accepted)));
    let set = invoice.set.as_ref().expect("decided");
    for key in &set.parts {
        let htlc = after.htlc(key).expect("known");
        let front = after.front_node(&key.node).expect("known");
        let session = front.session.as_ref().expect("a stream");
        let tip = front.tip.expect("a height");
        assert_eq!(htlc.session, session.id, "offered in the present session");
        assert_eq!(session.confirmed_term, after.applied().term, "confirmed in this term");
        assert!(after.time_ms() - session.heard_at_ms <= SESSION_FRESH_MS, "heard from lately");
        assert!(tip.synced && after.time_ms() - tip.confirmed_at_ms <= HEIGHT_FRESH_MS, "height known");
        assert!(!front.height_flagged && !htlc.gone && !htlc.on_chain);
        let highest = after.height_for(&key.node).expect("a height").max(tip.height);
        assert!(highest < htlc.incoming_expiry - 22 - after.settings().margin_blocks, "in time");
        assert!(set.parts.len() == 1 || !session.inactive_channels.contains(&key.chan_id));
    }
}

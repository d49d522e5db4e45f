//! What must hold of money at every moment, as far as the world can see it: in the replicas' applied states, and in what
//! payers get.

use super::patience::Patience;
use super::promises::{Gates, Links, look_at_gates};
use super::{World, decisions};
use crate::ledger::{LndView, PaymentEnd, PaymentRecord};
use crate::sim::coverage::{Condition, Coverage};
use crate::sim::time::SimTime;
use mux_proto::lndsim::v1::{ClientAnswer, HtlcEntry, htlc_failure::Speaker, outcome};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::model::{DetailsCause, Event, EventKind, FailReason};
use mux_raft::types::{CircuitKey, LogIndex, NodePubkey, PaymentHash};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    /// The last event that any replica had applied.
    sequence: u64,
    /// The last entry that any replica had applied.
    applied: LogIndex,
    /// By invoice: the HTLCs of the set under way.
    sets: BTreeMap<PaymentHash, Set>,
    /// Decided, and applied somewhere.
    decided: BTreeMap<PaymentHash, Decided>,
    /// Of these, those that are not final.
    open: BTreeSet<PaymentHash>,
    /// Those whose preimage was sent to an LND node.
    told: BTreeSet<PaymentHash>,
    /// Canceled or expired.
    over: BTreeSet<PaymentHash>,
    /// The next decision is the leader's end.
    pub(super) strike: bool,
    /// Outcomes that were seen, by node.
    outcomes: Vec<usize>,
    /// By replica.
    pub(super) links: Vec<Links>,
    patience: Patience,
}

/// When a decision was first applied, the event that tells of it, and the entry that made it, or those of which one did.
#[derive(Clone, Debug)]
struct Decided {
    at: SimTime,
    sequence: u64,
    entries: RangeInclusive<LogIndex>,
}

#[derive(Debug, Default)]
struct Set {
    keys: BTreeSet<CircuitKey>,
    last: Option<CircuitKey>,
    accepted: bool,
}

impl Set {
    fn nodes(&self) -> usize {
        self.keys.iter().map(|key| key.node).collect::<BTreeSet<NodePubkey>>().len()
    }
}

impl Settlements {
    /// Decided sets of which not everything is final, with the moment of the decision.
    pub(super) fn undone(&self) -> impl Iterator<Item = SimTime> + '_ {
        self.open.iter().filter_map(|hash| self.decided_at(hash))
    }

    /// Whether a set is decided, and LND nodes have not been told yet.
    pub(super) fn is_untold(&self) -> bool {
        self.open.iter().any(|hash| !self.told.contains(hash))
    }

    /// When the decision for this hash was first applied.
    pub(super) fn decided_at(&self, hash: &PaymentHash) -> Option<SimTime> {
        self.decided.get(hash).map(|decided| decided.at)
    }

    /// Entries of which one is the decision for this hash.
    pub(super) fn decided_by(&self, hash: &PaymentHash) -> Option<RangeInclusive<LogIndex>> {
        self.decided.get(hash).map(|decided| decided.entries.clone())
    }

    /// A preimage was sent by a replica that has applied events up to this one. None: it is right to.
    pub(super) fn tells(&mut self, hash: PaymentHash, applied: u64) -> Option<&'static str> {
        self.told.insert(hash);
        match self.decided.get(&hash) {
            None => Some("which nobody had decided"),
            Some(decided) if decided.sequence > applied => Some("and had not applied the decision"),
            Some(_) => None,
        }
    }

    /// Whether anybody has applied a decision for this hash.
    pub(super) fn is_decided(&self, hash: &[u8]) -> bool {
        PaymentHash::try_from(hash).is_ok_and(|hash| self.decided.contains_key(&hash))
    }

    /// `entries`: of which one led to this event.
    fn see(
        &mut self,
        now: SimTime,
        entries: RangeInclusive<LogIndex>,
        event: &Event,
    ) -> (Vec<Condition>, Option<String>) {
        self.sequence = event.sequence;
        let (mut met, mut wrong) = (Vec::new(), None);
        match &event.kind {
            EventKind::HtlcJoined { key, .. } => {
                let set = self.sets.entry(event.hash).or_default();
                set.keys.insert(*key);
                set.last = Some(*key);
            }
            EventKind::Accepted { .. } => self.sets.entry(event.hash).or_default().accepted = true,
            EventKind::SetFailed { reason, .. } => {
                let set = self.sets.remove(&event.hash).unwrap_or_default();
                met.extend(condition_of(reason, set.accepted));
                if self.decided.contains_key(&event.hash) && self.open.contains(&event.hash) {
                    wrong = Some(format!("the decided set of {} was failed", event.hash));
                }
            }
            EventKind::Settling { .. } => {
                let set = self.sets.remove(&event.hash).unwrap_or_default();
                if set.nodes() > 1 {
                    met.push(Condition::SetOverNodes);
                }
                let decided = Decided { at: now, sequence: event.sequence, entries };
                if self.decided.insert(event.hash, decided).is_some() {
                    wrong = Some(format!("two sets of invoice {} were decided", event.hash));
                }
                if self.over.contains(&event.hash) {
                    wrong = Some(format!("a set of {} was decided after its end", event.hash));
                }
                self.open.insert(event.hash);
            }
            EventKind::Settled { .. } | EventKind::Partial { .. } => {
                met.extend(matches!(event.kind, EventKind::Partial { .. }).then_some(Condition::Partial));
                if !self.open.remove(&event.hash) {
                    wrong = Some(format!("{} is {:?} without a decision", event.hash, event.kind));
                }
            }
            EventKind::Canceled | EventKind::Expired | EventKind::Voided => {
                self.over.insert(event.hash);
                if self.decided.contains_key(&event.hash) {
                    wrong = Some(format!("{} is {:?} after its decision", event.hash, event.kind));
                }
            }
            EventKind::Added | EventKind::HtlcFinal { .. } => {}
        }
        (met, wrong)
    }

    /// What can be told only at the end.
    pub(super) fn look_back(&self, payments: &[PaymentRecord], lnds: &[LndView], coverage: &Coverage) {
        for htlc in lnds.iter().flat_map(|lnd| &lnd.htlcs) {
            for condition in conditions_of(htlc) {
                coverage.met(condition);
            }
        }
        payments.iter().filter_map(condition_of_payment).for_each(|condition| coverage.met(condition));
    }
}

fn condition_of(reason: &FailReason, accepted: bool) -> Option<Condition> {
    match reason {
        FailReason::MppTimeout => Some(Condition::SetTimedOut),
        FailReason::IncorrectDetails { cause: DetailsCause::Canceled, .. } if accepted => {
            Some(Condition::AcceptedCanceled)
        }
        FailReason::IncorrectDetails { cause: DetailsCause::AcceptTimeout, .. } => {
            Some(Condition::AcceptedTimedOut)
        }
        FailReason::IncorrectDetails { cause: DetailsCause::Deadline, .. } => Some(Condition::DeadlineMet),
        FailReason::IncorrectDetails { cause: DetailsCause::SetOnChain | DetailsCause::OnChain, .. } => {
            Some(Condition::UndecidedOnChain)
        }
        _ => None,
    }
}

fn condition_of_payment(payment: &PaymentRecord) -> Option<Condition> {
    let [end] = payment.ends.as_slice() else { return None };
    match (payment.order.label.as_str(), end) {
        ("overpaid", _) if payment.has_preimage() => Some(Condition::Overpaid),
        ("any amount", PaymentEnd::Settled) => Some(Condition::AnyAmountPaid),
        ("stateless", PaymentEnd::Settled) => Some(Condition::StatelessPaid),
        ("two-phase", PaymentEnd::Settled) => Some(Condition::TwoPhasePaid),
        ("cancelled in flight", PaymentEnd::Failed(_)) => Some(Condition::CanceledInFlight),
        ("paid again", PaymentEnd::Failed(_)) => Some(Condition::PaidAgain),
        ("probe", PaymentEnd::Failed(_)) => Some(Condition::ProbeFailed),
        ("expired", PaymentEnd::Failed(_)) => Some(Condition::ExpiredFailed),
        _ => None,
    }
}

fn conditions_of(htlc: &HtlcEntry) -> Vec<Condition> {
    let mut met = Vec::new();
    let settles = || htlc.answers.iter().filter(|answer| answer.action == "SETTLE");
    if settles().count() > 1 {
        met.push(Condition::SettledAgain);
    }
    // Whoever has an answer takes none, so one that was taken before was lost.
    let lost = |action: &str| {
        let taken = |answer: &&ClientAnswer| answer.error.is_empty() && !answer.on_chain;
        htlc.answers.iter().filter(taken).filter(|answer| answer.action == action).count() > 1
    };
    met.extend(lost("SETTLE").then_some(Condition::SettleRescued));
    met.extend(lost("FAIL").then_some(Condition::FailRescued));
    if settles().any(|answer| answer.on_chain) && htlc.node_paid {
        met.push(Condition::DecidedOnChain);
    }
    let failed = match htlc.outcome.as_ref().and_then(|outcome| outcome.result.as_ref()) {
        Some(outcome::Result::Failed(failure)) => Some(failure.speaker()),
        _ => None,
    };
    if htlc.answers.is_empty() && htlc.offers > 0 && failed == Some(Speaker::FrontNode) {
        met.push(Condition::FailedByLnd);
    }
    if htlc.offers > 1 && !htlc.answers.is_empty() {
        met.push(Condition::Replayed);
    }
    met
}

impl World {
    /// Looks at what was applied and at what payers got.
    pub(super) fn look_at_settlements(&mut self) {
        let (mut wrong, mut complete) = (Vec::new(), Vec::new());
        self.settlements.links.resize_with(self.hosts.len(), Links::default);
        self.forget_links_of_the_dead();
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let column = host.column();
            let Some(seen) = host.seen() else { continue };
            let known = self.settlements.sequence;
            let cell = seen.replica.state();
            let Settlements { links, patience, .. } = &mut self.settlements;
            let links = &mut links[at];
            let known_up_to = links.applied();
            let (applied, news, Gates { wrong: unheld, met }, decided) = cell.read(|state| {
                let news: Vec<Event> = if state.event_sequence() <= known {
                    Vec::new()
                } else {
                    state.events_after(known).cloned().collect()
                };
                let gates = look_at_gates(links, state, &news);
                let mut decided: Vec<String> =
                    news.iter().flat_map(|event| decisions::look_at(state, event)).collect();
                decided.extend(patience.look_at(state, &news));
                if state.applied().index != known_up_to {
                    decided.extend(decisions::overdue(state));
                }
                let by = |event: Event| (decisions::entry_of(state, &event), event);
                (state.applied().index, news.into_iter().map(by).collect::<Vec<_>>(), gates, decided)
            });
            wrong.extend(unheld);
            wrong.extend(decided);
            met.into_iter().for_each(|condition| self.coverage.met(condition));
            for (by, event) in news {
                self.trace.digest(self.now, column, &[b"event", &event.sequence.to_be_bytes()]);
                if matches!(event.kind, EventKind::Settling { .. } | EventKind::Partial { .. }) {
                    let what = format_args!("{:?} of {}", event.kind, event.hash);
                    self.trace.event(self.now, column, what);
                }
                let since_then = self.settlements.applied.saturating_add(1)..=applied;
                let entries = by.map_or(since_then, |entry| entry..=entry);
                let (met, found) = self.settlements.see(self.now, entries, &event);
                met.into_iter().for_each(|condition| self.coverage.met(condition));
                wrong.extend(found);
                if matches!(event.kind, EventKind::Accepted { .. }) {
                    let last = self.settlements.sets.get(&event.hash).and_then(|set| set.last);
                    complete.extend(last);
                }
            }
            self.settlements.applied = self.settlements.applied.max(applied);
        }
        complete.into_iter().for_each(|last| self.look_at_last(last));
        wrong.extend(self.look_at_outcomes());
        for text in wrong {
            self.watch.violated(self.now, text);
        }
    }

    /// What payers got since this was asked last; gives what must not be.
    fn look_at_outcomes(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        self.settlements.outcomes.resize(self.lnds.len(), 0);
        for (lnd, known) in self.lnds.iter().zip(&mut self.settlements.outcomes) {
            let Some(node) = lnd.running() else { continue };
            let news = node.outcomes_since(*known);
            *known += news.len();
            for told in news {
                let settled = matches!(told.result, Some(outcome::Result::SettledPreimage(_)));
                self.trace.event(
                    self.now,
                    lnd.column(),
                    format_args!("HTLC {} {}", told.htlc_id, if settled { "settled" } else { "failed" }),
                );
                let Ok(hash) = PaymentHash::try_from(told.payment_hash.as_ref()) else { continue };
                let ours =
                    node.htlc(told.chan_id, told.htlc_id).is_none_or(|htlc| htlc.forwarded_chan_id == 0);
                if settled && ours && !self.settlements.decided.contains_key(&hash) {
                    wrong.push(format!("{}: {hash} was revealed before its decision", lnd.alias()));
                }
            }
        }
        wrong
    }

    /// The HTLC that completed a set.
    fn look_at_last(&self, key: CircuitKey) {
        let Some(lnd) = self.lnds.iter().find(|lnd| lnd.node() == key.node) else { return };
        let htlc = lnd.running().and_then(|node| node.htlc(key.chan_id, key.htlc_id));
        if htlc.is_some_and(|htlc| htlc.offers > 1) {
            self.coverage.met(Condition::CompletedByReplay);
        }
    }
}

#[cfg(test)]
mod tests;

//! What came out: what clients saw against what was promised, and everybody's books.

use super::{
    Doctor, NemesisError,
    clients::{Clients, cases::Doubles, watcher::Watcher},
    faults::{Engine, Happened, Kind},
    round::{RoundPlan, World},
};
use crate::{
    check::{
        events::{self, Seen},
        history::InvoiceCall,
        invoice::{Action, InvoiceModel, Outcome},
        linear::Stuck,
    },
    cluster::until,
    ledger::{
        PartEnd, PaymentEnd, Totals,
        check::{Violation, check},
    },
};
use mux_raft::types::PaymentHash;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// How long subscribers may take to see the last event.
const EVENTS_MAX: Duration = Duration::from_secs(30);

/// How long everything may take to come to rest at the end.
const REST_MAX: Duration = Duration::from_secs(90);

/// What one round leaves.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What was not as promised.
    pub(super) violations: Vec<Violation>,
    /// From the end of the last fault until everything worked, milliseconds.
    pub(super) healed_ms: Option<u64>,
    /// For how long nobody could pay, see [`super::waits`].
    pub(super) waits_ms: BTreeMap<String, Vec<u64>>,
    /// Invoices, calls, and calls of unknown outcome of the history.
    pub(super) history: (usize, usize, usize),
    /// Events that each subscriber saw.
    pub(super) events: usize,
    /// In a form that can be read.
    pub(super) histories: Vec<String>,
}

impl Told {
    /// How the recovery went.
    pub(super) fn heal(&mut self, healed: Result<u64, Violation>) {
        match healed {
            Ok(ms) => self.healed_ms = Some(ms),
            Err(violation) => self.violations.push(violation),
        }
    }

    /// For people.
    pub(super) fn summary(&self) -> String {
        let (invoices, calls, unknown) = self.history;
        let healed = self.healed_ms.map_or_else(|| "NOT healed".into(), |ms| format!("healed in {ms} ms"));
        format!(
            "{healed}; {calls} calls ({unknown} of unknown outcome) on {invoices} invoices and {} events checked: {} \
             violations.",
            self.events,
            self.violations.len()
        )
    }
}

/// What the whole run came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Verdict {
    /// What was not as promised.
    pub(super) violations: Vec<Violation>,
    /// Histories that no order of the calls explains.
    #[serde(skip)]
    pub(super) histories: Vec<String>,
    /// For how long faults were made.
    #[serde(skip)]
    pub(super) tormented: Duration,
    /// Of that, for how long replicas of two versions ran side by side.
    #[serde(skip)]
    pub(super) mixed_versions: Duration,
    /// By round.
    pub(super) healed_ms: Vec<u64>,
    /// Invoices of the history.
    pub(super) invoices: usize,
    /// Calls of the history.
    pub(super) calls: usize,
    /// Of these, those of unknown outcome.
    pub(super) calls_unknown: usize,
    /// Events that each subscriber saw.
    pub(super) events: usize,
    /// The load's payments.
    pub(super) payments: Totals,
    /// What happened.
    pub(super) faults: Vec<Happened>,
    /// Turns that came to nothing: one of the kind still waited to be possible, or it was not when it should have come alone.
    pub(super) left_out_turns: BTreeMap<Kind, u64>,
    /// For how long nobody could pay, by the fault that is to blame, in order, milliseconds: see [`super::waits`].
    pub(super) waits_ms: BTreeMap<String, Vec<u64>>,
}

impl Verdict {
    /// Whether there was anything to judge.
    pub(super) fn saw_something(&self) -> bool {
        self.calls > 0 && self.events > 0 && self.payments.settled > 0
    }

    /// One more round.
    pub(super) fn add(&mut self, told: Told) {
        let (invoices, calls, unknown) = told.history;
        self.violations.extend(told.violations);
        self.histories.extend(told.histories);
        self.healed_ms.extend(told.healed_ms);
        self.invoices += invoices;
        self.calls += calls;
        self.calls_unknown += unknown;
        self.events += told.events;
        for (cause, waits) in told.waits_ms {
            let all = self.waits_ms.entry(cause).or_default();
            all.extend(waits);
            all.sort_unstable();
        }
    }
}

/// Everybody must have seen everything, in order, and the same.
pub(super) async fn check_events(
    engine: &mut Engine,
    watchers: &[Watcher],
    doctor: &[Doctor],
    told: &mut Told,
) {
    let known = engine.cluster.statuses().await.iter().map(|status| status.event_sequence).max();
    let Some(newest) = known else {
        let evidence = "no replica says how many events there are".to_owned();
        return told.violations.push(Violation { rule: "events_unchecked", evidence });
    };
    for watcher in watchers {
        let seen = until("a subscriber has seen every event", EVENTS_MAX, || {
            std::future::ready((watcher.last() >= newest).then_some(()))
        });
        if seen.await.is_err() {
            let evidence =
                format!("{} saw {} of {newest} within {EVENTS_MAX:?}", watcher.name(), watcher.last());
            told.violations.push(Violation { rule: "events_missing", evidence });
        }
    }
    let mut seen: Vec<_> = watchers.iter().map(|watcher| (watcher.name(), watcher.seen())).collect();
    if doctor.contains(&Doctor::Events)
        && let Some((_, events)) = seen.first_mut()
    {
        events.remove(events.len() / 2);
    }
    told.events = seen.first().map_or(0, |(_, events)| events.len());
    let from_start: Vec<_> = watchers.iter().map(Watcher::asked_for_all).collect();
    if let Err(fault) = judge_events(&seen, &from_start, newest) {
        told.violations.push(Violation { rule: "events", evidence: fault.to_string() });
    }
}

/// Who asked for everything from the first event on must have seen that one, too; who went on after another one began with it.
fn judge_events(
    seen: &[(&str, Vec<Seen>)],
    from_start: &[bool],
    newest: u64,
) -> Result<(), events::EventFault> {
    let all = || seen.iter().map(|(name, events)| (*name, events.as_slice()));
    let whole: Vec<_> = all().zip(from_start).filter(|(_, from_start)| **from_start).collect();
    events::check_all(whole.into_iter().map(|(one, _)| one).collect::<Vec<_>>(), newest)?;
    events::check(all())
}

/// Some order of the calls on each invoice must explain all answers.
pub(super) async fn check_history(clients: &Clients, doubles: &Doubles, plan: &RoundPlan, told: &mut Told) {
    for evidence in doubles.lock().drain(..) {
        told.violations.push(Violation { rule: "repeated_call_differs", evidence });
    }
    for evidence in clients.shown.lock().drain(..) {
        told.violations.push(Violation { rule: "preimage_shown_undecided", evidence });
    }
    let history = clients.history.clone();
    if plan.doctor.contains(&Doctor::History)
        && let Some(hash) = history.calls().into_keys().next()
    {
        history.invoke(hash, Action::Lookup).returned(Outcome::NotFound);
    }
    let (calls, unknown) = history.counts();
    told.history = (history.calls().len(), calls, unknown);
    let model = InvoiceModel { auto_settle: plan.auto_settle, known: false };
    // Long histories take their time.
    judge(tokio::task::spawn_blocking(move || history.violations(&model)).await, told);
}

/// What the check of the histories came to. One that came to nothing shows nothing.
fn judge<E: std::fmt::Display>(
    found: Result<Vec<(PaymentHash, Stuck, Vec<InvoiceCall>)>, E>,
    told: &mut Told,
) {
    match found {
        Ok(found) => {
            for (hash, stuck, calls) in found {
                let text = readable(hash, stuck, &calls);
                let evidence = format!("invoice {hash}");
                told.violations.push(Violation { rule: "not_linearizable", evidence });
                told.histories.push(text);
            }
        }
        Err(error) => {
            told.violations.push(Violation { rule: "history_unchecked", evidence: error.to_string() });
        }
    }
}

/// A history that no order explains, by the time of the calls.
fn readable(hash: PaymentHash, stuck: Stuck, calls: &[InvoiceCall]) -> String {
    let mut numbered: Vec<_> = calls.iter().enumerate().collect();
    numbered.sort_by_key(|(_, call)| call.invoked);
    let mut text = format!(
        "Invoice {hash}: no order of these calls explains all answers; {} of {} at best.\n\
         Moments only order: what came later has a greater one.\n",
        stuck.explained,
        calls.len()
    );
    for (number, call) in numbered {
        let (until, outcome) = match &call.returned {
            Some((returned, outcome)) => (format!("{returned}"), format!("{outcome:?}")),
            None => ("…".into(), "unknown".into()),
        };
        let mark = if number == stuck.call { "  <- does not fit" } else { "" };
        text.push_str(&format!("{:>8} – {until:<8} {:?}: {outcome}{mark}\n", call.invoked, call.action));
    }
    text
}

/// Everybody's books at the end of the run.
pub(super) async fn reckon(
    engine: &mut Engine,
    world: &World,
    verdict: &mut Verdict,
    falsify: bool,
) -> Result<(), NemesisError> {
    world.story.say("Comparing the books of payers, LND nodes and replicas.");
    let mut payments = world.ledger.snapshot();
    let file = engine.cluster.dir().join("payments.json");
    std::fs::write(file, serde_json::to_vec(&payments).map_err(std::io::Error::from)?)?;
    let view = engine.cluster.take_books(&payments, REST_MAX).await?;
    let is_settled = |payment: &&mut crate::ledger::PaymentRecord| {
        payment.ends == [PaymentEnd::Settled] && !payment.order.foreign
    };
    if falsify && let Some(payment) = payments.iter_mut().find(is_settled) {
        payment.parts.retain(|part| !matches!(part.end, Some(PartEnd::Settled { .. })));
    }
    verdict.violations.extend(check(&payments, &view));
    verdict.violations.extend(engine.cluster.look_for_leaks().await?.violations);
    verdict.payments = world.ledger.totals();
    verdict.mixed_versions = engine.mixed_versions();
    verdict.faults.clone_from(&engine.happened);
    verdict.left_out_turns.clone_from(&engine.skipped);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_everything_must_have_seen_the_first_event_and_who_went_on_need_not() {
        let seen = |from: u64| -> Vec<Seen> {
            (from..=5).map(|sequence| Seen { sequence, what: sequence.to_string() }).collect()
        };
        let judge = |one, other| judge_events(&[("one", seen(1)), ("other", seen(2))], &[one, other], 5);
        assert_eq!(judge(true, false), Ok(()));
        assert!(matches!(judge(true, true), Err(events::EventFault::Began { got: 2, .. })));
        assert!(matches!(
            judge_events(&[("one", seen(1)), ("other", seen(6))], &[true, true], 5),
            Err(events::EventFault::Ended { last: 0, .. })
        ));
    }

    #[tokio::test]
    async fn a_check_of_the_histories_that_panics_is_a_violation() {
        let mut told = Told::default();
        judge(Ok::<_, String>(Vec::new()), &mut told);
        assert!(told.violations.is_empty());
        let panicked = tokio::task::spawn_blocking(|| -> Vec<_> { panic!("as meant by this test") }).await;
        judge(panicked, &mut told);
        assert_eq!(told.violations[0].rule, "history_unchecked");
        assert!(told.violations[0].evidence.contains("panic"), "{:?}", told.violations);
    }
}

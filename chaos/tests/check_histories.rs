//! The checkers: what must be rejected is, what can be explained is not, and on small random histories they say
//! what other checkers say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use mux_chaos::check::history::History;
use mux_chaos::check::invoice::{Action, InvoiceModel, Outcome};
use mux_chaos::check::linear::{Call, Model, check};
use mux_raft::machine::model::InvoiceState;
use mux_raft::types::PaymentHash;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

/// One number that is written and read.
struct Number;

impl Model for Number {
    type State = u8;
    /// `Some`: write it.
    type Action = Option<u8>;
    /// What was read; of a write nothing.
    type Outcome = Option<u8>;

    fn initial(&self) -> u8 {
        0
    }

    fn after(&self, state: &u8, action: &Option<u8>, outcome: Option<&Option<u8>>) -> Option<u8> {
        match (action, outcome) {
            (Some(value), _) => Some(*value),
            (None, Some(read)) => (*read == Some(*state)).then_some(*state),
            (None, None) => Some(*state),
        }
    }
}

type NumberCall = Call<Option<u8>, Option<u8>>;

/// Up to three clients that write and read one number, with answers that are right, stale or wrong; some calls
/// are never answered.
fn random_history(rng: &mut StdRng) -> Vec<NumberCall> {
    let clients = rng.random_range(2..=3);
    let (mut calls, mut now, mut number) = (Vec::<NumberCall>::new(), 0, 0);
    let mut open: Vec<Option<usize>> = vec![None; clients];
    let mut gone = vec![false; clients];
    for _ in 0..rng.random_range(4..=14) {
        let client = rng.random_range(0..clients);
        now += 1;
        match open[client].take() {
            _ if gone[client] => {}
            None => {
                let action = rng.random_bool(0.5).then(|| rng.random_range(0..3));
                open[client] = Some(calls.len());
                calls.push(Call { action, invoked: now, returned: None });
            }
            // Who gets no answer asks no more: the other checker knows one call by client.
            Some(_) if rng.random_bool(0.1) => gone[client] = true,
            Some(call) => {
                if let Some(value) = calls[call].action {
                    number = value;
                }
                let read = if rng.random_bool(0.2) { rng.random_range(0..3) } else { number };
                let outcome = if calls[call].action.is_some() { None } else { Some(read) };
                calls[call].returned = Some((now, outcome));
            }
        }
    }
    calls
}

/// What `stateright` says.
fn by_stateright(calls: &[NumberCall]) -> bool {
    let mut tester = LinearizabilityTester::new(Register(0));
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        events.push((call.invoked, at, true));
        events.extend(call.returned.as_ref().map(|(returned, _)| (*returned, at, false)));
    }
    events.sort_unstable();
    let (mut free, mut by_call): (Vec<usize>, Vec<usize>) = (Vec::new(), vec![0; calls.len()]);
    let mut clients = 0;
    for (_, at, invoked) in events {
        if invoked {
            by_call[at] = free.pop().unwrap_or_else(|| {
                clients += 1;
                clients
            });
            let action = calls[at].action.map_or(RegisterOp::Read, RegisterOp::Write);
            tester.on_invoke(by_call[at], action).unwrap();
        } else {
            let (_, outcome) = calls[at].returned.unwrap();
            let outcome = outcome.map_or(RegisterRet::WriteOk, RegisterRet::ReadOk);
            tester.on_return(by_call[at], outcome).unwrap();
            free.push(by_call[at]);
        }
    }
    tester.is_consistent()
}

/// Every order of every choice of unanswered calls.
fn by_brute_force(calls: &[NumberCall]) -> bool {
    fn explains(calls: &[NumberCall], left: &mut Vec<usize>, state: u8) -> bool {
        if left.iter().all(|at| calls[*at].returned.is_none()) {
            return true;
        }
        // Whoever is next must have been invoked before every answer that is left.
        let answers =
            left.iter().filter_map(|at| calls[*at].returned.as_ref().map(|(returned, _)| *returned));
        let first = answers.min().unwrap_or(u64::MAX);
        for place in 0..left.len() {
            let call = &calls[left[place]];
            let outcome = call.returned.as_ref().map(|(_, outcome)| outcome);
            let Some(after) = Number.after(&state, &call.action, outcome) else { continue };
            if call.invoked > first {
                continue;
            }
            let taken = left.remove(place);
            let found = explains(calls, left, after);
            left.insert(place, taken);
            if found {
                return true;
            }
        }
        false
    }
    explains(calls, &mut (0..calls.len()).collect(), 0)
}

#[test]
fn on_small_random_histories_three_checkers_agree() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..3_000 {
        let calls = random_history(&mut rng);
        let mine = check(&Number, &calls).is_ok();
        assert_eq!(mine, by_stateright(&calls), "stateright, seed {seed}: {calls:#?}");
        assert_eq!(mine, by_brute_force(&calls), "brute force, seed {seed}: {calls:#?}");
        if mine { good += 1 } else { bad += 1 }
    }
    assert!(good > 300 && bad > 300, "{good} good, {bad} bad: they do not tell much");
}

/// One client after the other.
fn in_turn(steps: &[(Action, Option<Outcome>)]) -> Vec<Call<Action, Outcome>> {
    let call = |(at, (action, outcome)): (u64, &(Action, Option<Outcome>))| Call {
        action: *action,
        invoked: at * 2,
        returned: outcome.map(|outcome| (at * 2 + 1, outcome)),
    };
    (0..).zip(steps).map(call).collect()
}

const STORED: InvoiceModel = InvoiceModel { auto_settle: false, known: false };
const AUTO: InvoiceModel = InvoiceModel { auto_settle: true, known: false };

fn found(state: InvoiceState) -> (Action, Option<Outcome>) {
    (Action::Lookup, Some(Outcome::Found(state)))
}

const ADDED: (Action, Option<Outcome>) = (Action::Add, Some(Outcome::Done));
const CANCELED: (Action, Option<Outcome>) = (Action::Cancel, Some(Outcome::Done));
const SETTLED: (Action, Option<Outcome>) = (Action::Settle, Some(Outcome::Done));

#[test]
fn an_invoice_may_drift_where_payers_and_deadlines_push_it() {
    use InvoiceState as S;
    let good = [
        vec![ADDED, found(S::Open), found(S::Accepted), SETTLED, found(S::Settling), found(S::Settled)],
        vec![ADDED, found(S::Accepted), found(S::Open), found(S::Expired)],
        vec![ADDED, CANCELED, CANCELED, found(S::Canceled), (Action::Settle, Some(Outcome::Refused))],
        vec![ADDED, SETTLED, (Action::Cancel, Some(Outcome::Refused)), found(S::Partial)],
        vec![(Action::Lookup, Some(Outcome::NotFound)), ADDED, (Action::Add, Some(Outcome::Refused))],
    ];
    for steps in good {
        assert_eq!(check(&STORED, &in_turn(&steps)), Ok(()), "{steps:?}");
    }
    assert_eq!(check(&AUTO, &in_turn(&[ADDED, found(S::Settled)])), Ok(()));
}

#[test]
fn what_no_order_explains_is_rejected() {
    use InvoiceState as S;
    let refused = |action| (action, Some(Outcome::Refused));
    let bad = [
        ("an acknowledged invoice is lost", vec![ADDED, (Action::Lookup, Some(Outcome::NotFound))]),
        ("it is added twice", vec![ADDED, ADDED]),
        ("a stale read after a cancel", vec![ADDED, CANCELED, found(S::Open)]),
        ("settled after a cancel", vec![ADDED, CANCELED, SETTLED]),
        ("canceled after the decision", vec![ADDED, SETTLED, CANCELED]),
        ("a stale read after the decision", vec![ADDED, SETTLED, found(S::Accepted)]),
        ("a decision is forgotten", vec![ADDED, found(S::Settled), found(S::Open)]),
        ("settled without anybody's decision", vec![ADDED, found(S::Settled)]),
        ("canceled by nobody", vec![ADDED, found(S::Canceled)]),
        ("an expired one is open again", vec![ADDED, found(S::Expired), found(S::Open)]),
        ("a cancel is refused without reason", vec![ADDED, found(S::Canceled), refused(Action::Cancel)]),
        ("a settle is refused after it was done", vec![ADDED, SETTLED, refused(Action::Settle)]),
        ("partial turns into settled", vec![ADDED, SETTLED, found(S::Partial), found(S::Settled)]),
    ];
    for (what, steps) in bad {
        assert!(check(&STORED, &in_turn(&steps)).is_err(), "{what}: {steps:?}");
    }
}

#[test]
fn an_unknown_outcome_may_take_effect_later_or_never() {
    use InvoiceState as S;
    let unknown = (Action::Cancel, None);
    for after in [vec![found(S::Open), found(S::Open)], vec![found(S::Open), found(S::Canceled)]] {
        let steps: Vec<_> = [ADDED, unknown].into_iter().chain(after).collect();
        assert_eq!(check(&STORED, &in_turn(&steps)), Ok(()), "{steps:?}");
    }
    let steps = [ADDED, unknown, found(S::Canceled), found(S::Open)];
    assert!(check(&STORED, &in_turn(&steps)).is_err(), "it took effect, and then it did not");
    let steps = [ADDED, found(S::Canceled), unknown];
    assert!(check(&STORED, &in_turn(&steps)).is_err(), "it took effect before it was asked for");
}

#[test]
fn overlapping_calls_may_be_in_any_order_and_later_ones_may_not() {
    let overlap = |returned| {
        vec![
            Call { action: Action::Add, invoked: 0, returned: Some((1, Outcome::Done)) },
            Call { action: Action::Cancel, invoked: 2, returned: Some((9, Outcome::Done)) },
            Call { action: Action::Settle, invoked: 3, returned: Some((returned, Outcome::Refused)) },
        ]
    };
    assert_eq!(check(&STORED, &overlap(5)), Ok(()));
    let mut apart = overlap(5);
    apart[2] = Call {
        action: Action::Lookup,
        invoked: 10,
        returned: Some((11, Outcome::Found(InvoiceState::Open))),
    };
    let stuck = check(&STORED, &apart).unwrap_err();
    assert_eq!((stuck.call, stuck.explained), (2, 2), "the lookup is what cannot be explained");
}

#[test]
fn a_history_is_checked_by_invoice_and_a_call_that_was_dropped_has_an_unknown_outcome() {
    let history = History::default();
    let (one, other) = (PaymentHash([1; 32]), PaymentHash([2; 32]));
    for hash in [one, other] {
        history.invoke(hash, Action::Add).returned(Outcome::Done);
    }
    drop(history.invoke(one, Action::Cancel));
    history.invoke(one, Action::Lookup).returned(Outcome::Found(InvoiceState::Canceled));
    history.invoke(other, Action::Lookup).returned(Outcome::Found(InvoiceState::Open));
    assert_eq!(history.counts(), (5, 1));
    assert!(history.violations(&STORED).is_empty());
    history.invoke(other, Action::Lookup).returned(Outcome::NotFound);
    let violations = history.violations(&STORED);
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].0, other);
}

#[test]
fn a_call_that_did_nothing_leaves_no_trace_and_one_that_named_its_invoice_late_began_when_it_was_made() {
    let history = History::default();
    let hash = PaymentHash([3; 32]);
    let since = history.moment();
    let early = history.invoke(hash, Action::Lookup);
    history.answered(hash, Action::Add, since, Outcome::Done);
    early.returned(Outcome::NotFound);
    history.invoke(hash, Action::Cancel).withdrawn();
    history.invoke(hash, Action::Lookup).returned(Outcome::Found(InvoiceState::Open));
    assert_eq!((history.counts(), history.violations(&STORED).len()), ((3, 0), 0));
    // The cancel did nothing, so nobody can see it.
    history.invoke(hash, Action::Lookup).returned(Outcome::Found(InvoiceState::Canceled));
    assert_eq!(history.violations(&STORED).len(), 1);
    // Made only after it had been found.
    let late = PaymentHash([4; 32]);
    history.invoke(late, Action::Lookup).returned(Outcome::Found(InvoiceState::Open));
    history.answered(late, Action::Add, history.moment(), Outcome::Done);
    assert_eq!(history.violations(&STORED).len(), 2);
}

#[test]
fn a_thousand_calls_of_five_clients_are_checked_whether_good_or_bad() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut calls = vec![];
    for at in 0..1_000_u64 {
        let action = (at % 3 == 0).then(|| rng.random_range(0..200));
        calls.push(Call { action, invoked: at * 10, returned: Some((at * 10 + 45, None)) });
    }
    // Reads see the last write that had been answered when they were asked.
    for at in 0..calls.len() {
        if calls[at].action.is_none() {
            let asked = calls[at].invoked;
            let before = calls.iter().filter(|call| call.action.is_some());
            let mut answered =
                before.filter(|call| call.returned.as_ref().is_some_and(|(at, _)| *at <= asked));
            let read = answered.next_back().and_then(|call| call.action).unwrap_or(0);
            calls[at].returned = Some((calls[at].invoked + 45, Some(read)));
        }
    }
    assert_eq!(check(&Number, &calls), Ok(()));
    let last = calls.last_mut().unwrap();
    *last = Call { action: None, invoked: last.invoked, returned: Some((last.invoked + 45, Some(201))) };
    assert_eq!(check(&Number, &calls).unwrap_err().call, 999);
}

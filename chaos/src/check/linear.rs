//! Linearizability (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects", 1990).
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's memo of
//! what was tried in vain ("Testing for linearizability", 2017). Time is exponential at worst, in the number of
//! calls that overlap; so a history is cut into objects first, and few clients work on one.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// What one object may do.
pub trait Model {
    /// What the object is, between two calls.
    type State: Clone + Eq + Hash;
    /// What is asked.
    type Action;
    /// What comes back.
    type Outcome;

    /// Before the first call.
    fn initial(&self) -> Self::State;

    /// What the object is after a call with this outcome; `None` if it could not have answered so. An unknown
    /// outcome (`None`) means that the call took effect, and nobody saw how it was answered.
    fn after(
        &self,
        state: &Self::State,
        action: &Self::Action,
        outcome: Option<&Self::Outcome>,
    ) -> Option<Self::State>;
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<Action, Outcome> {
    /// What was asked.
    pub action: Action,
    /// When, in any unit.
    pub invoked: u64,
    /// When it was answered, and how. `None`: the outcome is unknown. Then it may have taken effect at any time
    /// since it was invoked, may still do so, or never.
    pub returned: Option<(u64, Outcome)>,
}

/// Why a history is not linearizable: whatever order is tried, this call's answer does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Position of the call in the history.
    pub call: usize,
    /// So many calls could be put in order before it at best.
    pub explained: usize,
}

/// Whether one order of the calls explains all answers, in which every call lies between its invocation and its
/// answer.
///
/// # Errors
/// [`Stuck`]: there is none.
pub fn check<M: Model>(model: &M, calls: &[Call<M::Action, M::Outcome>]) -> Result<(), Stuck> {
    let mut search = Search::new(model, calls);
    let mut at = search.events.first();
    while search.unanswered > 0 {
        let Some(event) = at else { return Err(search.worst) };
        match search.events.kind(event) {
            Kind::Invoked(call) if search.take(call, event) => at = search.events.first(),
            Kind::Invoked(_) => at = search.events.next(event),
            Kind::Returned(call) => at = search.give_back(call)?,
        }
    }
    Ok(())
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Action, M::Outcome>],
    events: Events,
    state: M::State,
    /// Calls in order so far: the event, and the state before.
    order: Vec<(usize, M::State)>,
    taken: Bits,
    tried: HashSet<(Bits, M::State)>,
    /// Answered calls that are not in order yet.
    unanswered: usize,
    worst: Stuck,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, calls: &'a [Call<M::Action, M::Outcome>]) -> Self {
        Self {
            model,
            calls,
            events: Events::of(calls),
            state: model.initial(),
            order: Vec::new(),
            taken: Bits(vec![0; calls.len().div_ceil(64)]),
            tried: HashSet::new(),
            unanswered: calls.iter().filter(|call| call.returned.is_some()).count(),
            worst: Stuck { call: 0, explained: 0 },
        }
    }

    /// Puts a call next in order, if that is possible and was not tried from here.
    fn take(&mut self, call: usize, event: usize) -> bool {
        let Call { action, returned, .. } = &self.calls[call];
        let outcome = returned.as_ref().map(|(_, outcome)| outcome);
        let Some(state) = self.model.after(&self.state, action, outcome) else { return false };
        self.taken.set(call, true);
        if !self.tried.insert((self.taken.clone(), state.clone())) {
            self.taken.set(call, false);
            return false;
        }
        self.order.push((event, std::mem::replace(&mut self.state, state)));
        self.events.remove(event);
        self.unanswered -= usize::from(returned.is_some());
        true
    }

    /// A call was answered and is not in order: the last one that is must be another. Returns where to go on.
    fn give_back(&mut self, call: usize) -> Result<Option<usize>, Stuck> {
        if self.order.len() >= self.worst.explained {
            self.worst = Stuck { call, explained: self.order.len() };
        }
        let (event, state) = self.order.pop().ok_or(self.worst)?;
        self.state = state;
        if let Kind::Invoked(call) = self.events.kind(event) {
            self.taken.set(call, false);
            self.unanswered += usize::from(self.calls[call].returned.is_some());
        }
        self.events.restore(event);
        Ok(self.events.next(event))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Invoked(usize),
    Returned(usize),
}

/// Invocations and answers by time, as a list from which a call's two events can be taken and put back.
struct Events {
    kinds: Vec<Kind>,
    /// By event: where its answer is.
    answers: Vec<Option<usize>>,
    /// By event + 1; 0 is the head, and stands for the end as well.
    next: Vec<usize>,
    before: Vec<usize>,
}

impl Events {
    fn of<A, O>(calls: &[Call<A, O>]) -> Self {
        let mut events = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            // At the same time an invocation comes first: the calls overlap.
            events.push((call.invoked, 0, number));
            events.extend(call.returned.as_ref().map(|(returned, _)| (*returned, 1, number)));
        }
        events.sort_unstable();
        let count = events.len();
        let answer = |number| events.iter().position(|(_, kind, call)| *kind == 1 && *call == number);
        let answers = events.iter().map(|(_, kind, call)| if *kind == 0 { answer(*call) } else { None });
        let answers = answers.collect();
        let kinds = events.iter().map(|(_, kind, call)| match kind {
            0 => Kind::Invoked(*call),
            _ => Kind::Returned(*call),
        });
        let next = (0..=count).map(|at| if at == count { 0 } else { at + 1 }).collect();
        let before = (0..=count).map(|at| at.checked_sub(1).unwrap_or(count)).collect();
        Self { kinds: kinds.collect(), answers, next, before }
    }

    fn kind(&self, event: usize) -> Kind {
        self.kinds[event]
    }

    fn first(&self) -> Option<usize> {
        self.next[0].checked_sub(1)
    }

    fn next(&self, event: usize) -> Option<usize> {
        self.next[event + 1].checked_sub(1)
    }

    /// Takes an invocation and its answer out.
    fn remove(&mut self, event: usize) {
        self.unlink(event);
        if let Some(answer) = self.answers[event] {
            self.unlink(answer);
        }
    }

    /// The reverse of the last [`Events::remove`].
    fn restore(&mut self, event: usize) {
        if let Some(answer) = self.answers[event] {
            self.link(answer);
        }
        self.link(event);
    }

    fn unlink(&mut self, event: usize) {
        let (before, next) = (self.before[event + 1], self.next[event + 1]);
        self.next[before] = next;
        self.before[next] = before;
    }

    fn link(&mut self, event: usize) {
        let (before, next) = (self.before[event + 1], self.next[event + 1]);
        self.next[before] = event + 1;
        self.before[next] = event + 1;
    }
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: usize, value: bool) {
        let bit = 1 << (at % 64);
        if value {
            self.0[at / 64] |= bit;
        } else {
            self.0[at / 64] &= !bit;
        }
    }
}

//! One invoice as its clients may see it.
//!
//! Payers, block deadlines and LND move an invoice as well, and no client's history shows when. So the model keeps
//! the *set* of states that the invoice may be in, lets it drift wherever the world may push it, and lets each
//! answer narrow it down.

use super::linear::Model;
use mux_raft::machine::model::InvoiceState;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `AddInvoice`.
    Add,
    /// A lookup at any replica, with the default consistency.
    Lookup,
    /// `SettleInvoice`.
    Settle,
    /// `CancelInvoice`.
    Cancel,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done, or had been done before.
    Done,
    /// It was refused: the invoice is not in a state for it.
    Refused,
    /// Lookup: it is there.
    Found(InvoiceState),
    /// Lookup: nobody knows it.
    NotFound,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct InvoiceModel {
    /// The cluster settles complete sets by itself.
    pub auto_settle: bool,
    /// Invoices are known before they are added: others may have done that.
    pub known: bool,
}

/// States that an invoice may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct States(u16);

const ABSENT: States = States(1);
const NONE: States = States(0);

const ALL: [InvoiceState; 7] = [
    InvoiceState::Open,
    InvoiceState::Accepted,
    InvoiceState::Settling,
    InvoiceState::Settled,
    InvoiceState::Partial,
    InvoiceState::Canceled,
    InvoiceState::Expired,
];

impl States {
    fn of(states: &[InvoiceState]) -> Self {
        states.iter().fold(NONE, |sum, state| sum.or(Self::one(*state)))
    }

    fn one(state: InvoiceState) -> Self {
        let at = ALL.iter().position(|other| *other == state).unwrap_or(ALL.len());
        Self(2 << at)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn known(self) -> Option<Self> {
        (self != NONE).then_some(self)
    }
}

impl InvoiceModel {
    /// Wherever payers, deadlines and LND may have pushed it.
    fn drift(self, states: States) -> States {
        use InvoiceState as S;
        let mut moves = vec![
            (S::Open, S::Accepted),
            // A set that nobody decides on in time is given back.
            (S::Accepted, S::Open),
            (S::Open, S::Expired),
            (S::Settling, S::Settled),
            (S::Settling, S::Partial),
        ];
        if self.auto_settle {
            moves.push((S::Accepted, S::Settling));
        }
        let mut reached = states;
        loop {
            let further = moves.iter().fold(reached, |reached, (from, to)| {
                if reached.has(States::one(*from)) { reached.or(States::one(*to)) } else { reached }
            });
            if further == reached {
                return reached;
            }
            reached = further;
        }
    }
}

impl Model for InvoiceModel {
    type State = States;
    type Action = Action;
    type Outcome = Outcome;

    fn initial(&self) -> States {
        if self.known { States::one(InvoiceState::Open) } else { ABSENT }
    }

    fn after(&self, states: &States, action: &Action, outcome: Option<&Outcome>) -> Option<States> {
        use InvoiceState as S;
        let states = self.drift(*states);
        let decided = States::of(&[S::Settling, S::Settled, S::Partial]);
        let (accepted, cancelable) =
            (States::one(S::Accepted), States::of(&[S::Open, S::Accepted, S::Canceled]));
        // What the action makes of the states in which it is done, and the states in which it is refused.
        let (done, refused) = match action {
            Action::Add => {
                (if states.has(ABSENT) { States::one(S::Open) } else { NONE }, states.without(ABSENT))
            }
            Action::Settle => {
                let now = if states.has(accepted) { States::one(S::Settling) } else { NONE };
                (states.and(decided).or(now), states.without(decided.or(accepted)))
            }
            Action::Cancel => (
                if states.has(cancelable) { States::one(S::Canceled) } else { NONE },
                states.without(cancelable),
            ),
            Action::Lookup => (NONE, states),
        };
        match (action, outcome) {
            (Action::Lookup, Some(Outcome::Found(state))) => states.and(States::one(*state)).known(),
            (Action::Lookup, Some(Outcome::NotFound)) => states.and(ABSENT).known(),
            (Action::Lookup, Some(Outcome::Done | Outcome::Refused)) => None,
            (_, Some(Outcome::Done)) => done.known(),
            (_, Some(Outcome::Refused)) => refused.known(),
            (_, Some(Outcome::Found(_) | Outcome::NotFound)) => None,
            (_, None) => done.or(refused).known(),
        }
    }
}

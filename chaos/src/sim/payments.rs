//! Payers and applications, on a host of their own that never fails: they are not what is tested.
//!
//! Payers hand their HTLCs to the simulated LND nodes ([`super::lnd::SimPeer`]), applications call the replicas' API over the
//! simulated network, at another replica when one does not answer. What both did and learned is written down: the money
//! ledger, the history of calls, the events that subscribers saw.
//!
//! * `host`: where they run. `kind`: the ways to pay. `play`: one payment of a kind, from its invoice to its end.
//! * `fresh`: what is paid once nothing is wrong any more. `books`: everybody's word at the end.

mod books;
mod fresh;
mod host;
mod kind;
mod play;

pub use books::Books;
pub use host::PaymentsHost;
pub use kind::Kind;

use crate::check::events;
use crate::check::history::History;
use crate::check::invoice::InvoiceModel;
use crate::ledger::{Ledger, Totals};
use crate::nemesis::clients::watcher::Watcher;
use crate::sim::swarm::Payments as Plan;
use mux_raft::types::PaymentHash;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::watch;

/// What payers and applications share with whoever watches over them. Clones share it.
#[derive(Clone)]
pub struct Payments {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Plan,
    seed: u64,
    unix_ms: Arc<AtomicU64>,
    ledger: Arc<Ledger>,
    history: History,
    known: Arc<Mutex<BTreeSet<PaymentHash>>>,
    over: watch::Sender<bool>,
    under_way: AtomicUsize,
    watchers: Mutex<Vec<Watcher>>,
    books: Mutex<Option<Books>>,
    problems: Arc<Mutex<Vec<String>>>,
    /// LND nodes over which something was paid after the faults.
    fresh: AtomicUsize,
}

impl fmt::Debug for Payments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payments").field("plan", &self.shared.plan).finish_non_exhaustive()
    }
}

/// Counts as under way for as long as it lives.
struct UnderWay(Payments);

impl UnderWay {
    fn begin(payments: &Payments) -> Self {
        payments.shared.under_way.fetch_add(1, Ordering::Relaxed);
        Self(payments.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.shared.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Payments {
    /// Nothing was paid yet.
    #[must_use]
    pub fn new(seed: u64, plan: Plan) -> Self {
        let unix_ms = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&unix_ms);
        let ledger = Ledger::by_clock(Arc::new(move || clock.load(Ordering::Relaxed)));
        let shared = Shared {
            plan,
            seed,
            unix_ms,
            ledger: Arc::new(ledger),
            history: History::default(),
            known: Arc::default(),
            over: watch::Sender::new(false),
            under_way: AtomicUsize::new(0),
            watchers: Mutex::default(),
            books: Mutex::default(),
            problems: Arc::default(),
            fresh: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What time it is from now on.
    pub fn set_time(&self, unix_ms: u64) {
        self.shared.unix_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// Nobody begins anything any more; what is under way goes on.
    pub fn stop(&self) {
        self.shared.over.send_replace(true);
    }

    /// Payments that have not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Relaxed)
    }

    /// The money ledger.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// How many payments ended how.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.ledger.totals()
    }

    /// Calls of the history.
    #[must_use]
    pub fn calls(&self) -> u64 {
        u64::try_from(self.shared.history.counts().0).unwrap_or(u64::MAX)
    }

    /// The number of the last event that every subscriber has seen.
    #[must_use]
    pub fn events_seen(&self) -> u64 {
        self.shared.watchers.lock().iter().map(Watcher::last).min().unwrap_or(0)
    }

    /// What clients found that cannot be.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.shared.problems.lock().clone()
    }

    /// What the histories and the subscribers tell that cannot be. All subscribers have had the time to see every event up
    /// to `newest`.
    #[must_use]
    pub fn check(&self, newest: u64) -> Vec<String> {
        let mut found = self.problems();
        let model = InvoiceModel { auto_settle: self.shared.plan.auto_settle, known: false };
        for (hash, stuck, calls) in self.shared.history.violations(&model) {
            found.push(format!("not linearizable: invoice {hash}, {stuck:?}, {calls:?}"));
        }
        let watchers = self.shared.watchers.lock();
        let seen: Vec<_> = watchers.iter().map(|watcher| (watcher.name(), watcher.seen())).collect();
        if let Err(fault) =
            events::check_all(seen.iter().map(|(name, events)| (*name, events.as_slice())), newest)
        {
            found.push(format!("events: {fault}"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::events::Seen;
    use crate::check::invoice::{Action, Outcome};
    use crate::sim::swarm::Swarm;
    use mux_raft::machine::model::InvoiceState;

    fn seen(sequences: &[u64]) -> Vec<Seen> {
        sequences
            .iter()
            .map(|sequence| Seen { sequence: *sequence, what: format!("event {sequence}") })
            .collect()
    }

    #[test]
    fn what_clients_saw_that_cannot_be_is_told() {
        let payments = Payments::new(1, Swarm::draw(1).payments);
        let (history, hash) = (&payments.shared.history, PaymentHash([1; 32]));
        let now = |action, outcome| history.answered(hash, action, history.moment(), outcome);
        now(Action::Add, Outcome::Done);
        now(Action::Lookup, Outcome::Found(InvoiceState::Expired));
        assert_eq!(payments.check(0), Vec::<String>::new());
        now(Action::Lookup, Outcome::Found(InvoiceState::Open));
        let found = payments.check(0);
        assert!(matches!(found.as_slice(), [one] if one.starts_with("not linearizable")), "{found:?}");

        payments.shared.problems.lock().push("what a client noticed".into());
        assert_eq!(payments.check(0).len(), 2);
    }

    #[tokio::test]
    async fn what_subscribers_missed_is_told() {
        let payments = Payments::new(1, Swarm::draw(1).payments);
        payments.shared.watchers.lock().push(Watcher::having("one", seen(&[1, 2, 3])));
        assert_eq!(payments.check(3), Vec::<String>::new());
        payments.shared.watchers.lock().push(Watcher::having("two", seen(&[1, 3])));
        let found = payments.check(3);
        assert!(matches!(found.as_slice(), [one] if one.starts_with("events: two")), "{found:?}");
        payments.shared.watchers.lock().pop();
        assert_eq!(payments.check(4).len(), 1, "the last one");
    }
}

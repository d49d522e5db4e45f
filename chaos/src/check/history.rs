//! What clients record while a cluster is tormented.

use super::invoice::{Action, InvoiceModel, Outcome};
use super::linear::{Call, Stuck, check};
use mux_raft::types::PaymentHash;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A call on an invoice.
pub type InvoiceCall = Call<Action, Outcome>;

/// Calls of all clients, by invoice. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct History {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Orders invocations and answers: what really was one after the other gets ascending numbers.
    moments: AtomicU64,
    /// `None`: a call that certainly did nothing.
    calls: Mutex<BTreeMap<PaymentHash, Vec<Option<InvoiceCall>>>>,
}

/// A moment of a history: what really came later has a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

/// A call whose answer is awaited. If it is dropped the outcome stays unknown.
#[derive(Debug)]
pub struct Pending {
    history: History,
    hash: PaymentHash,
    at: usize,
}

impl History {
    /// A client is about to ask.
    #[must_use]
    pub fn invoke(&self, hash: PaymentHash, action: Action) -> Pending {
        let mut calls = self.inner.calls.lock();
        let calls = calls.entry(hash).or_default();
        calls.push(Some(Call { action, invoked: self.now(), returned: None }));
        Pending { history: self.clone(), hash, at: calls.len() - 1 }
    }

    /// Now: for a call whose invoice is known only by its answer.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(self.now())
    }

    /// A call that was made at some moment has just been answered, and only now its invoice is known.
    pub fn answered(&self, hash: PaymentHash, action: Action, since: Moment, outcome: Outcome) {
        let mut calls = self.inner.calls.lock();
        let returned = Some((self.now(), outcome));
        calls.entry(hash).or_default().push(Some(Call { action, invoked: since.0, returned }));
    }

    /// Calls so far, and how many of them have an unknown outcome.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let calls = self.inner.calls.lock();
        let all = || calls.values().flatten().flatten();
        (all().count(), all().filter(|call| call.returned.is_none()).count())
    }

    /// The calls on each invoice.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<PaymentHash, Vec<InvoiceCall>> {
        let calls = self.inner.calls.lock();
        calls.iter().map(|(hash, calls)| (*hash, calls.iter().flatten().cloned().collect())).collect()
    }

    /// Every invoice whose calls no order explains, with these calls and where the search got stuck.
    #[must_use]
    pub fn violations(&self, model: &InvoiceModel) -> Vec<(PaymentHash, Stuck, Vec<InvoiceCall>)> {
        let stuck = |(hash, calls): (PaymentHash, Vec<InvoiceCall>)| {
            let stuck = check(model, &calls).err()?;
            Some((hash, stuck, calls))
        };
        self.calls().into_iter().filter_map(stuck).collect()
    }

    fn now(&self) -> u64 {
        self.inner.moments.fetch_add(1, Ordering::SeqCst)
    }
}

impl Pending {
    /// The answer has come.
    pub fn returned(self, outcome: Outcome) {
        let now = self.history.now();
        let mut calls = self.history.inner.calls.lock();
        if let Some(Some(call)) = calls.get_mut(&self.hash).and_then(|calls| calls.get_mut(self.at)) {
            call.returned = Some((now, outcome));
        }
    }

    /// It certainly did nothing, and nothing was learned: it was never sent, or a replica says so, or it is a lookup
    /// without an answer.
    pub fn withdrawn(self) {
        let mut calls = self.history.inner.calls.lock();
        if let Some(call) = calls.get_mut(&self.hash).and_then(|calls| calls.get_mut(self.at)) {
            *call = None;
        }
    }
}

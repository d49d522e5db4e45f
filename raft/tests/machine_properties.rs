//! Random histories: the promises hold after every entry, two replicas agree, snapshots change nothing,
//! and a second, naive telling of the rules comes to the same verdicts and invoice states.

#![allow(clippy::unwrap_used)]

#[path = "machine_properties/actions.rs"]
mod actions;
#[path = "machine_properties/promises.rs"]
mod promises;
#[path = "machine_properties/reference.rs"]
mod reference;
#[path = "machine_properties/seen.rs"]
mod seen;
#[path = "machine_support/mod.rs"]
mod support;

use actions::{Action, Entry, Outside};
use mux_raft::archive::{Archive as _, InvoiceOrder};
use mux_raft::machine::command::{Command, Envelope};
use mux_raft::machine::model::Verdict;
use mux_raft::machine::{Applied, LogPosition, State};
use mux_raft::types::CircuitKey;
use promises::Witness;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reference::Reference;
use seen::Seen;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Histories per run; `PROPTEST_CASES` overrides it.
const CASES: u32 = 200;

/// Two replicas, the naive model, and what was seen.
struct History {
    outside: Outside,
    state: Seen,
    /// Goes through snapshots, and has an archive of its own.
    twin: Seen,
    reference: Reference,
    witness: Witness,
    /// Offers of HTLCs whose verdict only the archive knows.
    from_archive: u64,
}

impl History {
    fn new() -> Self {
        let (outside, entries) = Outside::new();
        let mut history = Self {
            outside,
            state: Seen::default(),
            twin: Seen::default(),
            reference: Reference::new(),
            witness: Witness::default(),
            from_archive: 0,
        };
        entries.into_iter().for_each(|entry| history.apply(entry));
        history
    }

    fn run(&mut self, action: &Action) {
        if matches!(action, Action::Snapshot) {
            self.twin.state = State::decode_snapshot(&self.twin.encode_snapshot()).unwrap();
            self.twin.archive.check(self.twin.archive_tip()).unwrap();
        }
        for entry in self.outside.entries(action, &self.state) {
            self.apply(entry);
        }
    }

    fn apply(&mut self, entry: Entry) {
        let at = LogPosition { term: self.outside.term, index: self.state.applied().index + 1 };
        let time_ms = self.outside.time_ms;
        let envelope = entry.map(|command| {
            let format = command.level().max(self.state.feature_level());
            Envelope { format, time_ms, request_id: None, command }
        });
        let before = self.state.clone();
        self.from_archive +=
            u64::from(envelope.as_ref().is_some_and(|envelope| asks_archive(&before, envelope)));
        let applied = apply(&mut self.state, at, envelope.as_ref());
        assert_eq!(apply(&mut self.twin, at, envelope.as_ref()), applied, "replicas answer differently");
        assert_eq!(self.twin.state, self.state.state, "replicas differ");
        assert_eq!(self.state.chain_hash(), self.twin.chain_hash());
        self.witness.check(&before, &self.state);
        if at.index.is_multiple_of(4) {
            let restored = State::decode_snapshot(&self.state.encode_snapshot()).unwrap();
            assert_eq!(restored, self.state.state, "rebuilt indexes differ from those kept");
        }
        let command = envelope.as_ref().map(|envelope| (envelope.time_ms, &envelope.command));
        self.reference.apply(at.term, command);
        self.compare(envelope.as_ref());
    }

    fn compare(&self, envelope: Option<&Envelope>) {
        let after = || format!("after {envelope:?}");
        for bill in &self.reference.bills {
            let invoice = self.state.invoice(&bill.hash).unwrap();
            let ours = (invoice.state, invoice.attempt, u128::from(invoice.received_msat.0));
            assert_eq!(ours, (bill.state, bill.attempt, bill.received), "{}", after());
        }
        let total: u64 = self.state.invoice_counts().values().sum();
        assert_eq!(total, self.reference.bills.len() as u64);
        let ours: BTreeMap<_, _> =
            self.state.htlcs().into_iter().map(|(key, htlc)| (key, htlc.verdict)).collect();
        let theirs: BTreeMap<_, _> =
            self.reference.parts.iter().map(|part| (part.key, part.verdict)).collect();
        assert_eq!(ours, theirs, "{}", after());
        let decided = self.state.invoices(InvoiceOrder::Decided);
        let decided: Vec<_> = decided.iter().map(|invoice| invoice.hash).collect();
        assert_eq!(decided, self.reference.decisions);
    }
}

/// Whether an HTLC is offered again whose verdict is not in memory.
fn asks_archive(seen: &Seen, envelope: &Envelope) -> bool {
    let Command::OfferHtlcs { node, offers, .. } = &envelope.command else { return false };
    offers.iter().any(|offer| {
        let key = CircuitKey { node: *node, chan_id: offer.chan_id, htlc_id: offer.htlc_id };
        seen.state.htlc(&key).is_none() && seen.htlc(&key).is_some()
    })
}

/// Applies an entry, and keeps what leaves the state.
fn apply(seen: &mut Seen, at: LogPosition, envelope: Option<&Envelope>) -> Applied {
    let applied = seen.state.apply(at, envelope, seen.archive.as_ref()).unwrap();
    seen.archive.append(applied.archived.clone()).unwrap();
    applied
}

/// How often things happened, over all cases: a run that never decided anything proves nothing.
#[derive(Default)]
struct Coverage {
    decisions: u64,
    settled: u64,
    partial: u64,
    retried: u64,
    archived: u64,
    from_archive: u64,
    failed: BTreeMap<String, u64>,
}

impl Coverage {
    fn add(&mut self, history: &History) {
        let witness = &history.witness;
        self.decisions += witness.decisions;
        self.settled += witness.settled;
        self.partial += witness.partial;
        self.retried += u64::from(witness.attempts > 1);
        self.archived += history.state.archive_tip().next;
        self.from_archive += history.from_archive;
        for part in &history.reference.parts {
            if let Some(Verdict::Fail(reason)) = part.verdict {
                let name = format!("{reason:?}");
                let name = name.split("cause: ").last().unwrap_or(&name).to_owned();
                *self.failed.entry(name).or_default() += 1;
            }
        }
    }
}

#[test]
fn promises_hold_in_random_histories() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(Config {
        cases,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..Config::default()
    });
    let coverage = RefCell::new(Coverage::default());
    // Half of the histories stay at level 1; the others raise the level, most of them when much is finished.
    let histories = (prop::option::weighted(0.5, 0..60_usize), actions::actions());
    let result = runner.run(&histories, |(raise_at, actions)| {
        let mut history = History::new();
        for (at, action) in actions.iter().enumerate() {
            if raise_at == Some(at) {
                history.apply(Some(Command::raise_feature_level()));
            }
            history.run(action);
        }
        coverage.borrow_mut().add(&history);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let coverage = coverage.into_inner();
    println!(
        "decisions {}, settled {}, partial {}, retried {}, archived {}, replayed from the archive {}, failed {:?}",
        coverage.decisions,
        coverage.settled,
        coverage.partial,
        coverage.retried,
        coverage.archived,
        coverage.from_archive,
        coverage.failed
    );
    let enough = u64::from(cases) / 10;
    for (what, count) in [
        ("decisions", coverage.decisions),
        ("settled", coverage.settled),
        ("partial", coverage.partial),
        ("retried", coverage.retried),
        ("archived", coverage.archived),
    ] {
        assert!(count >= enough, "too few {what}: {count}");
    }
    assert!(coverage.failed.len() >= 12, "too few kinds of failure: {:?}", coverage.failed);
}

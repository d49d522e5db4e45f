//! Random histories: the promises hold after every entry, two replicas agree, snapshots change nothing,
//! and a second, naive telling of the rules comes to the same verdicts and invoice states.

#![allow(clippy::unwrap_used)]

#[path = "machine_properties/actions.rs"]
mod actions;
#[path = "machine_properties/promises.rs"]
mod promises;
#[path = "machine_properties/reference.rs"]
mod reference;
#[path = "machine_support/mod.rs"]
mod support;

use actions::{Action, Entry, Outside};
use mux_raft::machine::archive::EmptyArchive;
use mux_raft::machine::command::{COMMAND_FORMAT, Envelope};
use mux_raft::machine::model::Verdict;
use mux_raft::machine::{LogPosition, State};
use promises::Witness;
use proptest::test_runner::{Config, TestRunner};
use reference::Reference;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Histories per run; `PROPTEST_CASES` overrides it.
const CASES: u32 = 200;

/// Two replicas, the naive model, and what was seen.
struct History {
    outside: Outside,
    state: State,
    twin: State,
    reference: Reference,
    witness: Witness,
}

impl History {
    fn new() -> Self {
        let (outside, entries) = Outside::new();
        let mut history = Self {
            outside,
            state: State::default(),
            twin: State::default(),
            reference: Reference::new(),
            witness: Witness::default(),
        };
        entries.into_iter().for_each(|entry| history.apply(entry));
        history
    }

    fn run(&mut self, action: &Action) {
        if matches!(action, Action::Snapshot) {
            self.twin = State::decode_snapshot(&self.twin.encode_snapshot()).unwrap();
        }
        for entry in self.outside.entries(action, &self.state) {
            self.apply(entry);
        }
    }

    fn apply(&mut self, entry: Entry) {
        let at = LogPosition { term: self.outside.term, index: self.state.applied().index + 1 };
        let time_ms = self.outside.time_ms;
        let envelope =
            entry.map(|command| Envelope { format: COMMAND_FORMAT, time_ms, request_id: None, command });
        let before = self.state.clone();
        let applied = self.state.apply(at, envelope.as_ref(), &EmptyArchive).unwrap();
        assert_eq!(
            self.twin.apply(at, envelope.as_ref(), &EmptyArchive).unwrap(),
            applied,
            "replicas answer differently"
        );
        assert_eq!(self.twin, self.state, "replicas differ");
        assert_eq!(self.state.chain_hash(), self.twin.chain_hash());
        self.witness.check(&before, &self.state);
        if at.index.is_multiple_of(4) {
            let restored = State::decode_snapshot(&self.state.encode_snapshot()).unwrap();
            assert_eq!(restored, self.state, "rebuilt indexes differ from those kept");
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
        let fronts = self.state.front_nodes().map(|front| front.node);
        let htlcs = fronts.flat_map(|node| self.state.htlcs_of(&node).collect::<Vec<_>>());
        let ours: BTreeMap<_, _> = htlcs.map(|htlc| (htlc.key, htlc.verdict)).collect();
        let theirs: BTreeMap<_, _> =
            self.reference.parts.iter().map(|part| (part.key, part.verdict)).collect();
        assert_eq!(ours, theirs, "{}", after());
        let decided: Vec<_> = self.state.decided_from(1).map(|invoice| invoice.hash).collect();
        assert_eq!(decided, self.reference.decisions);
    }
}

/// How often things happened, over all cases: a run that never decided anything proves nothing.
#[derive(Default)]
struct Coverage {
    decisions: u64,
    settled: u64,
    partial: u64,
    retried: u64,
    failed: BTreeMap<String, u64>,
}

impl Coverage {
    fn add(&mut self, history: &History) {
        let witness = &history.witness;
        self.decisions += witness.decisions;
        self.settled += witness.settled;
        self.partial += witness.partial;
        self.retried += u64::from(witness.attempts > 1);
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
    let result = runner.run(&actions::actions(), |actions| {
        let mut history = History::new();
        actions.iter().for_each(|action| history.run(action));
        coverage.borrow_mut().add(&history);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let coverage = coverage.into_inner();
    println!(
        "decisions {}, settled {}, partial {}, retried {}, failed {:?}",
        coverage.decisions, coverage.settled, coverage.partial, coverage.retried, coverage.failed
    );
    let enough = u64::from(cases) / 10;
    for (what, count) in [
        ("decisions", coverage.decisions),
        ("settled", coverage.settled),
        ("partial", coverage.partial),
        ("retried", coverage.retried),
    ] {
        assert!(count >= enough, "too few {what}: {count}");
    }
    assert!(coverage.failed.len() >= 12, "too few kinds of failure: {:?}", coverage.failed);
}

use crate::sim::coverage::Counts;
use crate::sim::net::Traffic;
use crate::sim::payments::Payments;
use crate::sim::swarm::FaultKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a run reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What it followed from.
    pub seed: u64,
    /// Over everything that happened. The same for the same seed, time and program.
    pub trace_hash: String,
    /// How much that was.
    pub events: u64,
    /// How long it was in the world.
    pub simulated_ms: u64,
    /// From the last fault until all had converged.
    pub healed_in_ms: Option<u64>,
    /// Terms that had a leader.
    pub terms: u64,
    /// The last entry that was applied.
    pub entries: u64,
    /// What applications asked for.
    pub proposals: Proposals,
    /// What payers did.
    pub payments: PaymentCounts,
    /// What passed between hosts.
    pub traffic: Traffic,
    /// Faults, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// How often a replica died at each named point.
    pub points: BTreeMap<String, u64>,
    /// What happened that must happen.
    pub coverage: Counts,
    /// What must not happen and did.
    pub violations: Vec<String>,
}

/// How payments ended. `settled + failed + partial + undecided = begun`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PaymentCounts {
    /// All.
    pub begun: u64,
    /// Settled.
    pub settled: u64,
    /// Failed, as they should have or not.
    pub failed: u64,
    /// Of `failed`: those that were right. No money was lost, only a sale.
    pub failed_unintended: u64,
    /// LND lost a part of a decided set: some parts settled, others failed.
    pub partial: u64,
    /// Without an end when all was over.
    pub undecided: u64,
    /// HTLCs sent.
    pub htlcs: u64,
    /// Forwards that passed.
    pub forwards: u64,
    /// All forwards; they are not among `begun`.
    pub forwards_begun: u64,
    /// Calls that are checked for an order.
    pub calls: u64,
    /// Events that all subscribers saw.
    pub events: u64,
}

impl PaymentCounts {
    pub(super) fn of(payments: &Payments) -> Self {
        let totals = payments.totals();
        Self {
            begun: totals.payments,
            settled: totals.settled,
            failed: totals.failed,
            failed_unintended: totals.failed_unintended,
            partial: totals.partial,
            undecided: totals.undecided,
            htlcs: totals.htlcs,
            forwards: totals.forwards_passed,
            forwards_begun: totals.forwards,
            calls: payments.calls(),
            events: payments.events_seen(),
        }
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.settled += other.settled;
        self.failed += other.failed;
        self.failed_unintended += other.failed_unintended;
        self.partial += other.partial;
        self.undecided += other.undecided;
        self.htlcs += other.htlcs;
        self.forwards += other.forwards;
        self.forwards_begun += other.forwards_begun;
        self.calls += other.calls;
        self.events += other.events;
    }
}

/// What became of the commands that applications proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposals {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Certainly not in the log.
    pub unavailable: u64,
    /// Nobody knew; most were proposed again.
    pub unknown: u64,
    /// Died with their process.
    pub abandoned: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Expectation, FailureSource, PartFailure, PaymentEnd, PaymentOrder};
    use crate::sim::swarm::Swarm;
    use mux_raft::types::PaymentHash;

    #[test]
    fn every_payment_is_in_exactly_one_of_the_counts() {
        let payments = Payments::new(1, Swarm::draw(1).payments);
        let begin = |expect, foreign| {
            let hash = PaymentHash([1; 32]);
            let label = String::new();
            payments.ledger().begin(PaymentOrder {
                label,
                hash,
                total_msat: 1,
                expect,
                stored: true,
                foreign,
            })
        };
        let failed = || {
            PaymentEnd::Failed(PartFailure { source: FailureSource::FrontNode, code: 0, data: String::new() })
        };
        let not_sent = || PaymentEnd::NotSent("nobody takes it".into());
        for (expect, end) in [
            (Expectation::Settle, PaymentEnd::Settled),
            (Expectation::Any, PaymentEnd::Settled),
            (Expectation::Settle, failed()),
            (Expectation::Settle, not_sent()),
            (Expectation::Fail, failed()),
            (Expectation::Any, not_sent()),
            (Expectation::FailWith(15), failed()),
            (Expectation::Settle, PaymentEnd::Partial),
            (Expectation::Settle, PaymentEnd::Undecided),
        ] {
            payments.ledger().end(begin(expect, false), end);
        }
        begin(Expectation::Settle, false);
        payments.ledger().end(begin(Expectation::Settle, true), PaymentEnd::Settled);
        payments.ledger().end(begin(Expectation::Settle, true), failed());

        let mut counts = PaymentCounts::of(&payments);
        counts.add(&counts.clone());
        let PaymentCounts { begun, settled, failed, failed_unintended, partial, undecided, .. } = counts;
        assert_eq!([begun, settled, failed, failed_unintended, partial, undecided], [20, 4, 10, 4, 2, 4]);
        assert_eq!(settled + failed + partial + undecided, begun);
        assert_eq!((counts.forwards_begun, counts.forwards), (4, 2));
    }

    #[test]
    fn what_was_written_before_there_were_these_counts_is_read() {
        let counts: PaymentCounts = serde_json::from_str(r#"{"begun": 3, "settled": 2}"#).unwrap();
        assert_eq!(counts, PaymentCounts { begun: 3, settled: 2, ..PaymentCounts::default() });
    }
}

//! What it costs payers to lose a replica: measured at the front nodes, in their own books.

use crate::ledger::LndView;
use mux_raft::types::NodePubkey;

/// A replica that got SIGKILL.
#[derive(Clone, Debug)]
pub struct Kill {
    /// Which.
    pub replica: String,
    /// What it was: for people.
    pub role: String,
    /// When, by the clock that the LND nodes use too.
    pub unix_ms: u64,
    /// Front nodes that nobody could be paid through because of it, and where somebody was waiting.
    pub concerned: Vec<NodePubkey>,
}

/// From the kill to the next answer to a payment at this front node.
///
/// Counted are HTLCs for the virtual node that the dead replica cannot have answered: locked in after the
/// kill, or offered a second time, to its successor. Forwards do not count: they need no decision.
#[must_use]
pub fn failover_ms(kill: &Kill, lnd: &LndView) -> Option<u64> {
    lnd.htlcs
        .iter()
        .filter(|htlc| htlc.added_unix_ms >= kill.unix_ms || htlc.offers > 1)
        .flat_map(|htlc| &htlc.answers)
        .filter(|answer| matches!(answer.action.as_str(), "SETTLE" | "FAIL") && answer.error.is_empty())
        .filter(|answer| answer.unix_ms > kill.unix_ms)
        .map(|answer| answer.unix_ms - kill.unix_ms)
        .min()
}

/// Of a sorted list, by the nearest rank; 0 of an empty one.
#[must_use]
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_proto::lndsim::v1::{ClientAnswer, HtlcEntry};

    fn lnd(htlcs: Vec<HtlcEntry>) -> LndView {
        LndView { alias: "alice".into(), node: NodePubkey([2; 33]), htlcs, complaints: Vec::new() }
    }

    fn htlc(added: u64, offers: u32, action: &str, at: u64) -> HtlcEntry {
        let answer = ClientAnswer { action: action.into(), unix_ms: at, ..ClientAnswer::default() };
        HtlcEntry { added_unix_ms: added, offers, answers: vec![answer], ..HtlcEntry::default() }
    }

    #[test]
    fn only_answers_that_the_dead_replica_cannot_have_given_count() {
        let kill =
            Kill { replica: "replica-1".into(), role: "leader".into(), unix_ms: 100, concerned: Vec::new() };
        let late_answer_of_the_dead = htlc(90, 1, "SETTLE", 101);
        let forward = htlc(105, 1, "RESUME", 106);
        let replayed = htlc(90, 2, "SETTLE", 180);
        let new = htlc(120, 1, "FAIL", 170);
        let books = lnd(vec![late_answer_of_the_dead, forward, replayed, new]);
        assert_eq!(failover_ms(&kill, &books), Some(70));
        assert_eq!(failover_ms(&kill, &lnd(Vec::new())), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 95), 7);
        assert_eq!(percentile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 95), 4);
    }
}

use super::load::Client;
use crate::sim::coverage::Condition;
use crate::sim::time::SimTime;
use mux_raft::consensus::Consensus as _;
use mux_raft::types::LogIndex;
use std::collections::BTreeMap;

/// How far the log was known to reach by what applications were told, and when.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(BTreeMap<SimTime, LogIndex>);

impl Acknowledged {
    /// At this time somebody was told of this entry. Hosts take turns, so that times may come out of order.
    pub(super) fn add(&mut self, at: SimTime, index: LogIndex) {
        let reached = self.before(at + std::time::Duration::from_millis(1));
        if index > reached {
            self.0.insert(at, index);
            self.0.retain(|time, known| *time <= at || *known > index);
        }
    }

    /// The last entry that somebody was told of before this time.
    pub(super) fn before(&self, time: SimTime) -> LogIndex {
        self.0.range(..time).next_back().map_or(0, |(_, index)| *index)
    }
}

impl Client {
    /// A linearizable read sees whatever anybody was told before it began.
    pub(super) async fn read(&mut self) {
        let began = self.port.now();
        let Ok(index) = self.replica.read_barrier().await else { return };
        if self.port.is_cut() {
            return;
        }
        let applied = self.replica.state().read(|state| state.applied().index);
        let (id, leads) = {
            let status = self.replica.status();
            let status = status.borrow();
            (status.id, status.leads)
        };
        if !leads {
            self.coverage.met(Condition::ReadByFollower);
        }
        let acknowledged = self.book.reaches_before(began);
        if index.min(applied) < acknowledged {
            self.book.wrong(format!(
                "a read at replica {id} that began at {began} saw entries up to {}, and {acknowledged} had been \
                 acknowledged before",
                index.min(applied)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_before_a_time_is_known_whatever_the_order_in_which_it_was_told() {
        let at = SimTime::from_ms;
        let mut known = Acknowledged::default();
        assert_eq!(known.before(at(100)), 0);
        for (ms, index) in [(10, 5), (20, 9), (15, 7), (18, 6), (30, 8), (5, 20)] {
            known.add(at(ms), index);
        }
        for (ms, index) in [(5, 0), (6, 20), (10, 20), (11, 20), (40, 20)] {
            assert_eq!(known.before(at(ms)), index, "before {ms}");
        }
        let mut known = Acknowledged::default();
        for (ms, index) in [(20, 9), (10, 5), (15, 7)] {
            known.add(at(ms), index);
        }
        for (ms, index) in [(10, 0), (11, 5), (15, 5), (16, 7), (20, 7), (21, 9)] {
            assert_eq!(known.before(at(ms)), index, "before {ms}");
        }
    }
}

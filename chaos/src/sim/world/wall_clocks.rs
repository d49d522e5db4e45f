//! Log time by the true time: no clock that is wrong alone moves it.

use crate::sim::host::HostClock;
use crate::sim::time::SimTime;
use mux_raft::types::LogTimeMs;

/// Clocks within this of each other agree, so the one that is followed may be ahead of the others of its majority by so much.
const AGREE_MS: i64 = 10_000;
/// Log time follows a clock that is near to it by so much of the time that passes: one part in so many.
const SLEW: u64 = 20;
/// What messages and ticks take.
const LATE_MS: i64 = 1_000;

/// How wrong wall clocks have been.
#[derive(Debug)]
pub(super) struct WallClocks {
    /// By replica: how far its clock was ahead at most, milliseconds.
    ahead_ms: Vec<i64>,
    /// The fewest voters that there were.
    voters: usize,
}

impl WallClocks {
    /// All are right.
    pub(super) fn new(replicas: usize) -> Self {
        Self { ahead_ms: vec![0; replicas], voters: replicas }
    }

    /// A clock is ahead by this much at the moment.
    pub(super) fn shows(&mut self, at: usize, ahead_ms: i64) {
        if let Some(most) = self.ahead_ms.get_mut(at) {
            *most = ahead_ms.max(*most);
        }
    }

    /// There are so many voters at the moment.
    pub(super) fn votes(&mut self, voters: usize) {
        if voters > 0 {
            self.voters = voters.min(self.voters);
        }
    }

    /// What is wrong with a log time.
    pub(super) fn judge(&self, now: SimTime, time_ms: LogTimeMs) -> Option<String> {
        let most = self.majority_ahead_ms();
        let followed = i64::try_from(now.as_ms() / SLEW).unwrap_or(i64::MAX);
        let bound = most.saturating_add(AGREE_MS).saturating_add(LATE_MS).saturating_add(followed);
        let latest = HostClock::wall_at(now).saturating_add_signed(bound);
        (time_ms > latest).then(|| {
            let ahead = time_ms.saturating_sub(HostClock::wall_at(now));
            format!(
                "log time is {ahead} ms ahead, and no majority of the clocks ever was by more than {most} ms"
            )
        })
    }

    /// By how much a majority was ahead, at once or one after the other.
    fn majority_ahead_ms(&self) -> i64 {
        let mut sorted = self.ahead_ms.clone();
        sorted.sort_unstable_by(|one, other| other.cmp(one));
        sorted.get(self.voters / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_wrong_alone_moves_nothing_and_a_majority_does() {
        let now = SimTime::ZERO + Duration::from_secs(20);
        let log_time = |ahead_ms: u64| HostClock::wall_at(now) + ahead_ms;
        let mut clocks = WallClocks::new(3);
        clocks.shows(0, 3_600_000);
        clocks.shows(1, -3_600_000);
        // 10 s that clocks may differ by, 1 s for messages, a twentieth of 20 s.
        assert_eq!(clocks.judge(now, log_time(12_000)), None);
        let told = clocks.judge(now, log_time(12_001)).unwrap();
        assert!(told.starts_with("log time is 12001 ms ahead"), "{told}");
        clocks.shows(2, 60_000);
        clocks.shows(2, 0);
        assert_eq!(clocks.judge(now, log_time(72_000)), None, "two of three were ahead");
        assert!(clocks.judge(now, log_time(72_001)).is_some());
        clocks.votes(1);
        assert_eq!(clocks.judge(now, log_time(3_600_000)), None, "one voter is a majority");
    }
}

use crate::mutant::{Mutant, planted};
use crate::types::{LogTimeMs, ReplicaId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Wall clocks within this of each other agree.
const AGREE_MS: u64 = 10_000;
/// A greater difference between log time and wall clock is closed only if a majority of wall clocks agree.
const STEP_MS: u64 = 30_000;
/// A small difference is closed over about this time ...
const SLEW_OVER_MS: i64 = 10_000;
/// ... but log time never runs faster or slower than real time by more than this.
const SLEW_MAX_PPM: i64 = 50_000;
/// Log time cannot run back. When it is far ahead of clocks that agree, it runs at half speed until they have
/// caught up; if it stood still, no timer would fire.
const WAIT_PPM: i64 = -500_000;
const MILLION: i64 = 1_000_000;
/// Before this (September 2001) log time is none yet: the log is new.
const PLAUSIBLE_MS: LogTimeMs = 1_000_000_000_000;

/// The leader's log time. One is made for each term it leads.
#[derive(Clone, Debug)]
pub struct LogClock {
    anchor_ms: LogTimeMs,
    anchored_at: Duration,
    rate_ppm: i64,
    last_stamp_ms: LogTimeMs,
    judged: bool,
}

/// How this replica's wall clock stands among all voters'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// A majority of the voters, this one among them, agree.
    Majority,
    /// A majority agree, without this one: its clock is wrong, and it should not lead.
    Outvoted,
    /// Too few clocks are known, or no majority agrees.
    Unknown,
}

/// What a comparison of the clocks gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How this replica's clock stands.
    pub agreement: Agreement,
    /// Log time was set forward by this much at once.
    pub stepped_ms: Option<u64>,
    /// Replicas whose clocks differ from this one's.
    pub differ: Vec<ReplicaId>,
}

impl LogClock {
    /// Goes on from the last log time that is known.
    #[must_use]
    pub fn new(last_log_time_ms: LogTimeMs, now: Duration) -> Self {
        Self {
            anchor_ms: last_log_time_ms,
            anchored_at: now,
            rate_ppm: 0,
            last_stamp_ms: last_log_time_ms,
            judged: false,
        }
    }

    /// Takes note of a log time that was applied: log time is at least that.
    pub fn observe(&mut self, log_time_ms: LogTimeMs, now: Duration) {
        if log_time_ms > self.at(now) {
            self.anchor(log_time_ms, now);
        }
        self.last_stamp_ms = self.last_stamp_ms.max(log_time_ms);
    }

    /// Log time, without stamping anything.
    #[must_use]
    pub fn at(&self, now: Duration) -> LogTimeMs {
        let elapsed = now.saturating_sub(self.anchored_at);
        let elapsed_us = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX / MILLION);
        let slewed_us = elapsed_us.saturating_add(
            elapsed_us.saturating_mul(self.rate_ppm).checked_div(MILLION).unwrap_or_default(),
        );
        let advanced_ms = u64::try_from(slewed_us).unwrap_or(0).checked_div(1_000).unwrap_or_default();
        self.anchor_ms.saturating_add(advanced_ms).max(self.last_stamp_ms)
    }

    /// The time for the next entry, or `None` as long as there is no telling: log time and this wall clock
    /// are far apart and the others have not been heard, or the log is new and no majority agrees.
    pub fn stamp(&mut self, now: Duration, own_wall_ms: u64) -> Option<LogTimeMs> {
        let time_ms = self.at(now);
        let near = own_wall_ms.abs_diff(time_ms) <= STEP_MS;
        if !near && (!self.judged || time_ms < PLAUSIBLE_MS) {
            return None;
        }
        self.last_stamp_ms = time_ms;
        Some(time_ms)
    }

    /// Compares this replica's wall clock with those of the other voters (`None`: not known), and sets the
    /// pace, or the time, accordingly.
    pub fn judge(
        &mut self,
        now: Duration,
        own_wall_ms: u64,
        others: &BTreeMap<ReplicaId, Option<u64>>,
    ) -> Judgement {
        let agreement =
            if planted(Mutant::TimeOfOne) { Agreement::Majority } else { agreement(own_wall_ms, others) };
        let log_ms = self.at(now);
        let behind_ms = own_wall_ms.saturating_sub(log_ms);
        let ahead_ms = log_ms.saturating_sub(own_wall_ms);
        let mut stepped_ms = None;
        let small = behind_ms.max(ahead_ms) <= STEP_MS;
        let rate_ppm = match agreement {
            Agreement::Outvoted => 0,
            Agreement::Majority | Agreement::Unknown if small => slew_ppm(behind_ms, ahead_ms),
            Agreement::Unknown => 0,
            Agreement::Majority if ahead_ms > 0 => WAIT_PPM,
            Agreement::Majority => {
                stepped_ms = Some(behind_ms);
                0
            }
        };
        self.anchor(log_ms.saturating_add(stepped_ms.unwrap_or(0)), now);
        self.rate_ppm = rate_ppm;
        self.judged = true;
        let differ = others
            .iter()
            .filter(|(_, wall)| wall.is_some_and(|wall| !agree(wall, own_wall_ms)))
            .map(|(id, _)| *id)
            .collect();
        Judgement { agreement, stepped_ms, differ }
    }

    fn anchor(&mut self, log_ms: LogTimeMs, now: Duration) {
        self.anchor_ms = log_ms;
        self.anchored_at = now;
    }
}

fn agree(one_ms: u64, other_ms: u64) -> bool {
    one_ms.abs_diff(other_ms) <= AGREE_MS
}

fn agreement(own_ms: u64, others: &BTreeMap<ReplicaId, Option<u64>>) -> Agreement {
    let voters = others.len().saturating_add(1);
    let majority = voters / 2 + 1;
    let known: Vec<u64> = others.values().flatten().copied().chain([own_ms]).collect();
    let agreeing = |with: u64| known.iter().filter(|wall| agree(**wall, with)).count();
    if agreeing(own_ms) >= majority {
        Agreement::Majority
    } else if known.iter().any(|wall| !agree(*wall, own_ms) && agreeing(*wall) >= majority) {
        Agreement::Outvoted
    } else {
        Agreement::Unknown
    }
}

/// The pace that closes a small difference.
fn slew_ppm(behind_ms: u64, ahead_ms: u64) -> i64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / MILLION);
    let error_ms = signed(behind_ms).saturating_sub(signed(ahead_ms));
    let ppm = error_ms.saturating_mul(MILLION).checked_div(SLEW_OVER_MS).unwrap_or_default();
    ppm.clamp(-SLEW_MAX_PPM, SLEW_MAX_PPM)
}

#[cfg(test)]
mod tests;

use crate::clock::{Agreement, Clock, Judgement, LogClock};
use crate::types::{LogTimeMs, ReplicaId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keeps the log clock of the term that this replica leads.
pub(crate) struct TimeKeeper {
    clock: Arc<dyn Clock>,
    term: Mutex<Option<TermClock>>,
}

#[derive(Debug)]
struct TermClock {
    term: u64,
    clock: LogClock,
    stamped_at: Option<Duration>,
    outvoted: u32,
}

impl TimeKeeper {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, term: Mutex::new(None) }
    }

    /// This replica's wall clock.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    /// Log time for an entry of this term; see [`LogClock::stamp`]. `applied_ms` is the state's log time.
    pub(crate) fn stamp(&self, term: u64, applied_ms: LogTimeMs) -> Option<LogTimeMs> {
        let (now, wall_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let mut guard = self.term.lock();
        let current = Self::of_term(&mut guard, term, applied_ms, now);
        current.clock.observe(applied_ms, now);
        let stamp = current.clock.stamp(now, wall_ms)?;
        current.stamped_at = Some(now);
        Some(stamp)
    }

    /// Compares the wall clocks. Also says how many times in a row this replica was outvoted.
    pub(crate) fn judge(
        &self,
        term: u64,
        applied_ms: LogTimeMs,
        others: &BTreeMap<ReplicaId, Option<u64>>,
    ) -> (Judgement, u32) {
        let (now, wall_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let mut guard = self.term.lock();
        let current = Self::of_term(&mut guard, term, applied_ms, now);
        current.clock.observe(applied_ms, now);
        let judgement = current.clock.judge(now, wall_ms, others);
        current.outvoted = match judgement.agreement {
            Agreement::Outvoted => current.outvoted.saturating_add(1),
            Agreement::Majority | Agreement::Unknown => 0,
        };
        (judgement, current.outvoted)
    }

    /// Whether no entry of this term was stamped within this time.
    pub(crate) fn idle_for(&self, term: u64, time: Duration) -> bool {
        let now = self.clock.monotonic();
        let guard = self.term.lock();
        guard
            .as_ref()
            .filter(|current| current.term == term)
            .and_then(|current| current.stamped_at)
            .is_none_or(|stamped_at| now.saturating_sub(stamped_at) >= time)
    }

    fn of_term(
        guard: &mut Option<TermClock>,
        term: u64,
        applied_ms: LogTimeMs,
        now: Duration,
    ) -> &mut TermClock {
        if guard.as_ref().is_some_and(|current| current.term != term) {
            *guard = None;
        }
        guard.get_or_insert_with(|| TermClock {
            term,
            clock: LogClock::new(applied_ms, now),
            stamped_at: None,
            outvoted: 0,
        })
    }
}

use super::logs::Logs;
use super::replica_host::{ReplicaHost, Seen};
use super::wall_clocks::WallClocks;
use crate::sim::coverage::{Condition, Coverage};
use crate::sim::disk::LogNews;
use crate::sim::panics;
use crate::sim::time::SimTime;
use crate::sim::trace::Trace;
use mux_raft::consensus::{Consensus as _, RaftStatus};
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::machine::{LogPosition, State};
use mux_raft::types::{LogIndex, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What must hold at every moment, and whether it did.
#[derive(Debug)]
pub(super) struct Watch {
    replicas: Vec<Known>,
    logs: Logs,
    clocks: WallClocks,
    /// The greatest election timeout.
    election: Duration,
    leaders: BTreeMap<u64, ReplicaId>,
    /// The state after an entry, as the first replica had it that was seen there.
    states: BTreeMap<LogIndex, ([u8; 32], ReplicaId)>,
    healing_since: Option<SimTime>,
    healed_in_ms: Option<u64>,
    violations: Vec<String>,
}

/// What was seen of a replica last.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    term: u64,
    led: bool,
    applied: LogIndex,
    last_log_index: LogIndex,
    committed: LogIndex,
    snapshot: LogIndex,
    purged: LogIndex,
    level: u16,
}

impl Watch {
    /// `election`: the greatest timeout of one, what takes longer is noticed.
    pub(super) fn new(replicas: usize, election: Duration) -> Self {
        Self {
            replicas: vec![Known::default(); replicas],
            logs: Logs::new(replicas),
            clocks: WallClocks::new(replicas),
            election,
            leaders: BTreeMap::new(),
            states: BTreeMap::new(),
            healing_since: None,
            healed_in_ms: None,
            violations: Vec::new(),
        }
    }

    pub(super) fn is_fine(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn violated(&mut self, at: SimTime, text: String) {
        self.violations.push(format!("at {at}: {text}"));
    }

    pub(super) fn into_violations(self) -> Vec<String> {
        self.violations
    }

    /// Terms that had a leader.
    pub(super) fn terms(&self) -> u64 {
        u64::try_from(self.leaders.len()).unwrap_or(u64::MAX)
    }

    /// The last entry that anybody applied.
    pub(super) fn entries(&self) -> u64 {
        self.states.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// When the first of these entries was in a log first.
    pub(super) fn first_durable(&self, entries: RangeInclusive<LogIndex>) -> Option<SimTime> {
        self.logs.first_durable(entries)
    }

    /// The state that the log makes, read from its first entry on up to this one.
    pub(super) fn replay(&self, upto: LogPosition) -> Result<State, String> {
        self.logs.replay(upto)
    }

    pub(super) fn healed_in_ms(&self) -> Option<u64> {
        self.healed_in_ms
    }

    /// Nothing is wrong any more from now on.
    pub(super) fn heals(&mut self, now: SimTime) {
        self.healing_since = Some(now);
    }

    /// All have converged.
    pub(super) fn healed(&mut self, now: SimTime) {
        let since = self.healing_since.map(|since| now.since(since).as_millis());
        self.healed_in_ms = since.and_then(|ms| u64::try_from(ms).ok());
    }

    /// It has lost its disk, with all that it knew.
    pub(super) fn wiped(&mut self, at: usize) {
        if let Some(known) = self.replicas.get_mut(at) {
            *known = Known::default();
        }
    }

    /// What a replica knew is gone with its process, but for its term, as far as it was durable.
    pub(super) fn process_ended(&mut self, at: usize) {
        if let Some(known) = self.replicas.get_mut(at) {
            *known = Known { term: self.logs.term_of(at), ..Known::default() };
        }
    }

    /// Looks at everything that has changed.
    pub(super) fn look(
        &mut self,
        now: SimTime,
        hosts: &mut [ReplicaHost],
        trace: &Trace,
        coverage: &Coverage,
    ) {
        if let Some(panic) = panics::take() {
            self.violated(now, format!("something panicked: {panic}"));
        }
        for (at, host) in hosts.iter().enumerate() {
            let news = host.disk().take_news();
            let is_slow = |one: &&LogNews| matches!(one, LogNews::SyncTook(took) if *took > self.election);
            let slow = news.iter().filter(is_slow).count();
            coverage.met_times(Condition::DiskSlow, u64::try_from(slow).unwrap_or(u64::MAX));
            self.logs.look_at(now, at, host.id(), news);
            self.clocks.shows(at, host.wall_offset_ms());
        }
        for (at, host) in hosts.iter_mut().enumerate() {
            let (id, column) = (host.id(), host.column());
            let (host_level, upgraded) = (host.feature_level_max(), host.was_upgraded());
            let Some(seen) = host.seen() else { continue };
            let Some(mut known) = self.replicas.get(at).copied() else { continue };
            let before = known;
            if seen.status.has_changed().unwrap_or(false) {
                let status = seen.status.borrow_and_update().clone();
                self.look_at_status(now, (at, id), &status, &mut known);
            }
            if seen.applied.has_changed().unwrap_or(false) {
                if self.look_at_level(now, id, (seen, host_level), &mut known) {
                    coverage.met_times(Condition::LevelRose, u64::from(upgraded));
                    trace.event(now, column, format_args!("feature level {}", known.level));
                }
                let hash = self.look_at_state(now, id, seen, &mut known);
                trace.digest(now, column, &[b"applied", &known.applied.to_be_bytes(), &hash]);
            }
            if known.snapshot > before.last_log_index && before.last_log_index > 0 {
                coverage.met(Condition::SnapshotInstalled);
                trace.event(now, column, format_args!("has installed a snapshot of {}", known.snapshot));
            }
            if known.led != before.led {
                let what = if known.led { "leads" } else { "leads no more" };
                trace.event(now, column, format_args!("{what}, term {}", known.term));
            }
            self.replicas[at] = known;
        }
        self.logs.look_at_committed();
        for problem in self.logs.take_problems() {
            self.violated(now, problem);
        }
    }

    fn look_at_status(
        &mut self,
        now: SimTime,
        (at, id): (usize, ReplicaId),
        status: &RaftStatus,
        known: &mut Known,
    ) {
        // A process begins with a status that says nothing.
        if status.members.is_empty() {
            return;
        }
        self.clocks.votes(status.members.values().filter(|member| member.voter).count());
        let (term, leads) = (status.term, status.leads);
        let (committed, last) = (status.committed, status.last_log_index);
        let (snapshot, purged) = (status.snapshot, status.purged);
        if term < known.term {
            self.violated(now, format!("replica {id} went back from term {} to {term}", known.term));
        }
        // A status says of no log that it ends before what is committed; whether what is committed is on the disks is judged
        // by what is on the disks.
        if purged > snapshot || snapshot > committed {
            let ends = format!("purged {purged}, snapshot {snapshot}, committed {committed}");
            self.violated(now, format!("replica {id} has its log in disorder: {ends}"));
        }
        for (what, before, is) in [
            ("committed", known.committed, committed),
            ("snapshot", known.snapshot, snapshot),
            ("purged", known.purged, purged),
        ] {
            if is < before {
                self.violated(now, format!("replica {id} went back from {what} {before} to {is}"));
            }
        }
        if leads {
            let is_new = !self.leaders.contains_key(&term);
            let leader = *self.leaders.entry(term).or_insert(id);
            if leader != id {
                self.violated(now, format!("replicas {leader} and {id} both lead in term {term}"));
            }
            if is_new {
                self.logs.leads(at, term);
            }
        }
        (known.term, known.led) = (term, leads);
        (known.last_log_index, known.committed) = (last, committed);
        (known.snapshot, known.purged) = (snapshot, purged);
    }

    fn look_at_state(&mut self, now: SimTime, id: ReplicaId, seen: &mut Seen, known: &mut Known) -> [u8; 32] {
        seen.applied.borrow_and_update();
        let read = |state: &State| (state.applied(), state.chain_hash(), state.time_ms());
        let (at, hash, time_ms) = seen.replica.state().read(read);
        if let Some(wrong) = self.clocks.judge(now, time_ms) {
            self.violated(now, format!("replica {id}: {wrong}"));
        }
        self.logs.applied(id, at);
        self.applies(now, id, (at.index, hash), known);
        hash
    }

    fn applies(
        &mut self,
        now: SimTime,
        id: ReplicaId,
        (index, hash): (LogIndex, [u8; 32]),
        known: &mut Known,
    ) {
        if index < known.applied {
            self.violated(now, format!("replica {id} went back from entry {} to {index}", known.applied));
        }
        known.applied = index;
        let (first, who) = *self.states.entry(index).or_insert((hash, id));
        if first != hash {
            self.violated(now, format!("replicas {who} and {id} differ after entry {index}"));
        }
    }

    /// Whether the feature level rose. Nobody may be left behind by it.
    fn look_at_level(
        &mut self,
        now: SimTime,
        id: ReplicaId,
        (seen, knows): (&Seen, u16),
        known: &mut Known,
    ) -> bool {
        let level = seen.replica.state().read(State::feature_level);
        if level > knows {
            self.violated(now, format!("replica {id} is at feature level {level} and knows up to {knows}"));
        }
        let rose = known.level > 0 && level > known.level;
        known.level = level;
        rose
    }

    /// Whether all run, have one leader, and have applied the same; otherwise what is missing.
    pub(super) fn converged(&self, hosts: &[ReplicaHost]) -> Result<(), String> {
        let mut positions = Vec::new();
        let mut leader = None;
        let ids: BTreeSet<ReplicaId> = hosts.iter().map(ReplicaHost::id).collect();
        for host in hosts {
            let id = host.id();
            let seen = host.replica().ok_or_else(|| format!("replica {id} does not run"))?;
            let status = seen.status.borrow();
            if !status.quorum || status.leader.is_none() {
                return Err(format!("replica {id} has no leader"));
            }
            let first = *leader.get_or_insert(status.leader);
            if first != status.leader {
                return Err(format!("replica {id} follows {:?}, another {first:?}", status.leader));
            }
            if !status.members.iter().all(|(_, member)| member.voter)
                || !status.members.keys().copied().eq(ids.iter().copied())
            {
                return Err(format!("replica {id} knows the members {:?}", status.members.keys()));
            }
            if status.feature_level < COMMAND_FORMAT {
                return Err(format!("replica {id} is at feature level {}", status.feature_level));
            }
            let state = seen.replica.state();
            let (applied, hash) = state.read(|state| (state.applied(), state.chain_hash()));
            // What a former leader acknowledged in its last moment, when nobody looked, is committed by one of this term's own.
            if applied.term != status.term {
                return Err(format!("replica {id} has applied nothing of term {}", status.term));
            }
            positions.push((applied.index, hash));
        }
        let once = self.entries();
        match positions.first() {
            Some((index, _)) if *index < once => {
                Err(format!("entry {once} was applied once, and now {index} is the last"))
            }
            Some(first) if positions.iter().any(|other| other != first) => {
                let indices: Vec<u64> = positions.iter().map(|(index, _)| *index).collect();
                Err(format!("the replicas have applied up to {indices:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

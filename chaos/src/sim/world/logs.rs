//! Raft's promises about logs and votes, held against what is durable on the disks: replicas say what is committed and who
//! leads, the disks say whether they may.
//!
//! * Two logs that have an entry of the same index and term have the same entry there, and the same before it.
//! * What is committed is durable at a quorum of those who vote when it is first heard of, is the same for all, is replaced by
//!   no later term, and is deleted only when a snapshot has it.
//! * Who leads has everything that was committed in earlier terms, and its vote and those of a quorum are durable.
//! * A durable vote does not go back, and comes before entries of its term.
//!
//! `disk`: one log, by what was synced. `replay`: the log read again, from its first entry on.

mod disk;
mod replay;

use crate::sim::disk::LogNews;
use crate::sim::time::SimTime;
use bytes::Bytes;
use disk::LogView;
use mux_raft::machine::LogPosition;
use mux_raft::store::{Change, Inspected, InspectedMark};
use mux_raft::types::{LogIndex, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// One set of voters, or the old and the new one.
type Voters = Vec<BTreeSet<ReplicaId>>;

/// What is durable where, and what must stay so.
#[derive(Debug, Default)]
pub(super) struct Logs {
    disks: Vec<LogView>,
    /// Of replicas that had been heard when they lost them.
    lost: Vec<LogView>,
    /// Every entry that was ever durable anywhere, and the term of the one before it where that was known.
    entries: BTreeMap<(LogIndex, u64), (Bytes, Option<u64>)>,
    /// When each of them was durable first.
    since: BTreeMap<(LogIndex, u64), SimTime>,
    now: SimTime,
    /// Those of them that say who votes.
    voters: BTreeMap<(LogIndex, u64), Voters>,
    /// By index, without holes.
    committed: Vec<Committed>,
    /// What disks say, and is to be held against all of them.
    heard: Vec<(ReplicaId, LogPosition)>,
    problems: Vec<String>,
}

/// What is known of an entry that is committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    /// Its term. None: nobody has it any more but in snapshots.
    term: Option<u64>,
    /// Nobody has voted in a later term than this when it was first heard to be committed: leaders of later terms have it, and
    /// one of an earlier term than the leader that committed it may have had another there (the Raft paper, figure 8).
    known_in: u64,
}

/// What a change says.
#[derive(Debug)]
enum Noted {
    Entry(Inspected, Bytes),
    Deleted(LogIndex),
    Mark(InspectedMark),
}

impl Noted {
    fn read(change: Change) -> Result<Self, String> {
        let noted = match change {
            Change::Put(record) => Inspected::read(&record).map(|entry| Self::Entry(entry, record.bytes)),
            Change::Delete { index, .. } => Ok(Self::Deleted(index)),
            Change::Mark(mark, bytes) => InspectedMark::read(mark, &bytes).map(Self::Mark),
        };
        noted.map_err(|error| error.to_string())
    }
}

/// Whether these are a majority of each set.
fn is_quorum<'a>(
    mut sets: impl Iterator<Item = &'a BTreeSet<ReplicaId>>,
    has: impl Fn(ReplicaId) -> bool,
) -> bool {
    sets.all(|set| set.iter().filter(|id| has(**id)).count() * 2 > set.len())
}

fn words(at: LogPosition) -> String {
    format!("entry {} of term {}", at.index, at.term)
}

impl Logs {
    pub(super) fn new(replicas: usize) -> Self {
        Self { disks: vec![LogView::default(); replicas], ..Self::default() }
    }

    /// What was wrong since this was asked last.
    pub(super) fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// The term that a disk knows: nobody who reads it may be in an earlier one.
    pub(super) fn term_of(&self, at: usize) -> u64 {
        self.disks.get(at).map_or(0, |disk| disk.vote.term)
    }

    /// What became of a replica's disk.
    pub(super) fn look_at(&mut self, now: SimTime, at: usize, id: ReplicaId, news: Vec<LogNews>) {
        self.now = now;
        let Some(mut disk) = self.disks.get_mut(at).map(std::mem::take) else { return };
        if disk.id == 0 {
            disk.id = id;
        }
        for news in news {
            match news {
                LogNews::SyncTook(_) => {}
                LogNews::Wiped => self.lost.push(std::mem::replace(&mut disk, LogView::of(id))),
                LogNews::Synced(changes) => {
                    for change in changes {
                        let noted = Noted::read(change).and_then(|noted| self.note(&mut disk, noted));
                        if let Err(problem) = noted {
                            self.problems.push(format!("the log of replica {id}: {problem}"));
                        }
                    }
                }
            }
        }
        self.disks[at] = disk;
    }

    fn note(&mut self, disk: &mut LogView, noted: Noted) -> Result<(), String> {
        match noted {
            Noted::Entry(entry, bytes) => self.put(disk, entry, bytes),
            Noted::Deleted(index) => match disk.delete(index) {
                Some(term) if self.committed_at(index) == Some(term) => {
                    Err(format!("{} is committed, and is deleted", words(LogPosition { term, index })))
                }
                _ => Ok(()),
            },
            Noted::Mark(InspectedMark::Vote(vote)) => disk.vote(vote),
            Noted::Mark(InspectedMark::Committed(at)) => {
                self.heard.extend(at.map(|at| (disk.id, at)));
                Ok(())
            }
            Noted::Mark(InspectedMark::Purged(at)) => {
                self.heard.extend(at.map(|at| (disk.id, at)));
                at.map_or(Ok(()), |at| disk.purge(at))
            }
            Noted::Mark(InspectedMark::Probation) => Ok(()),
        }
    }

    fn put(
        &mut self,
        disk: &mut LogView,
        Inspected { at, voters }: Inspected,
        bytes: Bytes,
    ) -> Result<(), String> {
        let before = disk.put(at)?;
        if let Some(Committed { term: Some(committed), known_in }) = self.committed_in(at.index)
            && committed < at.term
            && known_in < at.term
        {
            return Err(format!("{} stands where one of term {committed} is committed", words(at)));
        }
        self.voters.extend(voters.map(|voters| ((at.index, at.term), voters)));
        self.since.entry((at.index, at.term)).or_insert(self.now);
        let (first, term_before) =
            self.entries.entry((at.index, at.term)).or_insert_with(|| (bytes.clone(), before));
        if *first != bytes {
            return Err(format!("{} is not what others have there", words(at)));
        }
        match (*term_before, before) {
            (Some(theirs), Some(here)) if theirs != here => {
                Err(format!("before {} stands one of term {here}, elsewhere of {theirs}", words(at)))
            }
            (None, Some(here)) => {
                *term_before = Some(here);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// When the first of these entries was durable somewhere, as far as it is committed.
    pub(super) fn first_durable(&self, entries: RangeInclusive<LogIndex>) -> Option<SimTime> {
        let times = self.since.range((*entries.start(), 0)..=(*entries.end(), u64::MAX));
        times.filter(|(at, _)| self.is_committed(**at)).map(|(_, time)| *time).min()
    }

    fn committed_in(&self, index: LogIndex) -> Option<Committed> {
        self.committed.get(usize::try_from(index).ok()?).copied()
    }

    fn committed_at(&self, index: LogIndex) -> Option<u64> {
        self.committed_in(index)?.term
    }

    fn is_committed(&self, (index, term): (LogIndex, u64)) -> bool {
        self.committed_at(index) == Some(term)
    }

    /// A replica has applied an entry, with all before it.
    pub(super) fn applied(&mut self, id: ReplicaId, at: LogPosition) {
        if at.index > 0 {
            self.heard.push((id, at));
        }
    }

    /// Holds what was heard to be committed against the disks, once all of them have been looked at.
    pub(super) fn look_at_committed(&mut self) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_by_key(|(_, at)| at.index);
        for (id, at) in heard {
            if let Err(problem) = self.commit(id, at) {
                self.problems.push(problem);
                return;
            }
        }
    }

    fn commit(&mut self, id: ReplicaId, at: LogPosition) -> Result<(), String> {
        loop {
            let next = u64::try_from(self.committed.len()).unwrap_or(u64::MAX);
            if next > at.index {
                break;
            }
            let term = self.term_at_a_quorum(next).map_err(|have| {
                format!("replica {id} says that {} is committed, and {next} is durable at {have}", words(at))
            })?;
            // With the entry that was named, if none but snapshots have it.
            let term = term.or_else(|| (next == at.index).then_some(at.term));
            let known_in = self.all_disks().map(|disk| disk.vote.term).max().unwrap_or(u64::MAX);
            self.committed.push(Committed { term, known_in });
        }
        match self.committed_at(at.index) {
            Some(term) if term != at.term => {
                Err(format!("replica {id} says that {} is committed, others one of term {term}", words(at)))
            }
            _ => Ok(()),
        }
    }

    /// Which entry a quorum has of an index. None: some of them in a snapshot, where it cannot be told.
    fn term_at_a_quorum(&self, index: LogIndex) -> Result<Option<u64>, String> {
        let terms: BTreeSet<u64> = self.all_disks().filter_map(|disk| disk.term_at(index)).collect();
        let durable = |has: &dyn Fn(&LogView, u64) -> bool| {
            terms.iter().copied().find(|term| self.is_durable((index, *term), |disk| has(disk, *term)))
        };
        if let Some(term) = durable(&|disk, term| disk.term_at(index) == Some(term)) {
            return Ok(Some(term));
        }
        let in_snapshots = |disk: &LogView| disk.has_purged(index);
        if self.is_durable((index, u64::MAX), in_snapshots)
            || durable(&|disk, term| disk.has(index, term)).is_some()
        {
            return Ok(None);
        }
        let has = |disk: &LogView| disk.term_at(index).map(|term| format!("{} (term {term})", disk.id));
        let have: Vec<String> = self.all_disks().filter_map(has).collect();
        Err(format!("[{}] alone", have.join(", ")))
    }

    /// Whether an entry is durable at a quorum of one of the memberships that may have been in force when it was committed:
    /// the last one up to it, or a later one that a leader had in its log already.
    fn is_durable(&self, (index, term): (LogIndex, u64), has: impl Fn(&LogView) -> bool) -> bool {
        let has = |id| self.all_disks().any(|disk| disk.id == id && has(disk));
        let own = self.voters.get(&(index, term));
        let earlier =
            || self.voters.range(..(index, 0)).rev().find(|(at, _)| self.is_committed(**at)).map(|(_, v)| v);
        let later = self.voters.range((index.saturating_add(1), 0)..).map(|(_, voters)| voters);
        if own.into_iter().chain(later).any(|voters| is_quorum(voters.iter(), has)) {
            return true;
        }
        // Once it is committed that two sets have to agree, the leader may have gone on to the second alone.
        own.is_none() && earlier().is_some_and(|voters| is_quorum(voters.last().into_iter(), has))
    }

    fn all_disks(&self) -> impl Iterator<Item = &LogView> {
        self.disks.iter().chain(&self.lost)
    }

    /// A replica is seen to lead in a term for the first time.
    pub(super) fn leads(&mut self, at: usize, term: u64) {
        let Some(disk) = self.disks.get(at) else { return };
        // Seen late: what is committed by now may be its successors' work.
        if self.all_disks().any(|other| other.vote.term > term) {
            return;
        }
        let id = disk.id;
        if disk.vote.term < term {
            let known = disk.vote.term;
            return self
                .problems
                .push(format!("replica {id} leads in term {term}, its disk knows of {known}"));
        }
        let committed = self.committed.iter().zip(0..).filter(|(entry, _)| entry.known_in < term);
        let committed = committed.filter_map(|(entry, index)| Some((index, entry.term?)));
        let mut missing = committed.filter(|(at, of)| !disk.has(*at, *of));
        let missing = missing.next().map(|(index, term)| LogPosition { term, index });
        let voted = |id| self.all_disks().any(|disk| disk.id == id && disk.vote.term >= term);
        let elected = self.electors(disk, term).is_none_or(|voters| is_quorum(voters.iter(), voted));
        if let Some(missing) = missing {
            let missing = words(missing);
            self.problems
                .push(format!("replica {id} leads in term {term} without {missing}, which is committed"));
        }
        if !elected {
            self.problems.push(format!("replica {id} leads in term {term} by votes that are not durable"));
        }
    }

    /// Who elected the owner of this log: by the last membership in it before its own term.
    fn electors(&self, disk: &LogView, term: u64) -> Option<&Voters> {
        let in_it = |(index, of): (LogIndex, u64)| {
            disk.term_at(index) == Some(of) || (disk.has_purged(index) && self.is_committed((index, of)))
        };
        self.voters.iter().rev().find(|(at, _)| at.1 < term && in_it(**at)).map(|(_, voters)| voters)
    }
}

#[cfg(test)]
mod tests;

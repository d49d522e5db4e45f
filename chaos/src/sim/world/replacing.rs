//! Members that come and go while all else goes on. A replica that loses its disk must be refused under its old id; then it
//! joins under a new one, and the old one is removed. Replicas that are well are removed, one after the other, and then
//! join again with empty disks and new ids.

use super::World;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::Condition;
use crate::sim::host::Ending;
use crate::sim::time::SimTime;
use mux_raft::consensus::Consensus as _;
use mux_raft::members::{MemberChange, MemberError, RefusalKind};
use mux_raft::types::{ReplicaId, StoreId};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// An operator who was told that it cannot be done now tries again after this time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// What a replica says that finds out that it has lost its disk.
const REFUSED: &str = "must join under a new id";
/// The same, once there is something on its new disk.
const REFUSED_LATE: &str = "its disk lost what was written";
/// Or once the log knows which disk it had, which it names after this.
const REFUSED_BOUND: &str = "is already used by another store (";

/// Of a replica that was removed and is not told: it finds out, and disturbs nobody.
const LINGERS_MS: std::ops::RangeInclusive<u64> = 0..=5_000;

/// What is under way, the first of them now. A lost disk is alone: otherwise what only the lost disks had would be gone.
#[derive(Debug, Default)]
pub(super) struct Replacing {
    queue: VecDeque<Replacement>,
    /// Ids given out beyond the first replicas'.
    given: u64,
    /// Replicas that lost their disks and were taken for new ones under their old ids.
    taken_back: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Replacement {
    at: usize,
    old: ReplicaId,
    new: ReplicaId,
    step: Step,
    next_try: SimTime,
    /// The log knew whose the lost disk was, so that nobody can be taken for its owner.
    enrolled: bool,
    /// It was removed before it joins again.
    was_removed: bool,
    /// What became of what an operator asked for. Gone with the process that was asked.
    asked: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is started with its old id and an empty disk.
    BeRefused,
    /// Its removal is asked for while it runs.
    Leave,
    /// It is removed, and still runs.
    Linger,
    Add,
    Promote,
    Remove,
}

type Answer = Arc<Mutex<Option<Result<(), String>>>>;

/// `at_once`: it has just begun on an empty disk. `was_taken_back`: it did before, and nobody remembered it then. `lost`: the
/// stores that it had.
fn tells_of_lost_disk(reason: &str, at_once: bool, was_taken_back: bool, lost: &[StoreId]) -> bool {
    if let Some((_, bound)) = reason.split_once(REFUSED_BOUND) {
        let had = lost.iter().any(|store| bound.starts_with(&format!("{};", store.short())));
        return had && (at_once || was_taken_back);
    }
    at_once && reason.contains(REFUSED) || was_taken_back && reason.contains(REFUSED_LATE)
}

impl Replacing {
    /// What is not finished yet.
    pub(super) fn finished(&self) -> Result<(), String> {
        match self.queue.front() {
            None => Ok(()),
            Some(now) => Err(format!("replica {} is replaced by {}: {:?}", now.old, now.new, now.step)),
        }
    }
}

impl World {
    /// A replica loses its disk.
    pub(super) fn wipe_one(&mut self) -> bool {
        if !self.replacing.queue.is_empty() || self.leader().is_none() {
            return false;
        }
        let Some(at) = self.any() else { return false };
        let (old, new) = (self.hosts[at].id(), self.next_id());
        let running = self.hosts.iter().filter_map(ReplicaHost::replica);
        let enrolled =
            running.filter(|seen| seen.replica.state().read(|state| state.store_of(old).is_some())).count()
                > 0;
        self.end_process(at, Ending::Killed);
        self.trace.event(self.now, self.hosts[at].column(), format_args!("loses its disk"));
        self.hosts[at].wipe();
        self.watch.wiped(at);
        let (step, next_try) = (Step::BeRefused, self.now);
        self.replacing.queue.push_back(Replacement {
            at,
            old,
            new,
            step,
            next_try,
            enrolled,
            was_removed: false,
            asked: None,
        });
        self.faults.starts_again(self.now, at);
        true
    }

    /// Replicas that run are removed, from five down to three, or one of fewer; the leader may be among them. Then they
    /// join again.
    pub(super) fn shrink(&mut self) -> bool {
        let all = self.hosts.len();
        let is_whole = (0..all).all(|at| self.hosts[at].is_up() && !self.hosts[at].is_paused());
        if !self.replacing.queue.is_empty() || self.leader().is_none() || !is_whole {
            return false;
        }
        let mut leaving: Vec<usize> = (0..all).collect();
        leaving.shuffle(self.faults.rng());
        leaving.truncate(all.saturating_sub(3).max(1));
        for at in leaving {
            let (old, new, next_try) = (self.hosts[at].id(), self.next_id(), self.now);
            let step = Step::Leave;
            self.trace.event(self.now, self.hosts[at].column(), format_args!("is to be removed"));
            let leaves =
                Replacement { at, old, new, step, next_try, enrolled: false, was_removed: true, asked: None };
            self.replacing.queue.push_back(leaves);
        }
        true
    }

    /// One that nobody has had.
    fn next_id(&mut self) -> ReplicaId {
        self.replacing.given += 1;
        u64::try_from(self.hosts.len()).unwrap_or(u64::MAX) + self.replacing.given
    }

    /// A replica stopped: whether it was right to, because it has lost its disk.
    pub(super) fn is_refused(&self, at: usize, reason: &str) -> bool {
        let now = self.replacing.queue.front();
        let at_once = now.is_some_and(|now| now.at == at && now.step == Step::BeRefused);
        // Who remembers it may have been out of reach when it was taken for a new one, and the entry that binds it to the
        // disk that it lost not committed yet.
        let was_taken_back = self.replacing.taken_back.contains(&self.hosts[at].id());
        tells_of_lost_disk(reason, at_once, was_taken_back, self.hosts[at].lost())
    }

    /// Then, its process being ended, it is to join under another id.
    pub(super) fn take_new_id(&mut self, at: usize) {
        let old = self.hosts[at].id();
        self.replacing.taken_back.remove(&old);
        let is_known =
            self.replacing.queue.front().is_some_and(|now| now.at == at && now.step == Step::BeRefused);
        if !is_known {
            let (new, step, next_try) = (self.next_id(), Step::BeRefused, self.now);
            self.replacing.queue.push_front(Replacement {
                at,
                old,
                new,
                step,
                next_try,
                enrolled: false,
                was_removed: false,
                asked: None,
            });
        }
        let Some(now) = self.replacing.queue.front_mut() else { return };
        (now.step, now.next_try) = (Step::Add, self.now);
        let new = now.new;
        self.coverage.met(Condition::WipedRefused);
        self.begin_as(at, new);
    }

    fn begin_as(&mut self, at: usize, new: ReplicaId) {
        self.trace.event(self.now, self.hosts[at].column(), format_args!("is to join as replica {new}"));
        self.hosts[at].become_another(new);
        self.faults.starts_again(self.now, at);
    }

    /// Does what an operator does who replaces a replica.
    pub(super) fn go_on_replacing(&mut self) {
        let Some(mut now) = self.replacing.queue.pop_front() else { return };
        let done = match now.step {
            Step::BeRefused => self.was_taken_back(&now),
            Step::Linger => self.end_if_removed(&mut now),
            Step::Leave | Step::Add | Step::Promote | Step::Remove => self.change_members(&mut now),
        };
        let others_leave = self.replacing.queue.iter().any(|other| other.step == Step::Leave);
        if now.step == Step::Add && now.asked.is_none() && others_leave {
            // First all of them leave.
            self.replacing.queue.push_back(now);
        } else if !done {
            self.replacing.queue.push_front(now);
        }
    }

    /// Whether the replica with the empty disk takes part under its old id. As long as the log does not know whose the disk
    /// was (before level 2, and in a cluster's or a member's first moments), one that nobody remembers is taken for a new one, which is
    /// safe: it votes only when it has all that the leader has.
    fn was_taken_back(&mut self, now: &Replacement) -> bool {
        let Some(seen) = self.hosts[now.at].replica() else { return false };
        let index = seen.replica.state().read(|state| state.applied().index);
        if index > 0 {
            self.replacing.taken_back.insert(now.old);
        }
        if index > 0 && now.enrolled {
            let old = now.old;
            let text = format!("replica {old} lost its disk and has applied entry {index} under its old id");
            self.watch.violated(self.now, text);
        }
        index > 0
    }

    /// One that is not a member any more is ended in the end, and begins anew.
    fn end_if_removed(&mut self, now: &mut Replacement) -> bool {
        if self.now < now.next_try {
            return false;
        }
        let (at, new) = (now.at, now.new);
        self.coverage.met_times(Condition::RemovedAlive, u64::from(self.hosts[at].is_up()));
        if self.hosts[at].is_up() {
            self.end_process(at, Ending::Killed);
        }
        self.watch.wiped(at);
        (now.step, now.next_try) = (Step::Add, self.now);
        self.begin_as(at, new);
        false
    }

    fn change_members(&mut self, now: &mut Replacement) -> bool {
        let answer = now.asked.as_ref().map(|asked| (asked.lock().take(), Arc::strong_count(asked)));
        match answer {
            // Still waited for.
            Some((None, owners)) if owners > 1 => return false,
            Some((Some(Ok(())), _)) => {
                now.asked = None;
                let id = now.new;
                self.trace.event(
                    self.now,
                    self.hosts[now.at].column(),
                    format_args!("{id}: {:?} is done", now.step),
                );
                now.step = match now.step {
                    Step::Leave | Step::Linger => {
                        now.next_try = self.now + self.faults.time(LINGERS_MS);
                        Step::Linger
                    }
                    Step::BeRefused | Step::Add => Step::Promote,
                    Step::Promote if now.was_removed => {
                        self.coverage.met(Condition::Regrown);
                        return true;
                    }
                    Step::Promote => Step::Remove,
                    Step::Remove => {
                        self.coverage.met(Condition::Replaced);
                        return true;
                    }
                };
            }
            // Refused, or the process that was asked has ended.
            Some((Some(Err(_)) | None, _)) => {
                now.asked = None;
                now.next_try = self.now + ASK_AGAIN;
            }
            None => {}
        }
        if now.asked.is_none() && now.step != Step::Linger && self.now >= now.next_try {
            self.ask(now);
        }
        false
    }

    /// Asks any replica that runs, rather one that knows a leader: another would wait for one as long as it may.
    fn ask(&mut self, now: &mut Replacement) {
        let change = match now.step {
            Step::BeRefused | Step::Linger => return,
            Step::Leave => MemberChange::Remove { id: now.old, force: true },
            Step::Add => {
                let address = self.hosts[now.at].address();
                MemberChange::AddLearner { id: now.new, address }
            }
            Step::Promote => MemberChange::Promote { id: now.new },
            Step::Remove => MemberChange::Remove { id: now.old, force: true },
        };
        let running: Vec<usize> = (0..self.hosts.len())
            .filter(|at| *at != now.at && self.hosts[*at].replica().is_some() && !self.hosts[*at].is_paused())
            .collect();
        if running.is_empty() {
            return;
        }
        let informed =
            |at: &usize| self.hosts[*at].replica().is_some_and(|seen| seen.status.borrow().leader.is_some());
        let (knowing, others): (Vec<usize>, Vec<usize>) = running.into_iter().partition(informed);
        let running = if knowing.is_empty() { others } else { knowing };
        let host = &self.hosts[running[self.faults.rng().random_range(0..running.len())]];
        let Some(replica) = host.replica().map(|seen| Arc::clone(&seen.replica)) else { return };
        let answer = Answer::default();
        let told = Arc::clone(&answer);
        host.spawn(async move {
            let removal = matches!(change, MemberChange::Remove { .. });
            *told.lock() = Some(match replica.change_members(change).await {
                Ok(_) => Ok(()),
                // An earlier call did it, of which nothing was heard.
                Err(MemberError::Refused(no)) if removal && no.kind == RefusalKind::NotFound => Ok(()),
                Err(error) => Err(error.to_string()),
            });
        });
        now.asked = Some(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_replica_that_lost_its_disk_may_stop_because_of_it() {
        let empty = "the store is empty, but others have replicated to replica 1 before; a replica that lost its disk must \
                     join under a new id";
        let forgot = "replica 1 had confirmed entry 9 of term 2: the data directory is an older copy, or its disk lost \
                      what was written; replica 1 must not take part with it";
        let bound = "replica id 1 is already used by another store (02e3d487; this one is 9ea1ded5): stop one of the two; a \
                     replica that lost its disk must join under a new id";
        let full = "writing: no space left on device";
        let [other, same] = ["77777777", "9ea1ded5"].map(|store| bound.replace("02e3d487", store));
        let lost = [[9; 4], [2, 0xe3, 0xd4, 0x87]].map(|begin| {
            let mut store = [0; 16];
            store[..4].copy_from_slice(&begin);
            StoreId(store)
        });
        for (reason, at_once, was_taken_back, rightly) in [
            (empty, true, false, true),
            (bound, true, false, true),
            (forgot, false, true, true),
            (bound, false, true, true),
            // One that it never had, or the very one that it has.
            (&other, true, false, false),
            (&other, false, true, false),
            (&same, true, false, false),
            (&same, false, true, false),
            (empty, false, true, false),
            (forgot, true, false, false),
            (full, true, true, false),
        ] {
            assert_eq!(tells_of_lost_disk(reason, at_once, was_taken_back, &lost), rightly, "{reason}");
        }
        assert!([empty, forgot, bound].iter().all(|reason| !tells_of_lost_disk(reason, false, false, &lost)));
    }
}

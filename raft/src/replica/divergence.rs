//! Whether all replicas have the same state: the leader names an entry and its hash after it, again and again.
//!
//! Hashes are compared at the same entry only. A replica that does not know its own there (it was started, or took a
//! snapshot, since) or does not know the question (an older version) says nothing, and is asked again.

use super::core::Core;
use crate::types::{LogIndex, ReplicaId};
use futures::future::join_all;
use mux_proto::mux::raft::v1 as pb;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// See `State::chain_hash`.
type Hash = [u8; 32];

/// A leader compares this often.
const COMPARE_EVERY: Duration = Duration::from_secs(2);
/// How long a replica may take to apply the entry that it is asked about.
const APPLY_WAIT: Duration = Duration::from_millis(1_000);
/// How long it may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Entries whose hashes are remembered: whoever is asked about one has often applied some more.
const RECENT_MAX: usize = 8_192;
/// Hashes that were told to a leader, remembered until he has heard everybody.
const TOLD_MAX: usize = 16;

/// What a replica does about another hash than its own.
const ADVICE: &str = "the states of the replicas differ: keep this data directory for whoever finds out why, and let \
                      the replica join again under a new id with an empty one; if it agrees after a restart, suspect \
                      its memory";

/// The state's hashes after the last entries, filled as entries are applied.
#[derive(Debug, Default)]
pub(crate) struct RecentHashes {
    inner: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// By entry, ascending.
    hashes: VecDeque<(LogIndex, Hash)>,
    told: VecDeque<(LogIndex, Hash)>,
}

impl RecentHashes {
    /// An entry was applied.
    pub(crate) fn note(&self, index: LogIndex, hash: Hash) {
        let mut recent = self.inner.lock();
        push(&mut recent.hashes, (index, hash), RECENT_MAX);
    }

    /// The state is another one: what is known of the former one says nothing about it.
    pub(crate) fn begin_anew(&self, index: LogIndex, hash: Hash) {
        *self.inner.lock() = Recent { hashes: VecDeque::from([(index, hash)]), told: VecDeque::new() };
    }

    fn newest(&self) -> Option<(LogIndex, Hash)> {
        self.inner.lock().hashes.back().copied()
    }

    /// The hash after this entry, if it is remembered; it stays so until the leader has judged.
    fn tell(&self, index: LogIndex) -> Option<Hash> {
        let mut recent = self.inner.lock();
        let at = recent.hashes.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        let (index, hash) = *recent.hashes.get(at)?;
        push(&mut recent.told, (index, hash), TOLD_MAX);
        Some(hash)
    }

    fn told(&self, index: LogIndex) -> Option<Hash> {
        let recent = self.inner.lock();
        recent.told.iter().rev().find(|(told, _)| *told == index).map(|(_, hash)| *hash)
    }
}

fn push(into: &mut VecDeque<(LogIndex, Hash)>, item: (LogIndex, Hash), most: usize) {
    if into.len() >= most {
        into.pop_front();
    }
    into.push_back(item);
}

/// Who differs.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// A majority of the voters has this other hash: it is the leader who is wrong.
    Leader(Hash),
    /// Those that differ from the leader; usually none.
    Others(Vec<ReplicaId>),
}

/// A majority of the voters is right; without one the leader's word stands, as nothing that differs from it may go on.
fn judge(
    (leader, own): (ReplicaId, Hash),
    answers: &BTreeMap<ReplicaId, Hash>,
    voters: &BTreeSet<ReplicaId>,
) -> Judgement {
    let mut votes: BTreeMap<Hash, usize> = BTreeMap::new();
    for (id, hash) in answers.iter().map(|(id, hash)| (*id, *hash)).chain([(leader, own)]) {
        if voters.contains(&id) {
            let count = votes.entry(hash).or_default();
            *count = count.saturating_add(1);
        }
    }
    let majority = voters.len() / 2 + 1;
    match votes.into_iter().find(|(_, count)| *count >= majority) {
        Some((hash, _)) if hash != own => Judgement::Leader(hash),
        _ => Judgement::Others(answers.iter().filter(|(_, hash)| **hash != own).map(|(id, _)| *id).collect()),
    }
}

/// Compares the members' states while this replica leads.
pub(crate) async fn compare_states(core: Arc<Core>, stop: CancellationToken) {
    let comparing = Box::pin(compare_for_ever(&core));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = comparing => {}
    }
}

async fn compare_for_ever(core: &Core) {
    let mut shown = BTreeSet::new();
    loop {
        sleep(COMPARE_EVERY).await;
        if core.leader() != Some(core.id) {
            // Somebody else judges now.
            shown.iter().for_each(|id| show_difference(*id, false));
            shown.clear();
        } else if let Some((index, own)) = core.cell.hashes().newest() {
            compare_once(core, (index, own), &mut shown).await;
        }
    }
}

/// `shown`: members whose difference, or that they have none, is to be seen in the metrics.
async fn compare_once(core: &Core, (index, own): (LogIndex, Hash), shown: &mut BTreeSet<ReplicaId>) {
    let membership = core.metrics().membership_config;
    let voters: BTreeSet<ReplicaId> = membership.voter_ids().collect();
    let members = core.other_members();
    let asked = members.iter().map(|(id, address)| async move {
        Some((*id, hash_of(core, (*id, address), (index, own), false).await?))
    });
    let answers: BTreeMap<ReplicaId, Hash> = join_all(asked).await.into_iter().flatten().collect();
    match judge((core.id, own), &answers, &voters) {
        Judgement::Leader(other) => core.latch.trip(format!(
            "after entry {index} the state here has hash {}, that of a majority {}: {ADVICE}",
            hex::encode(own),
            hex::encode(other)
        )),
        Judgement::Others(differ) => {
            for id in answers.keys() {
                show_difference(*id, differ.contains(id));
                shown.insert(*id);
            }
            // One that was removed, as it should be, is to raise no alarm for ever.
            for id in shown.extract_if(.., |id| !members.iter().any(|(member, _)| member == id)) {
                show_difference(id, false);
            }
            for (id, address) in members.iter().filter(|(id, _)| differ.contains(id)) {
                tracing::error!(
                    replica = id,
                    index,
                    "the state of this replica differs from the leader's: it is told to stop"
                );
                hash_of(core, (*id, address), (index, own), true).await;
            }
        }
    }
}

fn show_difference(id: ReplicaId, differs: bool) {
    let value = if differs { 1.0 } else { 0.0 };
    metrics::gauge!("mux_state_differs", "peer" => id.to_string()).set(value);
}

/// A member's hash after an entry. `judged`: this one is right.
async fn hash_of(
    core: &Core,
    (id, address): (ReplicaId, &str),
    (index, own): (LogIndex, Hash),
    judged: bool,
) -> Option<Hash> {
    let mut client = core.gateway_at(id, address).ok()?;
    let state_hash = own.to_vec().into();
    let message = pb::CompareStatesRequest { header: Some(core.peers.header(id)), index, state_hash, judged };
    let answer = timeout(ANSWER_TIMEOUT, client.compare_states(message)).await.ok()?.ok()?.into_inner();
    Hash::try_from(answer.state_hash.as_ref()).ok()
}

impl Core {
    /// Answers a leader that compares, and stops this replica if he has judged that it differs.
    pub(super) async fn compare_here(
        &self,
        leader: ReplicaId,
        (index, theirs): (LogIndex, Option<Hash>),
        judged: bool,
    ) -> Option<Hash> {
        if self.leader() != Some(leader) {
            return None;
        }
        if !judged {
            self.applied(index, Instant::now() + APPLY_WAIT).await;
            return self.cell.hashes().tell(index);
        }
        let own = self.cell.hashes().told(index)?;
        if let Some(theirs) = theirs.filter(|theirs| *theirs != own) {
            self.latch.trip(format!(
                "after entry {index} the state here has hash {}, that of the leader, replica {leader}, {}: {ADVICE}",
                hex::encode(own),
                hex::encode(theirs)
            ));
        }
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Hash = [0xa; 32];
    const B: Hash = [0xb; 32];
    const C: Hash = [0xc; 32];

    fn judged(own: Hash, answers: &[(ReplicaId, Hash)], voters: u64) -> Judgement {
        judge((1, own), &answers.iter().copied().collect(), &(1..=voters).collect())
    }

    #[test]
    fn a_majority_of_the_voters_is_right_and_else_the_leader() {
        assert_eq!(judged(A, &[(2, A), (3, A)], 3), Judgement::Others(vec![]));
        assert_eq!(judged(A, &[(2, A), (3, B)], 3), Judgement::Others(vec![3]));
        assert_eq!(judged(A, &[(2, B), (3, B)], 3), Judgement::Leader(B));
        assert_eq!(judged(A, &[(2, B)], 3), Judgement::Others(vec![2]), "one is silent: nobody can tell");
        assert_eq!(judged(A, &[(2, B), (3, C)], 3), Judgement::Others(vec![2, 3]));
        assert_eq!(judged(A, &[(2, B), (3, B)], 5), Judgement::Others(vec![2, 3]));
        assert_eq!(judged(A, &[(4, B), (5, B)], 3), Judgement::Others(vec![4, 5]), "learners do not vote");
        assert_eq!(judged(A, &[], 3), Judgement::Others(vec![]), "silence is no difference");
    }

    #[test]
    fn only_entries_that_are_remembered_are_compared() {
        let hashes = RecentHashes::default();
        assert_eq!((hashes.newest(), hashes.tell(1)), (None, None));
        let entries = u64::try_from(RECENT_MAX).unwrap() + 10;
        for index in 1..=entries {
            hashes.note(index, if index == entries { B } else { A });
        }
        assert_eq!(hashes.newest(), Some((entries, B)));
        assert_eq!((hashes.tell(10), hashes.tell(11), hashes.tell(entries)), (None, Some(A), Some(B)));
        assert_eq!((hashes.told(11), hashes.told(12)), (Some(A), None), "told only");
        hashes.begin_anew(entries + 5, C);
        assert_eq!((hashes.tell(entries), hashes.told(11)), (None, None), "of a former state");
        assert_eq!(hashes.tell(entries + 5), Some(C));
    }
}

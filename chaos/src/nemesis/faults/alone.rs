//! Faults that come one at a time, and which LND nodes' payers a fault concerns: so that a wait says something about it.

use super::{
    Deck,
    engine::{Engine, LOOK_EVERY},
};
use crate::{
    cluster::ClusterError,
    ledger::unix_ms,
    nemesis::{clients::probe::Beats, waits::FELT_MS},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Everybody.
    All,
    /// One replica.
    Replica(u64),
    /// One LND node, by its place.
    Lnd(usize),
    /// A replica and an LND node, of each other.
    Link { replica: u64, lnd: usize },
}

/// Who does what just before a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    leader: Option<u64>,
    /// Whose links are whose, by the LND nodes' places.
    owners: Vec<Option<u64>>,
}

impl Standing {
    /// The LND nodes, by their places, whose payers have to wait if that one is hit.
    pub(super) fn concerned(&self, whom: Whom) -> BTreeSet<usize> {
        let all = 0..self.owners.len();
        match whom {
            Whom::All => all.collect(),
            // Without a leader nothing is decided for anybody.
            Whom::Replica(id) if self.leader == Some(id) => all.collect(),
            Whom::Replica(id) => all.filter(|lnd| self.owners[*lnd] == Some(id)).collect(),
            Whom::Lnd(lnd) => all.filter(|one| *one == lnd).collect(),
            Whom::Link { replica, lnd } => {
                all.filter(|one| *one == lnd && self.owners[*one] == Some(replica)).collect()
            }
        }
    }
}

/// Everybody has been paid again since, which is long enough ago that nothing of the fault is felt any more.
fn is_recovered(beats: &[Vec<u64>], ended_ms: u64, now_ms: u64) -> bool {
    let from_ms = ended_ms.saturating_add(FELT_MS);
    now_ms > from_ms && beats.iter().all(|beats| beats.last().is_some_and(|last| *last > from_ms))
}

impl Engine {
    /// Who does what, if no fault goes on: else no wait will say anything about the next one, and who is hit may not answer.
    pub(super) async fn standing(&mut self) -> Standing {
        if !self.active.is_empty() {
            return Standing::default();
        }
        let leader = self.cluster.leader().await.map(|at| self.cluster.replicas[at].id);
        let nodes: Vec<_> = self.cluster.lnds.iter().map(|lnd| lnd.node).collect();
        let mut owners = Vec::new();
        for node in nodes {
            owners.push(self.cluster.owner_of(node).await.map(|at| self.cluster.replicas[at].id));
        }
        Standing { leader, owners }
    }

    /// As [`Engine::torment`], one fault at a time: the next one comes after everybody could pay again. One that is not
    /// possible when its turn has come is left out.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn torment_alone(
        &mut self,
        deck: &mut Deck,
        duration: Duration,
        beats: &[Beats],
    ) -> Result<(), ClusterError> {
        let end = Instant::now() + duration;
        let mut next = deck.deal_alone();
        let mut quiet_since = None;
        while Instant::now() < end {
            self.look_at_versions();
            let last_ms = self.happened.iter().map(|one| one.ended_ms.max(one.began_ms)).max().unwrap_or(0);
            let beats: Vec<Vec<u64>> = beats.iter().map(|beats| beats.lock().clone()).collect();
            if !self.active.is_empty() || !is_recovered(&beats, last_ms, unix_ms()) {
                quiet_since = None;
            } else if let Some(planned) = next
                && quiet_since.get_or_insert_with(Instant::now).elapsed() >= planned.after
            {
                if !self.begin(planned).await? {
                    *self.skipped.entry(planned.kind).or_default() += 1;
                }
                next = deck.deal_alone();
                quiet_since = None;
            }
            self.look_after().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.rest_from_versions();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_concerns_those_whose_links_it_owns_and_all_if_it_leads() {
        let standing = Standing { leader: Some(3), owners: vec![Some(1), Some(3), None] };
        let concerned = |whom| standing.concerned(whom).into_iter().collect::<Vec<_>>();
        assert_eq!(concerned(Whom::All), [0, 1, 2]);
        assert_eq!(concerned(Whom::Replica(3)), [0, 1, 2]);
        assert_eq!(concerned(Whom::Replica(1)), [0]);
        assert_eq!(concerned(Whom::Replica(2)), [] as [usize; 0]);
        assert_eq!(concerned(Whom::Lnd(1)), [1]);
        assert_eq!(concerned(Whom::Link { replica: 1, lnd: 0 }), [0]);
        assert_eq!(concerned(Whom::Link { replica: 1, lnd: 1 }), [] as [usize; 0]);
        assert!(Standing::default().concerned(Whom::All).is_empty(), "nobody looked");
    }

    #[test]
    fn it_is_over_when_everybody_was_paid_after_it_can_be_felt() {
        let beats = |first, second| [vec![1, first], vec![second]];
        let felt = 10_000 + FELT_MS;
        assert!(is_recovered(&beats(felt + 1, felt + 2), 10_000, felt + 3));
        assert!(!is_recovered(&beats(felt + 1, felt), 10_000, felt + 3));
        assert!(!is_recovered(&[Vec::new()], 10_000, felt + 3), "nobody could pay yet");
        assert!(!is_recovered(&[], 10_000, felt), "still felt");
    }
}

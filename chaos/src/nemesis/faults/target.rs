//! Whom a fault may hit.

use super::engine::{Active, CycleAt, Engine, Stage};
use std::collections::BTreeSet;

/// Replicas whose process some fault has in its hands.
fn in_hand(active: &[Active]) -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    for one in active {
        match &one.stage {
            Stage::Dead(ids) => held.extend(ids.iter().copied()),
            Stage::Paused(id) | Stage::Full { id, .. } | Stage::Skewed(id) => held.extend([*id]),
            Stage::Cycle { at: CycleAt::Ending(id, _) | CycleAt::Starting(id), .. } => {
                held.extend([*id]);
            }
            Stage::Replacing(replacing) => held.extend(replacing.leaves()),
            Stage::Ways(_) | Stage::Slow | Stage::Limited(_) | Stage::Cycle { .. } => {}
        }
    }
    held
}

/// Replicas that do not count for a quorum at the moment: those, and those out of touch.
fn impaired(active: &[Active]) -> BTreeSet<u64> {
    let mut impaired = in_hand(active);
    impaired.extend(active.iter().filter_map(|one| match &one.stage {
        Stage::Ways(out) => *out,
        _ => None,
    }));
    impaired
}

/// Without it a majority of so many still works.
fn is_spare(active: &[Active], count: usize, id: u64) -> bool {
    let mut impaired = impaired(active);
    impaired.insert(id);
    impaired.len() <= count.saturating_sub(1) / 2
}

/// Its process may be ended: a majority still works without it, and no other fault has it in its hands and would start,
/// continue or end it meanwhile.
fn may_end(active: &[Active], count: usize, id: u64) -> bool {
    is_spare(active, count, id) && !in_hand(active).contains(&id)
}

impl Engine {
    /// Without it a majority still works.
    pub(super) fn may_lose(&self, id: u64) -> bool {
        is_spare(&self.active, self.cluster.replicas.len(), id)
    }

    /// See [`may_end`].
    pub(super) fn may_end(&self, id: u64) -> bool {
        may_end(&self.active, self.cluster.replicas.len(), id)
    }

    /// One that runs and is in nobody's hands: by chance the leader, a link owner or any other. If the fault costs it,
    /// one that may be lost, or is out of touch already. And none of these, to whom the fault cannot be done. (The next one
    /// then: who waits for another chance waits for ever, because chance follows from the seed.)
    pub(super) async fn choose_but(&mut self, chance: u64, costs: bool, but: &[u64]) -> Option<u64> {
        let wanted = match chance % 3 {
            0 => self.cluster.leader().await,
            1 => {
                let lnds = self.cluster.lnds.len() as u64;
                let at = usize::try_from(chance / 3 % lnds.max(1)).unwrap_or(0);
                let node = self.cluster.lnds.get(at)?.node;
                self.cluster.owner_of(node).await
            }
            _ => None,
        };
        let count = self.cluster.replicas.len();
        let any = || usize::try_from(chance / 3).unwrap_or(usize::MAX) % count;
        let first = wanted.unwrap_or_else(any);
        let held = in_hand(&self.active);
        (0..count).map(|step| (first + step) % count).find_map(|at| {
            let id = self.cluster.replicas[at].id;
            let spare = !costs || self.may_lose(id);
            let fit = spare && !held.contains(&id) && !but.contains(&id) && self.cluster.replicas[at].is_up();
            fit.then_some(id)
        })
    }

    /// All that run and that no fault concerns.
    pub(super) fn free(&mut self) -> Vec<u64> {
        let busy = impaired(&self.active);
        let up = self.cluster.replicas.iter_mut().filter_map(|one| one.is_up().then_some(one.id));
        up.filter(|id| !busy.contains(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::faults::{Kind, deck::Planned};
    use std::time::Duration;
    use tokio::time::Instant;

    fn going_on(kind: Kind, stage: Stage) -> Active {
        let planned = Planned { number: 1, kind, after: Duration::ZERO, lasts: Duration::ZERO, chance: 0 };
        Active { planned, due: Instant::now(), stage }
    }

    #[test]
    fn a_rolling_restart_leaves_a_replica_alone_that_another_fault_has_in_its_hands() {
        let now = Instant::now();
        let stages = [
            Stage::Dead(vec![2]),
            Stage::Paused(2),
            Stage::Full { id: 2, mended: true, log_from: 0 },
            Stage::Skewed(2),
            Stage::Cycle { left: [1].into(), at: CycleAt::Ending(2, now) },
            Stage::Cycle { left: [1].into(), at: CycleAt::Starting(2) },
        ];
        for stage in stages {
            let active = [going_on(Kind::Kill, stage)];
            assert!(is_spare(&active, 3, 2), "it is lost already, {active:?}");
            assert!(!may_end(&active, 3, 2), "{active:?}");
            assert!(!may_end(&active, 3, 1) && may_end(&active, 5, 1), "{active:?}");
        }
    }

    #[test]
    fn one_that_is_only_out_of_touch_may_be_ended_and_no_second_one_of_three() {
        let active = [going_on(Kind::Partition, Stage::Ways(Some(2)))];
        assert!(may_end(&active, 3, 2) && !may_end(&active, 3, 1));
        assert!(may_end(&[], 3, 1));
        assert!(may_end(&[going_on(Kind::Delay, Stage::Ways(None))], 3, 1));
    }
}

//! Whom a fault may hit.

use super::engine::{CycleAt, Engine, Stage};
use std::collections::BTreeSet;

impl Engine {
    /// Replicas whose process some fault has in its hands.
    fn in_hand(&self) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        for active in &self.active {
            match &active.stage {
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
    fn impaired(&self) -> BTreeSet<u64> {
        let mut impaired = self.in_hand();
        impaired.extend(self.active.iter().filter_map(|active| match &active.stage {
            Stage::Ways(out) => *out,
            _ => None,
        }));
        impaired
    }

    /// Without it a majority still works.
    pub(super) fn may_lose(&self, id: u64) -> bool {
        let mut impaired = self.impaired();
        impaired.insert(id);
        impaired.len() <= self.cluster.replicas.len().saturating_sub(1) / 2
    }

    /// One that runs and is in nobody's hands: by chance the leader, a link owner or any other. If the fault costs it,
    /// one that may be lost, or is out of touch already.
    pub(super) async fn choose(&mut self, chance: u64, costs: bool) -> Option<u64> {
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
        let held = self.in_hand();
        (0..count).map(|step| (first + step) % count).find_map(|at| {
            let id = self.cluster.replicas[at].id;
            let spare = !costs || self.may_lose(id);
            let fit = spare && !held.contains(&id) && self.cluster.replicas[at].is_up();
            fit.then_some(id)
        })
    }

    /// All that run and that no fault concerns.
    pub(super) fn free(&mut self) -> Vec<u64> {
        let busy = self.impaired();
        let up = self.cluster.replicas.iter_mut().filter_map(|one| one.is_up().then_some(one.id));
        up.filter(|id| !busy.contains(id)).collect()
    }
}

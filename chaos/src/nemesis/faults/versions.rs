//! Replicas that become an older version and a newer one again.

use super::{
    alone::Whom,
    begin::Begun,
    deck::Planned,
    engine::{CycleAt, Engine, Stage},
    kind::Kind,
};
use crate::cluster::Replica;
use mux_raft::machine::level::FIRST;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// What a replica becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    New,
    Old,
}

/// How far a run is with what versions it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// Replicas become new and old again. The last old one stays, so that two versions run side by side.
    #[default]
    Mixed,
    /// The old ones go, so that what only a higher feature level has is tormented, too.
    Completes,
}

impl Upgrade {
    /// In a run of which so much is over: half of it is for each.
    pub(crate) fn at(over: Duration, whole: Duration) -> Self {
        if over * 2 < whole { Self::Mixed } else { Self::Completes }
    }

    /// Who may be removed, of these, each with whether it is old, in a cluster in which so many are.
    pub(super) fn removable(self, of: &[(u64, bool)], old: usize) -> Vec<u64> {
        let spared = |is_old| match self {
            Self::Mixed => is_old && old == 1,
            Self::Completes => !is_old && old > 0,
        };
        of.iter().filter(|(_, is_old)| !spared(*is_old)).map(|(id, _)| *id).collect()
    }
}

/// What a replica may become in a cluster in which so many are old.
///
/// Once the last old one has gone the level rises, at a moment that those who can be asked need not know of: from then on none
/// becomes old, as no operator may make it.
fn next(upgrade: Upgrade, is_old: bool, old: usize) -> Option<Becomes> {
    match (upgrade, is_old, old) {
        (_, _, 0) | (Upgrade::Mixed, true, 1) | (Upgrade::Completes, false, _) => None,
        (_, true, _) => Some(Becomes::New),
        (Upgrade::Mixed, false, _) => Some(Becomes::Old),
    }
}

/// For how long replicas of two versions ran side by side, as far as somebody looked.
#[derive(Debug, Default)]
pub(super) struct SideBySide {
    so_far: Duration,
    since: Option<Instant>,
}

impl SideBySide {
    /// From now on they do, or not.
    fn note(&mut self, do_they: bool, now: Instant) {
        if let Some(since) = self.since.take() {
            self.so_far += now.saturating_duration_since(since);
        }
        self.since = do_they.then_some(now);
    }
}

impl Engine {
    /// How many are to be of the old version.
    pub(super) fn old(&self) -> usize {
        self.cluster.replicas.iter().filter(|replica| replica.start_as.is_old()).count()
    }

    /// Counts the time in which two versions run: from one call to the next, until [`Engine::rest_from_versions`].
    pub(super) fn look_at_versions(&mut self) {
        let all = self.cluster.replicas.iter_mut();
        let running: BTreeSet<bool> = all.filter_map(Replica::runs_old).collect();
        self.side_by_side.note(running.len() > 1, Instant::now());
    }

    /// No more faults are made for now: this time does not count.
    pub(super) fn rest_from_versions(&mut self) {
        self.side_by_side.note(false, Instant::now());
    }

    /// For how long two versions ran side by side while faults were made.
    pub(crate) fn mixed_versions(&self) -> Duration {
        self.side_by_side.so_far
    }

    /// One replica changes its version.
    pub(super) async fn change_version(&mut self, planned: Planned) -> Begun {
        if self.is_going_on(&[Kind::Rolling, Kind::Replace, Kind::OtherVersion]) {
            return None;
        }
        let (old, upgrade) = (self.old(), self.upgrade);
        let fixed =
            self.cluster.replicas.iter().filter(|one| next(upgrade, one.start_as.is_old(), old).is_none());
        let fixed: Vec<u64> = fixed.map(|replica| replica.id).collect();
        let id = self.choose_but(planned.chance, true, &fixed).await?;
        let at = self.place(id)?;
        let replica = &mut self.cluster.replicas[at];
        let version = match next(upgrade, replica.start_as.is_old(), old)? {
            Becomes::New => {
                replica.start_as.binary = None;
                replica.start_as.feature_level_max = None;
                "this version"
            }
            Becomes::Old if self.toolbox.previous.is_some() => {
                replica.start_as.binary.clone_from(&self.toolbox.previous);
                "the previous binary"
            }
            Becomes::Old => {
                replica.start_as.feature_level_max = Some(FIRST);
                "this version as it was at the first level"
            }
        };
        let what = format!("{} becomes {version}", replica.name);
        Some((what, Whom::Replica(id), Stage::Cycle { left: [id].into(), at: CycleAt::Between }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_old_stays_and_when_none_is_left_none_becomes_old() {
        let next = |is_old, old| next(Upgrade::Mixed, is_old, old);
        assert_eq!(next(true, 3), Some(Becomes::New));
        assert_eq!(next(true, 1), None, "the level would rise");
        assert_eq!(next(false, 1), Some(Becomes::Old));
        assert_eq!(next(false, 0), None, "the level may have risen, whoever says what");
    }

    #[test]
    fn in_the_second_half_the_old_ones_become_new_one_after_the_other() {
        let whole = Duration::from_secs(180);
        let at = |seconds| Upgrade::at(Duration::from_secs(seconds), whole);
        assert_eq!(
            [at(0), at(60), at(90), at(120)].map(|at| at == Upgrade::Mixed),
            [true, true, false, false]
        );
        let next = |is_old, old| next(Upgrade::Completes, is_old, old);
        assert_eq!([next(true, 3), next(true, 1)], [Some(Becomes::New); 2]);
        assert_eq!([next(false, 2), next(false, 0)], [None; 2]);
    }

    #[test]
    fn the_last_old_one_is_not_removed_until_the_upgrade_is_completed() {
        let two = [(1, true), (2, true), (3, false)];
        assert_eq!(Upgrade::Mixed.removable(&two, 2), [1, 2, 3]);
        let one = [(2, true), (3, false), (4, false)];
        assert_eq!(Upgrade::Mixed.removable(&one, 1), [3, 4]);
        assert_eq!(Upgrade::Mixed.removable(&one[..1], 1), [0; 0], "somebody else, when one may be removed");
        assert_eq!(Upgrade::Completes.removable(&one, 1), [2]);
        let none = [(3, false), (4, false)];
        for upgrade in [Upgrade::Mixed, Upgrade::Completes] {
            assert_eq!(upgrade.removable(&none, 0), [3, 4], "of a cluster of one version");
        }
    }

    #[test]
    fn only_the_time_between_two_looks_of_which_the_first_saw_two_versions_counts() {
        let (mut time, from) = (SideBySide::default(), Instant::now());
        for (second, two) in [(0, false), (1, true), (2, true), (4, false), (9, true), (10, false)] {
            time.note(two, from + Duration::from_secs(second));
        }
        assert_eq!(time.so_far, Duration::from_secs(4));
    }
}

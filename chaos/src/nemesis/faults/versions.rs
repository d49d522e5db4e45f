//! Replicas that become an older version and a newer one again.

use super::{
    alone::Whom,
    begin::Begun,
    deck::Planned,
    engine::{CycleAt, Engine, Stage},
    kind::Kind,
};
use mux_raft::machine::level::FIRST;

/// What a replica becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    New,
    Old,
}

/// What a replica may become in a cluster in which so many are old.
///
/// The last old one does not change, so that the feature level stays. Once it was replaced by a new one the level rises, at a
/// moment that those who can be asked need not know of: from then on none becomes old, as no operator may make it.
fn next(is_old: bool, old: usize) -> Option<Becomes> {
    match (is_old, old) {
        (_, 0) | (true, 1) => None,
        (true, _) => Some(Becomes::New),
        (false, _) => Some(Becomes::Old),
    }
}

impl Engine {
    /// One replica changes its version.
    pub(super) async fn change_version(&mut self, planned: Planned) -> Begun {
        if self.is_going_on(&[Kind::Rolling, Kind::Replace, Kind::OtherVersion]) {
            return None;
        }
        let id = self.choose(planned.chance, true).await?;
        let at = self.place(id)?;
        let old = self.cluster.replicas.iter().filter(|replica| replica.start_as.is_old()).count();
        let replica = &mut self.cluster.replicas[at];
        let version = match next(replica.start_as.is_old(), old)? {
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
        assert_eq!(next(true, 3), Some(Becomes::New));
        assert_eq!(next(true, 1), None, "the level would rise");
        assert_eq!(next(false, 1), Some(Becomes::Old));
        assert_eq!(next(false, 0), None, "the level may have risen, whoever says what");
    }
}

//! For how long nobody could pay through an LND node, and which fault that is due to.

use super::{clients::probe::longest_wait, faults::Happened};
use std::collections::{BTreeMap, BTreeSet};

/// After a fault has ended it may still be felt, milliseconds. Faults with less than that between them are felt at once.
pub(super) const FELT_MS: u64 = 3_000;

/// Under which waits are told that more than one fault may be to blame for.
pub(crate) const SEVERAL: &str = "several at once";

/// What a table of waits is of, for people.
pub(crate) const POPULATION: &str = "Waits: the longest time between two payments that a probe settled through one LND \
    node, some of it during the fault; one value (n) for each fault that was alone from its beginning until 3 s after its \
    end, and for each LND node that it concerns: its own, all if it hits the leader or all replicas, those whose links \
    the replica owns if it hits another one. A wait that several faults may be to blame for is in the last row.";

/// Unix milliseconds: from a fault's beginning until it is not felt any more.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from_ms: u64,
    to_ms: u64,
}

impl Stretch {
    fn of(happened: &Happened) -> Self {
        let to_ms = match happened.ended_ms {
            0 => u64::MAX,
            ended_ms => ended_ms.max(happened.began_ms).saturating_add(FELT_MS),
        };
        Self { from_ms: happened.began_ms, to_ms }
    }

    fn meets(self, other: Self) -> bool {
        self.from_ms <= other.to_ms && other.from_ms <= self.to_ms
    }
}

/// The waits of one round, milliseconds, in order: by the kind of the fault that alone was felt then, or under [`SEVERAL`].
/// `beats`: when the payments through each LND node were settled.
pub(super) fn attribute(faults: &[Happened], beats: &[Vec<u64>]) -> BTreeMap<String, Vec<u64>> {
    let mut waits: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    // Two faults that are felt at once are felt in the same wait, which is one.
    let mut told = BTreeSet::new();
    for happened in faults.iter().filter(|happened| happened.kind.disturbs()) {
        let stretch = Stretch::of(happened);
        let others: Vec<_> =
            faults.iter().filter(|other| other.number != happened.number).map(Stretch::of).collect();
        let is_alone = !others.iter().any(|other| other.meets(stretch));
        for (lnd, beats) in beats.iter().enumerate() {
            let Some((began_ms, ended_ms)) = longest_wait(beats, stretch.from_ms, stretch.to_ms) else {
                continue;
            };
            let wait = Stretch { from_ms: began_ms, to_ms: ended_ms };
            let is_its_own = is_alone && !others.iter().any(|other| other.meets(wait));
            if is_its_own && happened.concerns.contains(&lnd) {
                waits.entry(happened.kind.name().to_owned()).or_default().push(ended_ms - began_ms);
            } else if !is_its_own && told.insert((lnd, began_ms)) {
                waits.entry(SEVERAL.to_owned()).or_default().push(ended_ms - began_ms);
            }
        }
    }
    waits.values_mut().for_each(|waits| waits.sort_unstable());
    waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::faults::Kind;

    fn fault(number: u64, kind: Kind, began_ms: u64, ended_ms: u64, concerns: &[usize]) -> Happened {
        Happened {
            number,
            kind,
            what: String::new(),
            began_ms,
            ended_ms,
            concerns: concerns.iter().copied().collect(),
        }
    }

    fn waits(faults: &[Happened], beats: &[&[u64]]) -> Vec<(String, Vec<u64>)> {
        let beats: Vec<_> = beats.iter().map(|beats| beats.to_vec()).collect();
        attribute(faults, &beats).into_iter().collect()
    }

    #[test]
    fn a_fault_that_is_alone_has_the_longest_wait_of_the_lnd_node_that_it_concerns_and_no_other() {
        let kill = fault(1, Kind::LndKill, 10_000, 10_500, &[1]);
        // The other one's wait is longer; and this one's is, too, where no fault is felt any more.
        let beats: [&[u64]; 2] = [&[9_000, 16_000], &[9_900, 11_000, 11_100, 13_400, 29_000]];
        assert_eq!(
            waits(std::slice::from_ref(&kill), &beats),
            [("lnd-kill".into(), vec![15_600])],
            "it began when felt"
        );
        let beats: [&[u64]; 2] = [&[9_000, 16_000], &[9_900, 11_000, 11_100, 13_400, 13_600, 29_000]];
        assert_eq!(waits(&[kill], &beats), [("lnd-kill".into(), vec![2_300])]);
    }

    #[test]
    fn a_fault_that_concerns_all_has_a_wait_of_each_and_one_that_concerns_none_has_none() {
        let beats: [&[u64]; 2] = [&[9_900, 11_000, 20_000], &[9_800, 12_000, 20_000]];
        let all = fault(1, Kind::Outage, 10_000, 10_500, &[0, 1]);
        assert_eq!(waits(&[all], &beats), [("outage".into(), vec![8_000, 9_000])]);
        assert_eq!(waits(&[fault(1, Kind::Kill, 10_000, 10_500, &[])], &beats), []);
        assert_eq!(
            waits(&[fault(1, Kind::Block, 10_000, 10_500, &[0, 1])], &beats),
            [],
            "it disturbs nobody"
        );
    }

    #[test]
    fn a_wait_in_which_several_faults_are_felt_is_told_once_and_of_none_of_them() {
        let beats: [&[u64]; 1] = [&[9_900, 20_000, 20_100]];
        let kill = fault(1, Kind::Kill, 10_000, 11_000, &[0]);
        for (other, why) in [
            (fault(2, Kind::Pause, 10_500, 12_000, &[0]), "at the same time"),
            (fault(2, Kind::Pause, 14_000, 15_000, &[0]), "just after it"),
            (fault(2, Kind::Pause, 18_000, 19_000, &[0]), "later, and nobody could pay until then"),
            (fault(2, Kind::Block, 18_000, 18_000, &[0]), "of whatever kind"),
        ] {
            assert_eq!(waits(&[kill.clone(), other], &beats), [(SEVERAL.into(), vec![10_100])], "{why}");
        }
        let far = fault(2, Kind::Pause, 23_000, 24_000, &[0]);
        let beats: [&[u64]; 1] = [&[9_900, 20_000, 22_500, 24_500, 28_000]];
        let apart = [("kill".into(), vec![10_100]), ("pause".into(), vec![3_500])];
        assert_eq!(waits(&[kill, far], &beats), apart, "each its own");
    }

    #[test]
    fn a_fault_that_has_no_end_leaves_no_other_alone() {
        let beats: [&[u64]; 1] = [&[90_000, 95_000]];
        let faults = [fault(1, Kind::Replace, 10_000, 0, &[0]), fault(2, Kind::Kill, 91_000, 92_000, &[0])];
        assert_eq!(waits(&faults, &beats), [(SEVERAL.into(), vec![5_000])]);
    }
}

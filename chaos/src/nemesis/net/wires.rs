//! What each way between two processes is like, in each direction, and because of which fault.

use crate::cluster::Host;
use std::{collections::BTreeMap, time::Duration};

/// One direction between two processes. The worse is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// Everything gets through.
    #[default]
    Open,
    /// Everything gets through, so much later.
    Delayed(Duration),
    /// Nothing gets through at the relay, and nobody is told: a connection that is half open.
    Stalled,
    /// Packets vanish on their way: a partition.
    Severed,
    /// Connections are reset and refused.
    Cut,
}

/// From whom, to whom.
pub(crate) type Way = (Host, Host);

/// Both directions of a way.
pub(crate) fn both(one: Host, other: Host) -> [Way; 2] {
    [(one, other), (other, one)]
}

/// What every fault makes of the ways; one that no fault speaks of is open.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    by_fault: BTreeMap<u64, (Vec<Way>, Wire)>,
}

impl Wires {
    /// A fault begins.
    pub(crate) fn impose(&mut self, fault: u64, ways: Vec<Way>, wire: Wire) {
        self.by_fault.insert(fault, (ways, wire));
    }

    /// A fault ends.
    pub(crate) fn lift(&mut self, fault: u64) {
        self.by_fault.remove(&fault);
    }

    /// What it comes to: by way, the worst of it.
    pub(crate) fn state(&self) -> BTreeMap<Way, Wire> {
        let mut worst = BTreeMap::new();
        for (ways, wire) in self.by_fault.values() {
            for way in ways {
                let known = worst.entry(*way).or_insert(*wire);
                *known = (*known).max(*wire);
            }
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_all_faults_counts_and_ends_with_its_fault() {
        let (a, b) = (Host::Replica(1), Host::Lnd(1));
        let mut wires = Wires::default();
        wires.impose(1, both(a, b).to_vec(), Wire::Delayed(Duration::from_millis(5)));
        wires.impose(2, vec![(a, b)], Wire::Severed);
        assert_eq!(wires.state()[&(a, b)], Wire::Severed);
        assert_eq!(wires.state()[&(b, a)], Wire::Delayed(Duration::from_millis(5)));
        wires.lift(2);
        assert_eq!(wires.state()[&(a, b)], Wire::Delayed(Duration::from_millis(5)));
        wires.lift(1);
        assert!(wires.state().is_empty());
    }
}

use std::collections::{BTreeMap, VecDeque};

/// Which point is next. All have a turn before any has another; then those that were not met come first.
#[derive(Debug)]
pub(super) struct Turns {
    points: &'static [&'static str],
    left: VecDeque<&'static str>,
    /// How often each was met. What has no entry never was.
    met: BTreeMap<&'static str, u64>,
    taken: usize,
}

impl Turns {
    pub(super) fn new(points: &'static [&'static str]) -> Self {
        Self { points, left: points.iter().copied().collect(), met: BTreeMap::new(), taken: 0 }
    }

    /// The next one. Whether it is met or not, another one is next.
    pub(super) fn next(&mut self) -> &'static str {
        if self.left.is_empty() {
            let (met, not): (Vec<_>, Vec<_>) =
                self.points.iter().copied().partition(|point| self.met.contains_key(point));
            self.left = not.into_iter().chain(met).collect();
        }
        self.taken += 1;
        self.left.pop_front().expect("there are points, and all of them were just put there if none was left")
    }

    pub(super) fn was_met(&mut self, point: &'static str) {
        *self.met.entry(point).or_default() += 1;
    }

    pub(super) fn met(&self) -> &BTreeMap<&'static str, u64> {
        &self.met
    }

    /// Those that had their turn and were never met, if all have had one.
    pub(super) fn missed(&self) -> Vec<&'static str> {
        let all_had_one = self.taken >= self.points.len();
        let never = self.points.iter().copied().filter(|point| !self.met.contains_key(point));
        never.filter(|_| all_had_one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn a_point_that_is_never_met_keeps_no_other_from_its_turn_and_is_missed() {
        let mut turns = Turns::new(&POINTS);
        let mut taken = Vec::new();
        for number in 1..=7 {
            let point = turns.next();
            taken.push(point);
            if point != "b" {
                turns.was_met(point);
            }
            assert_eq!(turns.missed(), if number < 3 { Vec::new() } else { vec!["b"] }, "after {number}");
        }
        assert_eq!(taken, ["a", "b", "c", "b", "a", "c", "b"]);
        assert_eq!(turns.met(), &BTreeMap::from([("a", 2), ("c", 2)]));
    }

    #[test]
    fn one_that_is_met_later_is_not_missed() {
        let mut turns = Turns::new(&POINTS);
        for _ in 0..3 {
            let point = turns.next();
            if point != "b" {
                turns.was_met(point);
            }
        }
        assert_eq!(turns.missed(), ["b"]);
        let again = turns.next();
        assert_eq!(again, "b");
        turns.was_met(again);
        assert!(turns.missed().is_empty());
    }
}

//! Which fault comes when: all of it follows from the seed.

use super::Kind;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::time::Duration;

/// Between two beginnings, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 400..3_000;

/// A fault that shall come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its number in the run, from 1.
    pub(crate) number: u64,
    /// What.
    pub(crate) kind: Kind,
    /// After the one before.
    pub(crate) after: Duration,
    /// How long.
    pub(crate) lasts: Duration,
    /// What else is left to chance: whom it hits, which direction.
    pub(crate) chance: u64,
}

/// Makes what is left to chance about faults that come alone independent of how many of the others there were.
const ALONE: u64 = 0xa10e;

/// Faults without end. Those that come alone are dealt from a pile of their own.
pub(crate) struct Deck {
    together: Pile,
    alone: Pile,
    dealt: u64,
}

/// Like cards: each kind comes once before any comes again.
struct Pile {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    rng: StdRng,
}

impl Deck {
    /// Of these kinds, of which there must be one.
    pub(crate) fn new(kinds: Vec<Kind>, seed: u64) -> Self {
        // What disturbs nobody need not be alone.
        let disturbing = kinds.iter().copied().filter(|kind| kind.disturbs()).collect();
        Self { together: Pile::new(kinds, seed), alone: Pile::new(disturbing, seed ^ ALONE), dealt: 0 }
    }

    /// The next one of those that come while others go on.
    pub(crate) fn deal(&mut self) -> Option<Planned> {
        let planned = self.together.deal(self.dealt + 1)?;
        self.dealt += 1;
        Some(planned)
    }

    /// The next one of those that come alone, if any kind is worth it.
    pub(crate) fn deal_alone(&mut self) -> Option<Planned> {
        let planned = self.alone.deal(self.dealt + 1)?;
        self.dealt += 1;
        Some(planned)
    }
}

impl Pile {
    fn new(kinds: Vec<Kind>, seed: u64) -> Self {
        Self { kinds, left: Vec::new(), rng: StdRng::seed_from_u64(seed) }
    }

    fn deal(&mut self, number: u64) -> Option<Planned> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(&mut self.rng);
        }
        let kind = self.left.pop()?;
        let (least, most) = kind.lasts_ms();
        Some(Planned {
            number,
            kind,
            after: Duration::from_millis(self.rng.random_range(PAUSE_MS)),
            lasts: Duration::from_millis(self.rng.random_range(least..=most)),
            chance: self.rng.random(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_same_seed_gives_the_same_faults_and_every_kind_comes_before_any_comes_again() {
        let deal = |seed| {
            let mut deck = Deck::new(Kind::ALL.to_vec(), seed);
            (0..3 * Kind::ALL.len()).map(|_| deck.deal().unwrap()).collect::<Vec<_>>()
        };
        let faults = deal(7);
        assert_eq!(faults, deal(7));
        assert_ne!(faults, deal(8));
        for round in faults.chunks(Kind::ALL.len()) {
            assert_eq!(round.iter().map(|fault| fault.kind).collect::<BTreeSet<_>>().len(), Kind::ALL.len());
        }
        assert_eq!(Deck::new(Vec::new(), 1).deal(), None);
    }

    #[test]
    fn those_that_come_alone_are_the_same_however_many_of_the_others_came_before() {
        let alone = |others: usize| {
            let mut deck = Deck::new(Kind::ALL.to_vec(), 7);
            let before: Vec<_> = (0..others).map(|_| deck.deal().unwrap().number).collect();
            let dealt: Vec<_> = (0..Kind::ALL.len() - 1).map(|_| deck.deal_alone().unwrap()).collect();
            assert!(
                dealt.iter().all(|planned| !before.contains(&planned.number)),
                "numbers are of one fault"
            );
            dealt.into_iter().map(|planned| Planned { number: 0, ..planned }).collect::<Vec<_>>()
        };
        assert_eq!(alone(0), alone(5));
        let kinds: BTreeSet<_> = alone(0).iter().map(|planned| planned.kind).collect();
        assert!(kinds.len() == Kind::ALL.len() - 1 && !kinds.contains(&Kind::Block), "{kinds:?}");
        assert_eq!(Deck::new(vec![Kind::Block], 1).deal_alone(), None);
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}

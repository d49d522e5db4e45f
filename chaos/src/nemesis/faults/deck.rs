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

/// Faults without end. Like cards: each kind comes once before any comes again.
pub(crate) struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
    rng: StdRng,
    dealt: u64,
}

impl Deck {
    /// Of these kinds, of which there must be one.
    pub(crate) fn new(kinds: Vec<Kind>, seed: u64) -> Self {
        Self { kinds, left: Vec::new(), rng: StdRng::seed_from_u64(seed), dealt: 0 }
    }

    /// The next one.
    pub(crate) fn deal(&mut self) -> Option<Planned> {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            self.left.shuffle(&mut self.rng);
        }
        let kind = self.left.pop()?;
        self.dealt += 1;
        let (least, most) = kind.lasts_ms();
        Some(Planned {
            number: self.dealt,
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
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}

//! Chance that follows from a seed: a stream for each purpose, so that drawing more for one changes nothing for another.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The bytes that a purpose's stream begins from.
#[must_use]
pub fn seed_of(seed: u64, purpose: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed.to_be_bytes()).chain_update(purpose.as_bytes()).finalize().into()
}

/// A purpose's stream.
#[must_use]
pub fn stream(seed: u64, purpose: &str) -> StdRng {
    StdRng::from_seed(seed_of(seed, purpose))
}

/// A time in whole milliseconds from this range.
pub fn time_in(rng: &mut StdRng, range: &RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range.clone()))
}

/// Whether something happens that has this chance.
pub fn chance(rng: &mut StdRng, chance: f64) -> bool {
    // Nothing is drawn for what never happens: a fault that is off costs nothing.
    chance > 0.0 && rng.random_bool(chance.min(1.0))
}

/// The time to the next of something that happens at random moments, on average this far apart.
pub fn interval(rng: &mut StdRng, mean: Duration) -> Duration {
    let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
    let factor = (-uniform.ln()).min(20.0);
    Duration::from_millis(u64::try_from(mean.mul_f64(factor).as_millis()).unwrap_or(u64::MAX).max(1))
}

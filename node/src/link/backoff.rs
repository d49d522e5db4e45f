use super::LinkTiming;
use rand::Rng as _;
use std::time::Duration;

/// Pauses between tries: doubled after each failure up to a bound, and spread, so that replicas that lost a node
/// together do not come back to it together.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(timing: &LinkTiming) -> Self {
        Self { next: timing.backoff_min, min: timing.backoff_min, max: timing.backoff_max }
    }

    /// It worked: the next failure is the first again.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// How long to wait after one more failure; spread it with [`jitter`].
    pub(super) fn failed(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        pause
    }
}

/// Somewhere between this long and twice as long.
pub(super) fn jitter(duration: Duration) -> Duration {
    spread(duration, rand::rng().random_range(0.0..1.0))
}

/// `chance`: 0 to 1.
fn spread(duration: Duration, chance: f64) -> Duration {
    duration.saturating_add(duration.mul_f64(chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_gone_for_hours_is_tried_again_every_few_seconds_and_no_more_often() {
        let timing = LinkTiming::default();
        for chance in [0.0, 0.5, 1.0] {
            let mut backoff = Backoff::new(&timing);
            let (mut gone, mut tries) = (Duration::ZERO, 0);
            while gone < Duration::from_secs(4 * 3_600) {
                let pause = spread(backoff.failed(), chance);
                assert!(pause >= timing.backoff_min && pause <= 2 * timing.backoff_max, "{pause:?}");
                assert!(tries < 10 || pause >= timing.backoff_max, "{pause:?} after {tries} tries");
                gone += pause;
                tries += 1;
            }
            assert!((1_440..=2_900).contains(&tries), "{tries}");
            backoff.reset();
            assert_eq!(backoff.failed(), timing.backoff_min, "a short outage is over soon");
        }
    }

    #[test]
    fn chance_spreads_over_as_long_again() {
        let second = Duration::from_secs(1);
        assert!((0..1_000).map(|_| jitter(second)).all(|pause| (second..2 * second).contains(&pause)));
    }
}

use crate::sim::random;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How messages fare in one direction between two hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Milliseconds that a message takes. Never less than a tick of the driver, which is the least of all of these.
    pub delay_ms: RangeInclusive<u64>,
    /// The chance of a message to take `slow_ms` instead.
    pub slow: f64,
    /// Milliseconds that it then takes.
    pub slow_ms: RangeInclusive<u64>,
    /// The chance of a request with one message to arrive twice.
    pub duplicate: f64,
    /// The chance of a message that answers not to arrive, and its connection to break: whoever asked does not know whether
    /// it was heard.
    pub lose: f64,
    /// The chance of a message that asks to stray: its caller loses the connection at once and may ask again over another,
    /// and what was sent over the old one arrives long after.
    pub stray: f64,
    /// Milliseconds that one that strays takes longer.
    pub stray_ms: RangeInclusive<u64>,
    /// Nothing on a connection overtakes anything, as over one TCP connection that nobody works around.
    pub in_order: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay_ms: 5..=7,
            slow: 0.0,
            slow_ms: 50..=200,
            duplicate: 0.0,
            lose: 0.0,
            stray: 0.0,
            stray_ms: 100..=2_500,
            in_order: false,
        }
    }
}

impl Conditions {
    /// What a message takes this time.
    pub(super) fn delay(&self, rng: &mut StdRng) -> Duration {
        let range = if random::chance(rng, self.slow) { &self.slow_ms } else { &self.delay_ms };
        random::time_in(rng, range)
    }

    /// Nothing is lost, and nothing strays.
    pub(super) fn calm(&mut self) {
        (self.lose, self.stray) = (0.0, 0.0);
    }
}

/// When an end gives a connection up on which nothing passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between two pings.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

impl KeepAlive {
    /// How long an end waits from when nothing passes any more: the next ping is due some time within the interval.
    pub(super) fn patience(self, rng: &mut StdRng) -> Duration {
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        self.timeout + random::time_in(rng, &(0..=interval))
    }
}

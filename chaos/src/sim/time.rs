//! Simulated time.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// The shortest tick of a driver. No message takes less than its driver's tick, so hosts may run a tick one after the other.
pub const TICK: Duration = Duration::from_millis(5);

/// A moment of the simulated world: whole milliseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(u64);

impl SimTime {
    /// When the world began.
    pub const ZERO: Self = Self(0);

    /// This many milliseconds after the beginning.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// Time since the beginning.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether this is a whole multiple of a time after the beginning.
    #[must_use]
    pub fn is_multiple_of(self, time: Duration) -> bool {
        u64::try_from(time.as_millis()).is_ok_and(|ms| self.0.is_multiple_of(ms))
    }

    /// How much later this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for SimTime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

//! Clocks, and the log clock that turns them into log time.
//!
//! [`Clock`] is where wall and monotonic time enter a replica; nothing else asks the operating system for the
//! time of day. [`LogClock`] is what the leader stamps entries with: last log time plus elapsed monotonic
//! time, drawn gently towards the wall clock, with steps only when a majority of wall clocks agree. It is a
//! pure struct: time is an argument.

mod log_clock;
mod offset_clock;

pub use log_clock::{Agreement, Judgement, LogClock};
pub use offset_clock::OffsetClock;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: milliseconds since the Unix epoch. May jump.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment. Never jumps.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Monotonic time counts from now on.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

use crate::sim::time::SimTime;
use mux_raft::clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What wall clocks showed when the world began: some day in 2023.
const WALL_AT_BEGINNING_MS: u64 = 1_700_000_000_000;

/// What a process sees of time. It follows its runtime's clock, so it can be read inside of its runtime only. Clones
/// share the wall clock's error.
#[derive(Clone, Debug)]
pub struct HostClock {
    began: SimTime,
    epoch: Instant,
    wall_offset_ms: Arc<AtomicI64>,
}

impl HostClock {
    pub(super) fn new(began: SimTime, epoch: Instant, wall_offset_ms: i64) -> Self {
        Self { began, epoch, wall_offset_ms: Arc::new(AtomicI64::new(wall_offset_ms)) }
    }

    /// The time in the world. Only inside of the process.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.began + self.epoch.elapsed()
    }

    /// A moment as tokio counts it in this process.
    #[must_use]
    pub fn instant(&self, at: SimTime) -> Instant {
        self.epoch + at.since(self.began)
    }

    /// What a right wall clock shows at a moment of the world, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn wall_at(at: SimTime) -> u64 {
        WALL_AT_BEGINNING_MS + at.as_ms()
    }

    /// Sets the wall clock wrong by this much from now on.
    pub fn set_wall_offset_ms(&self, offset_ms: i64) {
        self.wall_offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}

impl Clock for HostClock {
    fn wall_ms(&self) -> u64 {
        let right = Self::wall_at(self.now());
        right.saturating_add_signed(self.wall_offset_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now().elapsed()
    }
}

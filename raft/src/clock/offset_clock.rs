use super::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock whose wall time can be set wrong, to see what a wrong clock does. Clones share the offset.
#[derive(Clone)]
pub struct OffsetClock {
    inner: Arc<dyn Clock>,
    offset_ms: Arc<AtomicI64>,
}

impl OffsetClock {
    /// Another clock, off by this much.
    #[must_use]
    pub fn new(inner: Arc<dyn Clock>, offset_ms: i64) -> Self {
        Self { inner, offset_ms: Arc::new(AtomicI64::new(offset_ms)) }
    }

    /// Sets the wall clock off by this much from now on.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}

impl Clock for OffsetClock {
    fn wall_ms(&self) -> u64 {
        self.inner.wall_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }
}

impl std::fmt::Debug for OffsetClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OffsetClock").field("offset_ms", &self.offset_ms).finish_non_exhaustive()
    }
}

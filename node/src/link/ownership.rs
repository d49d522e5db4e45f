use super::LinkTiming;
use super::core::MonoMs;
use std::time::Duration;

/// How much later than the assigned owner another replica tries a degraded stream.
const STRANGER_DELAY_MS: MonoMs = 5_000;

/// Whether this replica should hold a front node's stream. Pure.
///
/// With a quorum, the log's assignment decides. Without one, the stream is first kept, then freed for the
/// side that has a quorum, and, if nobody takes it, held degraded, so that HTLCs of others go on; with a
/// pause now and then for whoever comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    patience_ms: MonoMs,
    degraded_after_ms: MonoMs,
    hold_ms: MonoMs,
    pause_ms: MonoMs,
    lost_at: Option<MonoMs>,
}

/// What to do with the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Desired {
    /// No stream.
    Closed,
    /// Keep a stream that is open; do not open one.
    Keep,
    /// Open it, keep it.
    Normal,
    /// Open it, keep it, without a quorum.
    Degraded,
}

fn ms(duration: Duration) -> MonoMs {
    u64::try_from(duration.as_millis()).unwrap_or(MonoMs::MAX)
}

impl Ownership {
    pub(super) fn new(timing: &LinkTiming) -> Self {
        Self {
            patience_ms: ms(timing.quorum_patience),
            degraded_after_ms: ms(timing.degraded_after),
            hold_ms: ms(timing.degraded_hold),
            pause_ms: ms(timing.degraded_pause),
            lost_at: None,
        }
    }

    /// What to do now. `assigned`: by applied state, which may be old without a quorum. `voter`: this replica has
    /// a vote; who has none yet, or none any more, has nothing to keep up while the others are away.
    pub(super) fn desired(&mut self, assigned: bool, voter: bool, quorum: bool, now: MonoMs) -> Desired {
        if quorum {
            self.lost_at = None;
            return if assigned { Desired::Normal } else { Desired::Closed };
        }
        if !voter {
            return Desired::Closed;
        }
        let lost_at = *self.lost_at.get_or_insert(now);
        let without = now.saturating_sub(lost_at);
        if without < self.patience_ms {
            return if assigned { Desired::Keep } else { Desired::Closed };
        }
        let stranger = if assigned { 0 } else { STRANGER_DELAY_MS };
        let wait = self.patience_ms.saturating_add(self.degraded_after_ms).saturating_add(stranger);
        let Some(degraded) = without.checked_sub(wait) else { return Desired::Closed };
        let period = self.hold_ms.saturating_add(self.pause_ms).max(1);
        if degraded % period < self.hold_ms { Desired::Degraded } else { Desired::Closed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership() -> Ownership {
        Ownership::new(&LinkTiming::default())
    }

    #[test]
    fn with_a_quorum_the_assignment_decides() {
        let mut own = ownership();
        assert_eq!(own.desired(true, true, true, 0), Desired::Normal);
        assert_eq!(own.desired(false, true, true, 1), Desired::Closed, "the former owner closes at once");
    }

    #[test]
    fn without_a_quorum_the_slot_is_freed_then_held_degraded_with_pauses() {
        let mut own = ownership();
        assert_eq!(own.desired(true, true, true, 0), Desired::Normal);
        assert_eq!(own.desired(true, true, false, 100), Desired::Keep);
        assert_eq!(own.desired(true, true, false, 3_099), Desired::Keep);
        assert_eq!(own.desired(true, true, false, 3_100), Desired::Closed);
        assert_eq!(own.desired(true, true, false, 13_099), Desired::Closed);
        assert_eq!(own.desired(true, true, false, 13_100), Desired::Degraded);
        assert_eq!(own.desired(true, true, false, 41_099), Desired::Degraded);
        assert_eq!(own.desired(true, true, false, 41_100), Desired::Closed, "the slot is freed for 2 s");
        assert_eq!(own.desired(true, true, false, 43_100), Desired::Degraded);
        assert_eq!(own.desired(true, true, true, 43_200), Desired::Normal);
        assert_eq!(own.desired(true, true, false, 43_300), Desired::Keep, "a new loss begins anew");
    }

    #[test]
    fn a_replica_without_a_vote_never_holds_a_stream_without_a_quorum() {
        let mut own = ownership();
        for now in [0, 3_100, 18_000, 60_000] {
            assert_eq!(own.desired(false, false, false, now), Desired::Closed);
            assert_eq!(own.desired(true, false, false, now), Desired::Closed, "removed while it was cut off");
        }
        assert_eq!(own.desired(true, false, true, 60_001), Desired::Normal, "the log's word counts");
    }

    #[test]
    fn a_replica_that_is_not_assigned_steps_in_later() {
        let mut own = ownership();
        assert_eq!(own.desired(false, true, false, 0), Desired::Closed);
        assert_eq!(own.desired(false, true, false, 17_999), Desired::Closed);
        assert_eq!(own.desired(false, true, false, 18_000), Desired::Degraded);
    }
}

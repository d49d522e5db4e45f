use crate::sim::random;
use crate::sim::swarm::{FaultKind, Swarm};
use crate::sim::time::SimTime;
use rand::rngs::StdRng;
use std::time::Duration;

/// Nothing happens before: a cluster that has never had a leader is not interesting for long.
const QUIET_AT_FIRST: Duration = Duration::from_millis(1_500);

/// When which fault begins.
#[derive(Debug)]
pub(super) struct Schedule {
    rng: StdRng,
    next: Vec<Next>,
}

#[derive(Debug)]
struct Next {
    kind: FaultKind,
    mean: Duration,
    at: SimTime,
}

impl Schedule {
    pub(super) fn new(swarm: &Swarm) -> Self {
        let mut rng = random::stream(swarm.seed, "schedule");
        let next = swarm.faults.iter().map(|(kind, mean_ms)| {
            let mean = Duration::from_millis(*mean_ms);
            let first = SimTime::ZERO + QUIET_AT_FIRST + random::interval(&mut rng, mean);
            Next { kind: *kind, mean, at: first }
        });
        let next = next.collect();
        Self { rng, next }
    }

    /// What begins now.
    pub(super) fn due(&mut self, now: SimTime) -> Vec<FaultKind> {
        let mut due = Vec::new();
        for next in self.next.iter_mut().filter(|next| next.at <= now) {
            due.push(next.kind);
            next.at = now + random::interval(&mut self.rng, next.mean);
        }
        due
    }

    /// Nothing more.
    pub(super) fn stop(&mut self) {
        self.next.clear();
    }
}

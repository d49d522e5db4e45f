//! What a seed draws: each run is another kind of bad day, with some faults in it and others not.
//!
//! A run with every fault at once explores less than many runs with a few each: where everything fails, nothing gets far
//! enough to fail in an interesting way.
//!
//! * `kind`: what can happen to a cluster.

mod kind;

use super::disk::Latency;
use super::net::Conditions;
use super::random;
pub use kind::FaultKind;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::replica::Timing;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A run's kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Swarm {
    /// What all of it follows from.
    pub seed: u64,
    /// Replicas: 3 to 5.
    pub replicas: usize,
    /// How messages fare in general.
    pub network: Conditions,
    /// How disks fare in general.
    pub disk: Latency,
    /// How much slower heartbeats and elections are than is usual in production.
    pub pace: u32,
    /// Whether a power cut may leave a part of a batch.
    pub torn_writes: bool,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Entries kept although a snapshot has them.
    pub keep_logs: u64,
    /// Faults that happen in this run, with the mean time between two of the kind, in milliseconds.
    pub faults: Vec<(FaultKind, u64)>,
    /// What applications do.
    pub load: Load,
    /// The LND nodes.
    pub lnds: Lnds,
    /// How payers pay.
    pub payments: Payments,
}

/// What applications do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Proposers at each replica.
    pub clients: usize,
    /// Between two proposals of one, on average, in milliseconds.
    pub pause_ms: u64,
}

/// What the LND nodes are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lnds {
    /// 2 or 3.
    pub nodes: usize,
    /// Channels of each at first, beside the one for forwards.
    pub channels: u32,
    /// They have a standby each, with an address of its own, which takes over when they are started again.
    pub standbys: bool,
    /// Between two blocks on average, in milliseconds.
    pub block_ms: u64,
}

/// Pauses that are drawn. Many proposals at once are of interest now and then, and cost more time than anything else: five
/// replicas apply all of them.
const LOADS_MS: [u64; 8] = [20, 100, 200, 400, 400, 1_000, 1_000, 2_000];

/// What every message takes at least: each tick of the driver is as long ([`Swarm::tick`]). Short ticks see the moments in
/// between, long ones cost less. What happens at round times must be at the end of a tick.
const LEAST_DELAYS_MS: [u64; 4] = [5, 10, 20, 20];

/// Clusters over long distances are configured to be slower.
const PACES: [u32; 4] = [1, 1, 2, 3];

/// What payers do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payments {
    /// Which ways, how often.
    pub mix: PaymentMix,
    /// Between two payments on average, in milliseconds.
    pub pause_ms: u64,
    /// The cluster settles by itself; otherwise applications do.
    pub auto_settle: bool,
    /// Many blocks may come at once, so that nobody can say what an expiry is worth to a cluster that has not heard of them.
    pub blocks_jump: bool,
}

/// Weights of the ways in which invoices are paid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PaymentMix {
    /// In one part.
    pub single: u32,
    /// In parts over several nodes.
    pub multi_part: u32,
    /// Accepted, then settled or cancelled by the application.
    pub two_phase: u32,
    /// Nothing stored before the first HTLC.
    pub stateless: u32,
    /// More than asked for.
    pub overpaid: u32,
    /// Twice.
    pub duplicate: u32,
    /// A guess at a hash.
    pub probe: u32,
    /// After its expiry.
    pub expired: u32,
    /// Cancelled while parts are under way.
    pub cancelled: u32,
    /// Not for the virtual node at all.
    pub forward: u32,
}

impl Swarm {
    /// Whether this can happen in this run.
    #[must_use]
    pub fn has(&self, fault: FaultKind) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == fault)
    }

    /// The replicas' timers.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let usual = Timing::default();
        Timing {
            heartbeat: usual.heartbeat * self.pace,
            election_min: usual.election_min * self.pace,
            election_max: usual.election_max * self.pace,
            ..usual
        }
    }

    /// What a tick of the driver is.
    #[must_use]
    pub fn tick(&self) -> Duration {
        Duration::from_millis(*self.network.delay_ms.start())
    }

    /// The feature level that replicas know at first.
    #[must_use]
    pub fn first_level(&self) -> u16 {
        if self.has(FaultKind::Upgrade) { COMMAND_FORMAT - 1 } else { COMMAND_FORMAT }
    }

    /// What this seed draws.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let (rng, late) = (&mut random::stream(seed, "swarm"), &mut random::stream(seed, "more faults"));
        let mut faults = Vec::new();
        for kind in FaultKind::ALL {
            // Each in one of four runs, from rare to often: every three to sixty seconds. There are many points.
            let (chance, least, most) = match kind {
                FaultKind::CrashAtPoint => (0.3, 1_000.0_f64, 8_000.0_f64),
                // Each is a story of several seconds, which needs the right moment.
                FaultKind::StaleTail
                | FaultKind::LaggingOwner
                | FaultKind::LndStrands
                | FaultKind::LastBlocks => (0.25, 2_000.0, 10_000.0),
                _ => (0.25, 3_000.0, 60_000.0),
            };
            let rng = if kind.is_late() { &mut *late } else { &mut *rng };
            if rng.random_bool(chance) {
                let mean = rng.random_range(least.ln()..most.ln()).exp();
                let mean = Duration::from_secs_f64(mean / 1000.0);
                faults.push((kind, u64::try_from(mean.as_millis()).unwrap_or(u64::MAX)));
            }
        }
        let (replicas, torn_writes) = (*pick(rng, &[3, 3, 3, 4, 5]), rng.random_bool(0.5));
        let (snapshot_every, keep_logs) =
            (*pick(rng, &[50, 200, 1_000, 5_000]), *pick(rng, &[10, 100, 1_000]));
        // Who falls behind is to need a snapshot.
        let has = |fault| faults.iter().any(|(kind, _)| *kind == fault);
        let blocks_jump =
            has(FaultKind::LastBlocks) || has(FaultKind::LndStrands) || has(FaultKind::LndFails);
        let (installs, lags) = (has(FaultKind::CrashInInstall), has(FaultKind::LaggingOwner));
        Self {
            seed,
            replicas,
            network: mishaps(network(rng), &mut random::stream(seed, "mishaps")),
            disk: disk(rng),
            pace: *pick(&mut random::stream(seed, "pace"), &PACES),
            torn_writes,
            snapshot_every: if installs { 50 } else { snapshot_every },
            keep_logs: if installs { 10 } else { keep_logs },
            faults,
            load: Load { clients: rng.random_range(1..=3), pause_ms: *pick(rng, &LOADS_MS) },
            payments: payments(rng, lags, blocks_jump),
            lnds: lnds(rng),
        }
    }
}

fn pick<'a, T>(rng: &mut StdRng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}

fn network(rng: &mut StdRng) -> Conditions {
    let least = *pick(rng, &LEAST_DELAYS_MS);
    Conditions {
        delay_ms: least..=least + *pick(rng, &[0, 3, 10, 30]),
        slow: *pick(rng, &[0.0, 0.0, 0.001, 0.01, 0.05]),
        slow_ms: 50..=*pick(rng, &[100, 400, 1_500]),
        duplicate: *pick(rng, &[0.0, 0.0, 0.01, 0.1]),
        in_order: rng.random_bool(0.3),
        ..Conditions::default()
    }
}

/// The same, with connections that break in the wrong moment.
fn mishaps(network: Conditions, rng: &mut StdRng) -> Conditions {
    Conditions {
        lose: *pick(rng, &[0.0, 0.0, 0.0005, 0.005]),
        stray: *pick(rng, &[0.0, 0.0, 0.0005, 0.005]),
        stray_ms: 100..=*pick(rng, &[300, 1_000, 3_000]),
        ..network
    }
}

fn disk(rng: &mut StdRng) -> Latency {
    let sync = *pick(rng, &[1, 2, 5, 20]);
    Latency { sync_ms: sync..=sync + *pick(rng, &[0, 2, 30]), other_ms: 0..=*pick(rng, &[0, 2, 20]) }
}

fn payments(rng: &mut StdRng, lags: bool, blocks_jump: bool) -> Payments {
    let mut weight = || *pick(rng, &[0, 0, 1, 3, 10]);
    let mix = PaymentMix {
        // Something must be paid whatever else is drawn.
        single: 1 + weight(),
        multi_part: weight(),
        two_phase: weight(),
        stateless: weight(),
        overpaid: weight(),
        duplicate: weight(),
        probe: weight(),
        expired: weight(),
        cancelled: weight(),
        forward: weight(),
    };
    // Who lags behind is to have something to fail.
    let mix = PaymentMix { probe: mix.probe + if lags { 10 } else { 0 }, ..mix };
    // Without an application nothing has two phases.
    let auto_settle = mix.two_phase == 0;
    Payments { mix, pause_ms: *pick(rng, &[700, 1_500, 4_000]), auto_settle, blocks_jump }
}

fn lnds(rng: &mut StdRng) -> Lnds {
    Lnds {
        nodes: rng.random_range(2..=3),
        channels: rng.random_range(1..=2),
        standbys: rng.random_bool(0.3),
        block_ms: *pick(rng, &[4_000, 15_000, 60_000]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_always_draws_the_same() {
        for seed in 0..100 {
            assert_eq!(Swarm::draw(seed), Swarm::draw(seed));
        }
        assert_ne!(Swarm::draw(1).faults, Swarm::draw(2).faults);
    }

    #[test]
    fn seeds_differ_in_everything_that_is_drawn() {
        let drawn: Vec<Swarm> = (0..300).map(Swarm::draw).collect();
        let sizes: BTreeSet<usize> = drawn.iter().map(|swarm| swarm.replicas).collect();
        assert_eq!(sizes, BTreeSet::from([3, 4, 5]));
        let paces: BTreeSet<u32> = drawn.iter().map(|swarm| swarm.pace).collect();
        assert_eq!(paces, BTreeSet::from([1, 2, 3]));
        for kind in FaultKind::ALL {
            let with =
                drawn.iter().filter(|swarm| swarm.faults.iter().any(|(fault, _)| *fault == kind)).count();
            assert!((45..120).contains(&with), "{kind:?} in {with} of 300");
        }
        assert!(drawn.iter().any(|swarm| swarm.faults.is_empty() || swarm.faults.len() <= 2));
        assert!(drawn.iter().all(|swarm| swarm.payments.mix.single > 0));
    }
}

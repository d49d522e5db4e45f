//! What a seed draws: each run is another kind of bad day, with some faults in it and others not.
//!
//! A run with every fault at once explores less than many runs with a few each: where everything fails, nothing gets far
//! enough to fail in an interesting way.

use super::disk::Latency;
use super::net::Conditions;
use super::random;
use mux_raft::machine::command::COMMAND_FORMAT;
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

/// What payers do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payments {
    /// Which ways, how often.
    pub mix: PaymentMix,
    /// Between two payments on average, in milliseconds.
    pub pause_ms: u64,
    /// The cluster settles by itself; otherwise applications do.
    pub auto_settle: bool,
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

/// What can happen to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// A replica is killed, and comes back.
    Kill,
    /// The leader is killed, and comes back.
    KillLeader,
    /// A replica loses its power, and comes back.
    PowerCut,
    /// All replicas lose their power at once, and come back one after the other.
    PowerCutAll,
    /// The cluster is cut in two.
    Partition,
    /// Messages between two replicas pass in one direction only.
    OneWay,
    /// The leader cannot be reached, or reach anybody.
    CutOffLeader,
    /// A replica stands still.
    Pause,
    /// The leader stands still.
    PauseLeader,
    /// Connections break.
    Break,
    /// Messages between two replicas are slow.
    SlowLink,
    /// A replica's wall clock jumps.
    ClockJump,
    /// A replica's disk is slow.
    SlowDisk,
    /// A replica's disk is full, and is given room.
    FullDisk,
    /// A replica's disk fails, and is well after a restart.
    FailingDisk,
    /// An LND node is killed, and comes back with its database; with a standby, the other one does.
    LndKill,
    /// An LND node is stopped and started, in its own order.
    LndRestart,
    /// Connections to an LND node are reset, or stall.
    LndCut,
    /// All peers of an LND node leave and return, several times: it offers all that is held again and again.
    LndStorm,
    /// Answers get no further than an LND node's memory, and are then lost.
    LndLosesAnswers,
    /// A channel goes on chain with everything on it.
    LndForceClose,
    /// An LND node fails a held HTLC by itself.
    LndFails,
    /// An LND node stands still.
    LndPause,
    /// A replica cannot reach an LND node, or the other way round, or both; mostly the one that has its link.
    LndCutOff,
    /// Blocks come fast, as long as nothing is decided and not settled.
    Blocks,
    /// The leader is killed in the moment in which a set is decided.
    KillDecider,
    /// A replica dies at a named point of its own code.
    CrashAtPoint,
    /// A replica falls behind, and dies at a named point while it takes a snapshot.
    CrashInInstall,
    /// A replica loses its disk, and is replaced by one with another id.
    Wipe,
    /// A replica that began with the version before this one gets this one. In runs without this fault all have it.
    Upgrade,
    /// The leader is cut off with much that was proposed to it, comes back, and dies when that is being replaced.
    StaleTail,
    /// The owner of a link hears of the log late, and has to open its stream anew.
    LaggingOwner,
    /// Replicas that are well are removed, down to three or fewer, and join again under other ids.
    Shrink,
    /// For a while an LND node tells nobody how HTLCs end, as if each event had come while nobody listened.
    LndDropsFinals,
    /// The chain loses blocks, and finds others, at once or by and by.
    Reorg,
    /// The peers of an LND node take preimages and sign nothing until HTLCs are near their end. In runs with this fault the
    /// cluster may close channels.
    LndStrands,
}

impl FaultKind {
    /// All there are.
    pub const ALL: [Self; 36] = [
        Self::Kill,
        Self::KillLeader,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::Partition,
        Self::OneWay,
        Self::CutOffLeader,
        Self::Pause,
        Self::PauseLeader,
        Self::Break,
        Self::SlowLink,
        Self::ClockJump,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailingDisk,
        Self::LndKill,
        Self::LndRestart,
        Self::LndCut,
        Self::LndStorm,
        Self::LndLosesAnswers,
        Self::LndForceClose,
        Self::LndFails,
        Self::LndPause,
        Self::LndCutOff,
        Self::Blocks,
        Self::KillDecider,
        Self::CrashAtPoint,
        Self::CrashInInstall,
        Self::Wipe,
        Self::Upgrade,
        Self::StaleTail,
        Self::LaggingOwner,
        Self::Shrink,
        Self::LndDropsFinals,
        Self::Reorg,
        Self::LndStrands,
    ];

    /// Came later than the others, and is drawn beside them, so that seeds without it stay what they were.
    const fn is_late(self) -> bool {
        matches!(
            self,
            Self::StaleTail
                | Self::LaggingOwner
                | Self::Shrink
                | Self::LndDropsFinals
                | Self::Reorg
                | Self::LndStrands
        )
    }
}

impl Swarm {
    /// Whether this can happen in this run.
    #[must_use]
    pub fn has(&self, fault: FaultKind) -> bool {
        self.faults.iter().any(|(kind, _)| *kind == fault)
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
                FaultKind::StaleTail | FaultKind::LaggingOwner | FaultKind::LndStrands => {
                    (0.25, 2_000.0, 10_000.0)
                }
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
        let (installs, lags) = (has(FaultKind::CrashInInstall), has(FaultKind::LaggingOwner));
        Self {
            seed,
            replicas,
            network: mishaps(network(rng), &mut random::stream(seed, "mishaps")),
            disk: disk(rng),
            torn_writes,
            snapshot_every: if installs { 50 } else { snapshot_every },
            keep_logs: if installs { 10 } else { keep_logs },
            faults,
            load: Load { clients: rng.random_range(1..=3), pause_ms: *pick(rng, &LOADS_MS) },
            payments: payments(rng, lags),
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

fn payments(rng: &mut StdRng, lags: bool) -> Payments {
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
    Payments { mix, pause_ms: *pick(rng, &[700, 1_500, 4_000]), auto_settle }
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
        for kind in FaultKind::ALL {
            let with =
                drawn.iter().filter(|swarm| swarm.faults.iter().any(|(fault, _)| *fault == kind)).count();
            assert!((45..120).contains(&with), "{kind:?} in {with} of 300");
        }
        assert!(drawn.iter().any(|swarm| swarm.faults.is_empty() || swarm.faults.len() <= 2));
        assert!(drawn.iter().all(|swarm| swarm.payments.mix.single > 0));
    }
}

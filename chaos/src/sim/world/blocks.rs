//! When blocks are found, and lost.

use super::World;
use crate::lndsim::core::Command;
use crate::sim::coverage::Condition;
use crate::sim::lnd::LndHost;
use crate::sim::random;
use crate::sim::swarm::Swarm;
use crate::sim::time::SimTime;
use crate::sim::trace;
use mux_proto::lndsim::v1::{HtlcEntry, SetHeightRequest};
use mux_raft::types::LogIndex;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A set that was decided this long ago and is not settled everywhere: blocks are rare until it is. Nobody promises
/// anything if two dozen of them come between a decision and its answer.
pub(super) const DECIDED_LONG_AGO: Duration = Duration::from_secs(4);
const THEN_A_BLOCK_EVERY: Duration = Duration::from_secs(12);

/// Between the blocks of a storm. A node that was not heard of for 3 s decides nothing, so what the cluster believes of its
/// height is behind by fewer blocks than it keeps in hand before LND fails what is held.
pub(super) const STORM_EVERY: Duration = Duration::from_millis(400);

/// An entry that is in a log for so long and was not applied by anybody: it may be a decision, taken by what was known when it
/// was made. None of it is seen, and it counts: its blocks have begun.
const MAYBE_DECIDED: Duration = Duration::from_secs(1);

/// So many blocks before the first expiry the chain jumps at most, and goes on fast: the cluster gives up what is undecided
/// when there are a few less, and LND fails what is held when 19 are left.
const LAST: u32 = 34;

/// Blocks that a reorganisation replaces.
const REPLACED: RangeInclusive<u32> = 1..=6;

/// When blocks are found.
#[derive(Debug)]
pub(super) struct Blocks {
    rng: StdRng,
    mean: Duration,
    next: SimTime,
    last: SimTime,
    /// Still to come, fast.
    fast: u32,
    /// An LND node is to fail the first HTLC that can be failed.
    pub(super) fails_one: bool,
    /// An entry that nobody had applied at this moment.
    unapplied: Option<(LogIndex, SimTime)>,
}

impl Blocks {
    pub(super) fn new(swarm: &Swarm) -> Self {
        let mut rng = random::stream(swarm.seed, "blocks");
        let mean = Duration::from_millis(swarm.lnds.block_ms);
        let next = SimTime::ZERO + random::interval(&mut rng, mean);
        Self { rng, mean, next, last: SimTime::ZERO, fast: 0, fails_one: false, unapplied: None }
    }

    /// So many more come fast.
    pub(super) fn storm(&mut self, blocks: u32) {
        self.fast += blocks;
    }

    /// None comes fast any more, and nothing is waited for.
    pub(super) fn calm(&mut self) {
        self.fast = 0;
        self.fails_one = false;
    }
}

impl World {
    /// Blocks that are due.
    pub(super) fn find_blocks_in_time(&mut self) {
        let now = self.now;
        if now < self.blocks.next && self.blocks.fast == 0 {
            return;
        }
        let decided = self.settlements.undone().next().is_some() || self.may_have_decided();
        let blocks = &mut self.blocks;
        let slow = self.settlements.undone().any(|at| now.since(at) > DECIDED_LONG_AGO);
        if slow && now.since(blocks.last) < THEN_A_BLOCK_EVERY {
            return;
        }
        if now >= blocks.next {
            blocks.next = now + random::interval(&mut blocks.rng, blocks.mean);
        } else if !decided && now.since(blocks.last) >= STORM_EVERY {
            blocks.fast -= 1;
        } else {
            return;
        }
        blocks.last = now;
        self.find_blocks(1);
        // What may be decided must not be failed.
        if !decided {
            self.fail_one_when_asked();
        }
    }

    /// Whether something may be decided that nobody has applied yet, because there is no majority.
    fn may_have_decided(&mut self) -> bool {
        let (now, applied) = (self.now, self.watch.entries());
        let waits = self.blocks.unapplied.filter(|(index, _)| *index > applied);
        self.blocks.unapplied = waits.or_else(|| {
            let last = self.hosts.iter().map(|host| host.disk().last_log_index()).max()?;
            (last > applied).then_some((last, now))
        });
        self.blocks.unapplied.is_some_and(|(_, since)| now.since(since) > MAYBE_DECIDED)
    }

    /// Whether something may be decided that nobody has applied yet, because nobody leads.
    fn waits_for_a_leader(&self) -> bool {
        let applied = self.watch.entries();
        self.leader().is_none() && self.hosts.iter().any(|host| host.disk().last_log_index() > applied)
    }

    /// Every node sees them that runs; the others when they are back.
    pub(super) fn find_blocks(&mut self, blocks: u32) {
        self.chain.grow(blocks);
        self.show_height();
    }

    fn show_height(&self) {
        let height = self.chain.height();
        for lnd in &self.lnds {
            self.trace.digest(self.now, lnd.column(), &[b"height", &height.to_be_bytes()]);
            lnd.command(Command::SetHeight(SetHeightRequest { height }));
        }
    }

    /// The chain goes on from an earlier block: with as many others at once, as when a miner shows a branch of its own; or they
    /// come by and by, as when an LND node goes to a backend that is behind.
    pub(super) fn reorganise(&mut self) -> bool {
        let (replaced, at_once) = (self.faults.rng.random_range(REPLACED), self.faults.rng.random_bool(0.5));
        let holds = |lnd: &LndHost| lnd.running().is_some_and(|node| node.state().held_htlcs > 0);
        self.coverage.met_times(Condition::Reorganised, u64::from(self.lnds.iter().any(holds)));
        self.chain.shrink(replaced);
        let height = self.chain.height();
        self.trace.event(
            self.now,
            trace::WORLD,
            format_args!("the chain loses {replaced} blocks: its height is {height}"),
        );
        self.show_height();
        if at_once {
            self.find_blocks(replaced);
        } else {
            self.blocks.storm(replaced);
        }
        true
    }

    /// Undecided HTLCs come near their end, unless something is decided and not settled.
    pub(super) fn hurry_to_the_end(&mut self) -> bool {
        let undecided = |htlc: &HtlcEntry| htlc.offers > 0 && htlc.answers.is_empty();
        let nodes = self.lnds.iter().filter_map(LndHost::running);
        let open = nodes.flat_map(|node| node.ledger().htlcs).filter(|htlc| htlc.r#final.is_none());
        let open: Vec<HtlcEntry> = open.collect();
        let first = open.iter().map(|htlc| htlc.incoming_expiry).min();
        let decided = self.settlements.undone().next().is_some() || self.waits_for_a_leader();
        let Some(first) = first.filter(|_| !decided && open.iter().any(undecided)) else { return false };
        let left = first.saturating_sub(self.chain.height());
        if left > LAST {
            self.find_blocks(left - LAST);
        }
        self.trace.event(self.now, trace::WORLD, format_args!("blocks come up to height {first}"));
        self.blocks.storm(LAST);
        true
    }
}

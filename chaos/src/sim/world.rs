//! A cluster of real replicas, what applications do with it, what happens to it, and what is checked after each tick.
//!
//! * `replica_host`: a replica on a host with its disk. `load`: applications. `schedule`: when what happens; `faults`: what
//!   that does. `watch`: what must hold. `outcome`: what a run reports.
//!
//! LND nodes, links and payers are not here yet. They are hosts as well: a host in `World::hosts` (or a list beside it)
//! with the node's services on its port, faults of their own in [`super::swarm::FaultKind`], a load that pays by
//! [`super::swarm::PaymentMix`], and checks in `watch`.

mod faults;
mod load;
mod outcome;
mod replica_host;
mod schedule;
mod watch;

use super::coverage::{Condition, Coverage};
use super::host::{Ending, HostId};
use super::net::Network;
use super::random;
use super::swarm::Swarm;
use super::time::{SimTime, TICK};
use super::trace::{self, Trace};
use faults::Faults;
use load::Book;
use mux_raft::types::ReplicaId;
pub use outcome::{Outcome, Proposals};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use replica_host::{Cluster, ReplicaHost};
use schedule::Schedule;
use std::path::Path;
use std::time::Duration;
use watch::Watch;

/// In this time everything must have converged once nothing is wrong any more.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    swarm: Swarm,
    dir: String,
    now: SimTime,
    order: StdRng,
    network: Network,
    trace: Trace,
    coverage: Coverage,
    hosts: Vec<ReplicaHost>,
    schedule: Schedule,
    faults: Faults,
    book: Book,
    watch: Watch,
}

impl World {
    /// A world that begins with all replicas down and empty. Below `dir` are the snapshots. The last `keep` lines of the
    /// trace are kept.
    #[must_use]
    pub fn new(swarm: Swarm, dir: &Path, keep: usize) -> Self {
        let seed = swarm.seed;
        let ids: Vec<ReplicaId> =
            (1..=swarm.replicas).filter_map(|id| ReplicaId::try_from(id).ok()).collect();
        let trace = Trace::new(ids.iter().map(|id| format!("replica {id}")), keep);
        let network = Network::new(seed, swarm.network.clone(), trace.clone());
        let (coverage, book) = (Coverage::default(), Book::new(seed, swarm.load.clone()));
        let cluster = Cluster::new(&ids, dir, &swarm);
        let hosts: Vec<ReplicaHost> =
            ids.iter().map(|id| ReplicaHost::new(*id, &cluster, &network, &swarm)).collect();
        Self {
            dir: dir.display().to_string(),
            now: SimTime::ZERO,
            order: random::stream(seed, "order"),
            schedule: Schedule::new(&swarm),
            faults: Faults::new(seed),
            watch: Watch::new(hosts.len()),
            swarm,
            network,
            trace,
            coverage,
            hosts,
            book,
        }
    }

    /// Runs for this long with faults, then heals and waits for all to converge. Ends early with the first violation.
    #[must_use]
    pub fn run(mut self, time: Duration) -> (Outcome, Trace) {
        let end = SimTime::ZERO + time;
        for at in 0..self.hosts.len() {
            self.start(at);
        }
        while self.now < end && self.watch.is_fine() {
            self.begin_and_end_faults();
            self.tick();
        }
        if self.watch.is_fine() {
            self.heal();
        }
        self.finish()
    }

    fn tick(&mut self) {
        let until = self.now + TICK;
        self.network.tick(self.now, until);
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.shuffle(&mut self.order);
        for at in order {
            if let Some(host) = self.hosts.get_mut(at) {
                host.step(self.now, until);
            }
        }
        self.now = until;
        self.bury_the_dead();
        self.watch.look(self.now, &mut self.hosts, &self.trace, &self.coverage);
    }

    fn start(&mut self, at: usize) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        self.trace.event(self.now, host.column(), format_args!("starts"));
        host.start(self.now, &self.book, &self.coverage);
    }

    fn end_process(&mut self, at: usize, how: Ending) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        let remains = host.end(how);
        self.watch.process_ended(at);
        self.trace.event(
            self.now,
            host.column(),
            format_args!("{how:?}; of {} unsynced batches {} are lost", remains.unsynced, remains.lost),
        );
        self.coverage.met_times(Condition::UnsyncedLost, u64::from(remains.lost > 0));
        self.coverage.met_times(Condition::BatchTorn, u64::from(remains.torn));
        if self.hosts.iter().all(|host| !host.is_up()) {
            self.coverage.met(Condition::AllDown);
        }
    }

    /// Replicas that cannot go on end their processes, and are started again as a supervisor would.
    fn bury_the_dead(&mut self) {
        for at in 0..self.hosts.len() {
            let Some(host) = self.hosts.get_mut(at) else { continue };
            let Some(reason) = host.take_stopped() else { continue };
            // Where the files are differs from run to run.
            let reason = reason.replace(&self.dir, "");
            let (id, blamed) = (host.id(), self.faults.blame_disk(self.now, host.host_id()));
            self.trace.event(self.now, host.column(), format_args!("stops: {reason}"));
            match blamed {
                Some(condition) => self.coverage.met(condition),
                None => self.watch.violated(self.now, format!("replica {id} stopped by itself: {reason}")),
            }
            self.end_process(at, Ending::Killed);
            self.faults.starts_again(self.now, at);
        }
    }

    fn heal(&mut self) {
        self.trace.event(self.now, trace::WORLD, format_args!("heals"));
        self.watch.heals(self.now);
        self.undo_all();
        self.book.stop();
        let deadline = self.now + HEALED_WITHIN;
        loop {
            let look = self.now + LOOK;
            while self.now < look && self.watch.is_fine() {
                self.begin_and_end_faults();
                self.tick();
            }
            let unfinished = self.book.under_way();
            let state = self.watch.converged(&self.hosts);
            match state {
                _ if !self.watch.is_fine() => return,
                Ok(()) if unfinished == 0 => break,
                _ if self.now < deadline => {}
                state => {
                    let why = state.err().unwrap_or_else(|| format!("{unfinished} proposals are under way"));
                    let text = format!("not converged {HEALED_WITHIN:?} after the last fault: {why}");
                    return self.watch.violated(self.now, text);
                }
            }
        }
        self.watch.healed(self.now);
        for problem in self.book.check(&self.hosts) {
            self.watch.violated(self.now, problem);
        }
    }

    fn finish(self) -> (Outcome, Trace) {
        let traffic = self.network.traffic();
        self.coverage.met_times(Condition::Duplicated, traffic.duplicated);
        let proposals = self.book.proposals();
        self.coverage.met_times(Condition::UnknownOutcome, proposals.unknown);
        self.coverage.met_times(Condition::TermsPassed, u64::from(self.watch.terms() > 2));
        let outcome = Outcome {
            seed: self.swarm.seed,
            trace_hash: hex::encode(self.trace.hash()),
            events: self.trace.events(),
            simulated_ms: self.now.as_ms(),
            healed_in_ms: self.watch.healed_in_ms(),
            terms: self.watch.terms(),
            entries: self.watch.entries(),
            proposals,
            traffic,
            faults: self.faults.counts(),
            coverage: self.coverage.counts(),
            violations: self.watch.into_violations(),
        };
        (outcome, self.trace)
    }

    fn host_ids(&self) -> Vec<HostId> {
        self.hosts.iter().map(ReplicaHost::host_id).collect()
    }
}

//! A cluster of real replicas with LND nodes, who uses it, what happens to it, and what is checked after each tick.
//!
//! * `replica_host`: a replica on a host with its disk. `fronts`: the LND nodes. `load`, `reads`: commands by the thousand, and
//!   reads, without payments. Payments: [`super::payments`].
//! * `schedule`: when what happens; `faults`, `points`, `replacing`, `upgrading`, `stale`, `lnd_faults`, `blocks`,
//!   `stranding`: what that does.
//! * `watch`: what must hold of replicas; `logs`: of what is on their disks. `settlements`, `decisions`, `patience`,
//!   `promises`: what must hold of money. `rest`: the end of a run, when all must have ended and everybody's books agree; `replays`: that states are what the
//!   log makes them. `outcome`: what a run reports.

mod blocks;
mod decisions;
mod faults;
mod fronts;
mod links;
mod lnd_faults;
mod load;
mod logs;
mod outcome;
mod patience;
mod points;
mod promises;
mod reads;
mod replacing;
mod replays;
mod replica_host;
mod rest;
mod schedule;
mod settlements;
mod stale;
mod stranding;
mod upgrading;
mod wall_clocks;
mod watch;

use super::coverage::{Condition, Coverage};
use super::disk::Remains;
use super::host::{Ending, HostClock, HostId};
use super::lnd::{Chain, LndHost};
use super::net::Network;
use super::payments::{Payments, PaymentsHost};
use super::random;
use super::swarm::Swarm;
use super::time::SimTime;
use super::trace::{self, Trace};
use crate::lndsim::core::Command;
use blocks::Blocks;
use faults::Faults;
use fronts::Fronts;
use links::Owners;
use lnd_faults::Silences;
use load::Book;
use mux_proto::lndsim::v1::OpenChannelRequest;
use mux_raft::types::ReplicaId;
pub use outcome::{Outcome, PaymentCounts, Proposals};
use points::Points;
pub(crate) use points::needed as needed_points;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use replacing::Replacing;
use replica_host::{Cluster, ReplicaHost};
use schedule::Schedule;
use settlements::Settlements;
use stale::StaleTail;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stranding::Stranding;
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
    lnds: Vec<LndHost>,
    chain: Chain,
    blocks: Blocks,
    silences: Silences,
    stranding: Stranding,
    payments: Payments,
    payers: PaymentsHost,
    settlements: Settlements,
    owners: Owners,
    schedule: Schedule,
    faults: Faults,
    points: Points,
    replacing: Replacing,
    tail: StaleTail,
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
        let replicas = ids.iter().map(|id| format!("replica {id}"));
        let others = fronts::aliases(&swarm).map(str::to_owned).chain(["payers".to_owned()]);
        let trace = Trace::new(replicas.chain(others), keep);
        let network = Network::new(seed, swarm.network.clone(), trace.clone());
        let (coverage, book) = (Coverage::default(), Book::new(seed, swarm.load.clone()));
        let chain = fronts::chain();
        let lnds = fronts::nodes(&swarm, ids.len() + 1, &chain, &network);
        let cluster = Cluster::new(&ids, dir, &swarm, Arc::new(Fronts::new(&swarm, &lnds)));
        let hosts: Vec<ReplicaHost> =
            ids.iter().map(|id| ReplicaHost::new(*id, &cluster, &network, &swarm)).collect();
        let clients = HostId(hosts.len() + lnds.len() + 1);
        let of_lnds = lnds.iter().map(|lnd| (lnd.host_id(), fronts::of_lnds(&swarm)));
        for (at, conditions) in of_lnds.chain([(clients, fronts::of_clients(&swarm))]) {
            for replica in hosts.iter().map(ReplicaHost::host_id) {
                network.set_conditions(at, replica, Some(conditions.clone()));
                network.set_conditions(replica, at, Some(conditions.clone()));
            }
        }
        let payments = Payments::new(seed, swarm.payments.clone());
        let peers = lnds.iter().map(LndHost::peer).collect();
        let replicas = ids.iter().map(|id| (*id, replica_host::api_of(*id))).collect();
        let payers = PaymentsHost::start((clients, &network), SimTime::ZERO, &payments, peers, replicas);
        Self {
            dir: dir.display().to_string(),
            now: SimTime::ZERO,
            order: random::stream(seed, "order"),
            schedule: Schedule::new(&swarm),
            faults: Faults::new(seed),
            points: Points::default(),
            replacing: Replacing::default(),
            tail: StaleTail::default(),
            watch: Watch::new(hosts.len(), swarm.timing().election_max),
            blocks: Blocks::new(&swarm),
            silences: Silences::default(),
            stranding: Stranding::default(),
            swarm,
            network,
            trace,
            coverage,
            settlements: Settlements::default(),
            owners: Owners::default(),
            hosts,
            lnds,
            chain,
            payments,
            payers,
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
        for at in 0..self.lnds.len() {
            self.start_lnd(at);
        }
        while self.now < end && self.watch.is_fine() {
            self.begin_and_end_faults();
            self.tick();
        }
        if self.watch.is_fine() {
            self.heal();
        }
        if self.watch.is_fine() {
            self.come_to_rest();
        }
        self.finish()
    }

    fn tick(&mut self) {
        let until = self.now + self.swarm.tick();
        self.network.tick(self.now, until);
        self.find_blocks_in_time();
        self.payments.set_time(HostClock::wall_at(self.now));
        let (replicas, lnds) = (self.hosts.len(), self.lnds.len());
        let mut order: Vec<usize> = (0..=replicas + lnds).collect();
        order.shuffle(&mut self.order);
        for at in order {
            if let Some(host) = self.hosts.get_mut(at) {
                self.points.step(at, host, self.now, until);
            } else if let Some(lnd) = self.lnds.get_mut(at - replicas) {
                lnd.step(self.now, until);
            } else {
                self.payers.step(self.now, until);
            }
        }
        self.now = until;
        // Before the dead are buried: what they applied in their last tick may have been told already.
        self.look_at_settlements();
        self.look_at_settles();
        self.look_at_fails();
        self.look_at_resumes();
        self.watch.look(self.now, &mut self.hosts, &self.trace, &self.coverage);
        self.bury_those_at_points();
        self.strike_when_decided();
        if self.now.is_multiple_of(LOOK) {
            self.look_at_links();
        }
        self.bury_the_dead();
        for problem in self.network.take_double_votes().into_iter().chain(self.book.take_problems()) {
            self.watch.violated(self.now, problem);
        }
    }

    fn start(&mut self, at: usize) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        self.trace.event(self.now, host.column(), format_args!("starts"));
        host.start(self.now, &self.book, &self.coverage);
    }

    fn end_process(&mut self, at: usize, how: Ending) {
        self.coverage.met_times(Condition::DiedDecided, u64::from(self.leads_untold(at)));
        let Some(host) = self.hosts.get_mut(at) else { return };
        let remains = host.end(how);
        self.watch.process_ended(at);
        self.trace.event(
            self.now,
            host.column(),
            format_args!("{how:?}; of {} unsynced batches {} are lost", remains.unsynced, remains.lost),
        );
        self.note_remains(remains);
        if self.hosts.iter().all(|host| !host.is_up()) {
            self.coverage.met(Condition::AllDown);
        }
    }

    fn note_remains(&self, remains: Remains) {
        self.coverage.met_times(Condition::UnsyncedLost, u64::from(remains.lost > 0));
        self.coverage.met_times(Condition::BatchTorn, u64::from(remains.torn));
    }

    /// Replicas that cannot go on end their processes, and are started again as a supervisor would.
    fn bury_the_dead(&mut self) {
        for at in 0..self.hosts.len() {
            let Some(host) = self.hosts.get_mut(at) else { continue };
            let Some(reason) = host.take_stopped() else { continue };
            // Where the files are differs from run to run.
            let reason = reason.replace(&self.dir, "");
            if self.is_refused(at, &reason) {
                self.end_process(at, Ending::Killed);
                self.take_new_id(at);
                continue;
            }
            let Some(host) = self.hosts.get_mut(at) else { continue };
            let (id, blamed) = (host.id(), self.faults.blame_disk(self.now, host.host_id(), &reason));
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
        self.payments.stop();
        let deadline = self.now + HEALED_WITHIN;
        loop {
            let look = self.now + LOOK;
            while self.now < look && self.watch.is_fine() {
                self.begin_and_end_faults();
                self.tick();
            }
            let unfinished = self.book.under_way();
            let state = self.replacing.finished().and_then(|()| self.watch.converged(&self.hosts));
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
        // What was paid before may have left no room.
        for lnd in &self.lnds {
            lnd.command(Command::OpenChannel(OpenChannelRequest::default()));
        }
        self.payers.pay_afresh(self.lnds.iter().map(LndHost::peer).collect());
        for problem in self.book.check(&self.hosts) {
            self.watch.violated(self.now, problem);
        }
    }

    fn finish(self) -> (Outcome, Trace) {
        let traffic = self.network.traffic();
        self.coverage.met_times(Condition::Duplicated, traffic.duplicated);
        self.coverage.met_times(Condition::AnswerLost, traffic.answers_lost);
        self.coverage.met_times(Condition::Overtaken, traffic.overtaken);
        let proposals = self.book.proposals();
        self.coverage.met_times(Condition::UnknownOutcome, proposals.unknown);
        self.coverage.met_times(Condition::TermsPassed, u64::from(self.watch.terms() > 2));
        let payments = PaymentCounts::of(&self.payments);
        self.coverage.met_times(Condition::Forwarded, payments.forwards);
        let outcome = Outcome {
            seed: self.swarm.seed,
            trace_hash: hex::encode(self.trace.hash()),
            events: self.trace.events(),
            simulated_ms: self.now.as_ms(),
            healed_in_ms: self.watch.healed_in_ms(),
            terms: self.watch.terms(),
            entries: self.watch.entries(),
            proposals,
            payments,
            traffic,
            faults: self.faults.counts(),
            points: self.points.counts(),
            coverage: self.coverage.counts(),
            violations: self.watch.into_violations(),
        };
        (outcome, self.trace)
    }

    fn start_lnd(&mut self, at: usize) {
        let Some(lnd) = self.lnds.get_mut(at) else { return };
        self.trace.event(self.now, lnd.column(), format_args!("starts"));
        lnd.start(self.now);
    }

    /// Whether this one leads, and a set is decided of which no LND node has heard.
    fn leads_untold(&self, at: usize) -> bool {
        self.hosts.get(at).is_some_and(ReplicaHost::leads) && self.settlements.is_untold()
    }

    fn host_ids(&self) -> Vec<HostId> {
        self.hosts.iter().map(ReplicaHost::host_id).collect()
    }
}

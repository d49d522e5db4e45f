//! Replicas with something that is out of date: a leader with a tail of its log that nobody else has, which is replaced
//! later, and a link's owner that hears late what the others have.

use super::World;
use super::lnd_faults::LndEnd;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::Condition;
use crate::sim::host::{Ending, HostId};
use crate::sim::time::SimTime;
use crate::sim::trace;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::Command;
use mux_raft::machine::command::CancelScope;
use mux_raft::types::{LogIndex, PaymentHash};
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;

/// In this time the others have another leader, or they never will while there are other faults.
const ELECTED_WITHIN: Duration = Duration::from_secs(5);
/// In this time whoever was the leader has heard of the new one.
const REPLACED_WITHIN: Duration = Duration::from_secs(3);

/// The tail that is to be replaced, if there is one at the moment.
#[derive(Debug, Default)]
pub(super) struct StaleTail {
    current: Option<Tail>,
}

#[derive(Debug)]
struct Tail {
    /// Whose.
    at: usize,
    /// In which it led.
    term: u64,
    links: Vec<(HostId, HostId)>,
    step: Step,
    until: SimTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nobody hears of what is proposed to it.
    CutOff,
    /// It is back, with a log that ends here.
    Back { end: LogIndex },
    /// Its tail is being replaced.
    Replaced,
}

/// What nobody knows, so that nothing comes of cancelling it.
fn proposal(number: u8) -> Command {
    let mut hash = [0xfe; 32];
    hash[0] = number;
    Command::CancelInvoice { hash: PaymentHash(hash), scope: CancelScope::Invoice }
}

impl World {
    /// The leader is cut off, and much is proposed to it.
    pub(super) fn cut_off_with_a_tail(&mut self) -> bool {
        let Some(at) = self.leader().filter(|_| self.tail.current.is_none()) else { return false };
        let leader = &self.hosts[at];
        let Some((replica, term)) =
            leader.replica().map(|seen| (Arc::clone(&seen.replica), seen.status.borrow().term))
        else {
            return false;
        };
        let proposals = self.faults.rng().random_range(30..=200);
        leader.spawn(async move {
            let asked = (0..proposals).map(|number| replica.propose(proposal(number), None));
            drop(futures::future::join_all(asked).await);
        });
        let (leader, hosts) = (leader.host_id(), self.host_ids());
        let others = hosts.into_iter().filter(|host| *host != leader);
        let links: Vec<_> = others.flat_map(|other| [(leader, other), (other, leader)]).collect();
        self.trace.event(
            self.now,
            trace::WORLD,
            format_args!("the leader is cut off with {proposals} proposals"),
        );
        links.iter().for_each(|(from, to)| self.network.hold(*from, *to));
        let until = self.now + ELECTED_WITHIN;
        self.tail.current = Some(Tail { at, term, links, step: Step::CutOff, until });
        true
    }

    /// Lets it come back as soon as there is another leader, and die as soon as it has begun to follow.
    pub(super) fn go_on_with_the_tail(&mut self) {
        let Some(mut tail) = self.tail.current.take() else { return };
        let log = self.hosts[tail.at].replica().map(|seen| {
            let status = seen.status.borrow();
            (status.term, status.last_log_index)
        });
        // It has ended, or waits too long.
        let Some((term, end)) = log.filter(|_| self.now < tail.until) else {
            return self.let_pass(&tail);
        };
        match tail.step {
            Step::CutOff => {
                let elected = |host: &ReplicaHost| {
                    host.replica().is_some_and(|seen| {
                        let status = seen.status.borrow();
                        status.leads && status.term > tail.term
                    })
                };
                if self.hosts.iter().any(elected) {
                    self.let_pass(&tail);
                    let column = self.hosts[tail.at].column();
                    self.trace.event(self.now, column, format_args!("comes back with entries up to {end}"));
                    (tail.step, tail.until) = (Step::Back { end }, self.now + REPLACED_WITHIN);
                }
            }
            Step::Back { end: before } if term > tail.term && end > before => return,
            Step::Back { end: before } if term > tail.term && end < before => {
                let column = self.hosts[tail.at].column();
                self.trace.event(
                    self.now,
                    column,
                    format_args!("has entries up to {end} instead of {before}"),
                );
                // Now, or when it has confirmed some of what it has instead.
                let wait = self.faults.time(0..=60);
                (tail.step, tail.until) = (Step::Replaced, self.now + wait);
                if wait.is_zero() {
                    return self.die_with_the_tail(tail.at);
                }
            }
            Step::Back { .. } => {}
            Step::Replaced if self.now + Duration::from_millis(5) >= tail.until => {
                return self.die_with_the_tail(tail.at);
            }
            Step::Replaced => {}
        }
        self.tail.current = Some(tail);
    }

    fn let_pass(&self, tail: &Tail) {
        if tail.step == Step::CutOff {
            tail.links.iter().for_each(|(from, to)| self.network.release(*from, *to));
        }
    }

    fn die_with_the_tail(&mut self, at: usize) {
        self.coverage.met(Condition::TailReplaced);
        let how = if self.faults.rng().random_bool(0.5) { Ending::PowerCut } else { Ending::Killed };
        self.end_process(at, how);
        self.faults.starts_again(self.now, at);
    }

    /// Its stream is about to break: whether its owner is behind is seen now.
    pub(super) fn look_at_lagging_owner(&self, lnd: usize) {
        let owner = self.owner_of(self.lnds[lnd].node());
        let lags = owner.and_then(|at| self.applied_by(at)).is_some_and(|index| index < self.watch.entries());
        self.coverage.met_times(Condition::OwnerLags, u64::from(lags));
    }

    /// A follower that has a link hears from the leader late, and has to open its stream anew while it does.
    pub(super) fn let_owner_lag(&mut self) -> bool {
        let lnd = self.faults.rng().random_range(0..self.lnds.len());
        let owner = self.owner_of(self.lnds[lnd].node());
        let (Some(leader), Some(owner)) = (self.leader(), owner) else { return false };
        if leader == owner || !self.hosts[owner].is_up() || !self.lnds[lnd].is_up() {
            return false;
        }
        let (from, to) = (self.hosts[leader].host_id(), self.hosts[owner].host_id());
        let mut slow = self.swarm.network.clone();
        let least = self.faults.rng().random_range(100..=350);
        slow.delay_ms = least..=least + 150;
        self.trace.event(
            self.now,
            self.hosts[owner].column(),
            format_args!("hears from the leader after {:?} ms", slow.delay_ms),
        );
        self.network.set_conditions(from, to, Some(slow));
        let (breaks, ends) = (self.faults.time(200..=800), self.faults.time(3_500..=5_000));
        let taken_ms = self.faults.rng().random_range(600..=1_800);
        self.faults.lnd_ends_in(self.now, breaks, LndEnd::Cut(lnd, taken_ms));
        self.faults.conditions_end_in(self.now, ends, (from, to));
        true
    }
}

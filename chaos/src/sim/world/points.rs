//! Crashes at the named moments of the replica's own code ([`mux_raft::fault`], [`muxd::fault`]).

use super::World;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::{Condition, Need};
use crate::sim::disk::Remains;
use crate::sim::host::Ending;
use crate::sim::time::SimTime;
use mux_raft::fault;
use rand::Rng as _;
use rand::rngs::StdRng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

/// Only an archive on a real disk meets these.
const OF_A_DISK: [&str; 3] = ["archive.write", "archive.written", "archive.delete"];
/// What every replica meets all the time that does anything. The others take a snapshot, or more, and are rarer.
const COMMON: [&str; 12] = [
    "answer.given",
    "answer.worded",
    "apply.answered",
    "apply.applied",
    "apply.begin",
    "log.synced",
    "log.told",
    "log.write",
    "log.written",
    "offer.screened",
    "proposal.ended",
    "vote.saved",
];
/// What a replica does that catches up by snapshot.
const INSTALLING: [&str; 6] =
    ["fetch.appended", "fetch.complete", "install.part", "install.received", "install.kept", "install.done"];
/// What is met all the time.
const AT_EVERY_ENTRY: [&str; 7] =
    ["apply.begin", "apply.applied", "apply.answered", "log.write", "log.written", "log.synced", "log.told"];
/// A point that nobody has met for so long is given up, and before that not until it had time to be met.
const PATIENCE: Duration = Duration::from_secs(20);
const NOT_BEFORE: Duration = Duration::from_secs(2);

/// The point that kills, if one does at the moment.
#[derive(Debug, Default)]
pub(super) struct Points {
    armed: Option<Armed>,
    /// How often a replica died at each.
    counts: BTreeMap<String, u64>,
}

#[derive(Clone, Debug)]
struct Armed {
    name: &'static str,
    how: Ending,
    /// Which host; none: whoever meets it first.
    at: Option<usize>,
    /// Meetings that it lets pass.
    passes: u32,
    since: SimTime,
}

/// A process that died at a point. Its disk has been told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Died {
    pub(super) name: &'static str,
    pub(super) how: Ending,
    pub(super) remains: Remains,
}

/// Every point that a simulated replica can meet.
fn reachable() -> impl Iterator<Item = &'static str> {
    let all = fault::POINTS.iter().chain(&muxd::fault::POINTS).map(|(name, _)| *name);
    all.filter(|name| !OF_A_DISK.contains(name))
}

/// Every point that some hundred runs, or only more of them, must have met.
pub(crate) fn needed(need: Need) -> impl Iterator<Item = &'static str> {
    reachable().filter(move |name| match need {
        Need::Required => COMMON.contains(name),
        Need::InMany => !COMMON.contains(name),
    })
}

impl Points {
    /// The next that meets a point, any of them, dies there.
    pub(super) fn arm(&mut self, now: SimTime, rng: &mut StdRng) -> bool {
        let names: Vec<&str> = reachable().collect();
        self.arm_one(now, rng, &names, None)
    }

    /// This host dies in the middle of catching up by snapshot, if it comes to that.
    pub(super) fn arm_install(&mut self, now: SimTime, rng: &mut StdRng, at: usize) -> bool {
        self.arm_one(now, rng, &INSTALLING, Some(at))
    }

    fn arm_one(&mut self, now: SimTime, rng: &mut StdRng, names: &[&'static str], at: Option<usize>) -> bool {
        // One that nobody has met so far may be one that nobody meets.
        let waits = |armed: &Armed| armed.at.is_some() || now.since(armed.since) < NOT_BEFORE;
        if self.armed.as_ref().is_some_and(waits) {
            return false;
        }
        let how = if rng.random_bool(0.5) { Ending::PowerCut } else { Ending::Killed };
        let name = names[rng.random_range(0..names.len())];
        let passes = if AT_EVERY_ENTRY.contains(&name) { rng.random_range(0..30) } else { 0 };
        self.armed = Some(Armed { name, how, at, passes, since: now });
        true
    }

    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }

    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.clone()
    }

    /// Lets a host run until a moment; if it meets the point it is dead from then on.
    pub(super) fn step(&mut self, at: usize, host: &mut ReplicaHost, now: SimTime, until: SimTime) {
        self.armed = self.armed.take().filter(|armed| now.since(armed.since) < PATIENCE);
        let armed = self.armed.as_mut().filter(|armed| armed.at.is_none_or(|only| only == at));
        let (Some(armed), true) = (armed, host.is_up()) else { return host.step(now, until) };
        let died: Rc<RefCell<Option<Died>>> = Rc::default();
        let passes = Rc::new(Cell::new(armed.passes));
        let (disk, port) = (host.disk().clone(), host.port());
        let hook = {
            let (died, passes, armed) = (Rc::clone(&died), Rc::clone(&passes), armed.clone());
            move |name: &'static str| {
                // What runs on in a process that is dead ends where it meets any point.
                if died.borrow().is_some() {
                    resume_unwind(Box::new("dead"));
                }
                if name != armed.name {
                    return;
                }
                if passes.get() > 0 {
                    return passes.set(passes.get() - 1);
                }
                let remains = disk.process_ended(armed.how);
                port.iter().for_each(crate::sim::net::Port::cut);
                *died.borrow_mut() = Some(Died { name, how: armed.how, remains });
                // Not a panic that anybody hears of.
                resume_unwind(Box::new("dead"));
            }
        };
        fault::on_this_thread(Some(Rc::new(hook)));
        host.step(now, until);
        fault::on_this_thread(None);
        armed.passes = passes.get();
        if let Some(died) = died.take() {
            host.died(died);
            self.armed = None;
        }
    }
}

impl World {
    /// Ends the processes that died at a point in this tick.
    pub(super) fn bury_those_at_points(&mut self) {
        for at in 0..self.hosts.len() {
            let Some(Died { name, how, remains }) = self.hosts[at].take_died() else { continue };
            self.trace.event(
                self.now,
                self.hosts[at].column(),
                format_args!(
                    "dies at {name}; of {} unsynced batches {} are lost",
                    remains.unsynced, remains.lost
                ),
            );
            self.coverage.met(Condition::CrashedAtPoint);
            self.coverage.met_times(Condition::DiedInInstall, u64::from(INSTALLING.contains(&name)));
            self.note_remains(remains);
            *self.points.counts.entry(name.to_owned()).or_default() += 1;
            self.end_process(at, how);
            self.faults.starts_again(self.now, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::swarm::Swarm;
    use mux_raft::consensus::Consensus as _;
    use mux_raft::replica::Replica;
    use std::sync::Arc;
    use tempfile::TempDir;

    /// Long enough for a first leader, and for it to apply the entries that are let pass.
    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn what_a_replica_applied_in_the_tick_in_which_it_dies_is_seen() {
        let dir = TempDir::new().unwrap();
        let swarm = Swarm { faults: Vec::new(), ..Swarm::draw(1) };
        let mut world = World::new(swarm, dir.path(), 0);
        (0..world.hosts.len()).for_each(|at| world.start(at));
        (0..world.lnds.len()).for_each(|at| world.start_lnd(at));
        let deadline = world.now + SOON;
        let mut dying: Option<(usize, Arc<Replica>)> = None;
        while world.points.counts.is_empty() {
            assert!(world.now < deadline && world.watch.is_fine(), "nobody died: {world:?}");
            if dying.is_none()
                && let Some(leader) = world.leader()
                && let Some(seen) = world.hosts[leader].replica()
            {
                dying = Some((leader, Arc::clone(&seen.replica)));
                // The leader applies an entry a round trip before anybody else.
                world.points.arm_one(world.now, &mut world.faults.rng, &["apply.answered"], Some(leader));
            }
            world.tick();
        }
        let (at, replica) = dying.unwrap();
        assert!(!world.hosts[at].is_up(), "it is buried");
        let applied = replica.state().read(|state| state.applied().index);
        assert_eq!(world.watch.entries(), applied, "what it applied last was not looked at");
    }
}

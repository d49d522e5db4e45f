use super::World;
use super::lnd_faults::LndEnd;
use super::replica_host::{ReplicaHost, Seen};
use super::stale::StaleTail;
use crate::sim::coverage::Condition;
use crate::sim::disk::{Latency, Mood};
use crate::sim::host::{Ending, HostId};
use crate::sim::random;
use crate::sim::swarm::FaultKind;
use crate::sim::time::SimTime;
use crate::sim::trace;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use std::collections::BTreeMap;
use std::time::Duration;

/// A replica stops soon after its disk has failed, or not at all.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// What is wrong at the moment, and until when.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) rng: StdRng,
    /// In the order in which they end.
    ends: BTreeMap<(SimTime, u64), End>,
    count: u64,
    counts: BTreeMap<FaultKind, u64>,
    /// Disks that fail, or failed until a moment, for which their processes may stop.
    blamed: BTreeMap<HostId, (Condition, Option<SimTime>)>,
    /// Leaders on smaller sides, as long as nobody else was seen to lead.
    cut_off: Vec<CutOff>,
}

/// A leader that hears nothing of a majority.
#[derive(Debug)]
struct CutOff {
    at: usize,
    /// In which it leads.
    term: u64,
    /// What does not pass.
    links: Vec<(HostId, HostId)>,
}

/// What ends a fault.
#[derive(Clone, Debug)]
enum End {
    Start(usize),
    Release(Vec<(HostId, HostId)>),
    Resume(usize),
    Conditions(HostId, HostId),
    Disk(usize),
    Lnd(LndEnd),
}

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: random::stream(seed, "faults"),
            ends: BTreeMap::new(),
            count: 0,
            counts: BTreeMap::new(),
            blamed: BTreeMap::new(),
            cut_off: Vec::new(),
        }
    }

    /// What happened, by kind.
    pub(super) fn counts(&self) -> BTreeMap<FaultKind, u64> {
        self.counts.clone()
    }

    /// Whether a replica may stop because of its disk: it is that bad, or was just now, and the reason is an error of the
    /// disk's.
    pub(super) fn blame_disk(&self, now: SimTime, host: HostId, reason: &str) -> Option<Condition> {
        let (condition, until) = self.blamed.get(&host)?;
        let named = Mood::ALL.into_iter().filter_map(Mood::error).any(|error| reason.contains(error));
        (named && until.is_none_or(|until| now.since(until) <= NOTICED_WITHIN)).then_some(*condition)
    }

    /// A process that has ended is started again in a while.
    pub(super) fn starts_again(&mut self, now: SimTime, at: usize) {
        let after = self.time(200..=3_000);
        self.ends_in(now, after, End::Start(at));
    }

    /// An LND node's fault ends in a while.
    pub(super) fn lnd_ends_in(&mut self, now: SimTime, time: Duration, end: LndEnd) {
        self.ends_in(now, time, End::Lnd(end));
    }

    /// One direction between two hosts is as it was in a while.
    pub(super) fn conditions_end_in(&mut self, now: SimTime, time: Duration, (from, to): (HostId, HostId)) {
        self.ends_in(now, time, End::Conditions(from, to));
    }

    /// Where chance comes from.
    pub(super) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    fn ends_in(&mut self, now: SimTime, time: Duration, end: End) {
        self.count += 1;
        self.ends.insert((now + time, self.count), end);
    }

    fn due(&mut self, now: SimTime) -> Vec<End> {
        let later = self.ends.split_off(&(now + Duration::from_millis(1), 0));
        std::mem::replace(&mut self.ends, later).into_values().collect()
    }

    pub(super) fn time(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        random::time_in(&mut self.rng, &range)
    }
}

impl World {
    /// Begins what is due and ends what is over.
    pub(super) fn begin_and_end_faults(&mut self) {
        for end in self.faults.due(self.now) {
            self.end_fault(&end);
        }
        self.go_on_replacing();
        self.go_on_with_the_tail();
        self.look_at_cut_off_leaders();
        self.go_on_stranding();
        for kind in self.schedule.due(self.now) {
            if self.begin(kind) {
                *self.faults.counts.entry(kind).or_default() += 1;
            }
        }
    }

    /// Ends everything at once, and begins nothing more.
    pub(super) fn undo_all(&mut self) {
        self.schedule.stop();
        self.points.disarm();
        self.tail = StaleTail::default();
        self.upgrade_all();
        for end in std::mem::take(&mut self.faults.ends).into_values() {
            self.end_fault(&end);
        }
        self.network.calm();
        let hosts = self.host_ids();
        for (from, to) in hosts.iter().flat_map(|from| hosts.iter().map(move |to| (*from, *to))) {
            self.network.release(from, to);
            self.network.set_conditions(from, to, None);
        }
        self.mend_lnds();
        for at in 0..self.hosts.len() {
            self.end_fault(&End::Disk(at));
            self.end_fault(&End::Resume(at));
            self.end_fault(&End::Start(at));
        }
    }

    /// False: it cannot happen now.
    fn begin(&mut self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Kill => self.end_one(None, Ending::Killed, Condition::Killed),
            FaultKind::KillLeader => self.kill_leader(),
            FaultKind::PowerCut => self.end_one(None, Ending::PowerCut, Condition::PowerCut),
            FaultKind::PowerCutAll => {
                let up: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].is_up()).collect();
                up.iter().for_each(|at| {
                    self.end_one(Some(*at), Ending::PowerCut, Condition::PowerCut);
                });
                !up.is_empty()
            }
            FaultKind::Partition => self.partition(),
            FaultKind::OneWay => self.one_way(),
            FaultKind::CutOffLeader => self.cut_off_leader(),
            FaultKind::Pause => self.pause(None, Condition::Paused),
            FaultKind::PauseLeader => {
                let leader = self.leader();
                leader.is_some() && self.pause(leader, Condition::LeaderPaused)
            }
            FaultKind::Break => self.break_connections(),
            FaultKind::SlowLink => self.slow_link(),
            FaultKind::ClockJump => self.jump_clock(),
            FaultKind::SlowDisk => self.slow_disk(),
            FaultKind::FullDisk => self.spoil_disk(Mood::Full, Condition::DiskFull),
            FaultKind::Wipe => self.wipe_one(),
            FaultKind::Upgrade => self.upgrade_one(),
            FaultKind::StaleTail => self.cut_off_with_a_tail(),
            FaultKind::Shrink => self.shrink(),
            FaultKind::LaggingOwner => self.let_owner_lag(),
            FaultKind::CrashAtPoint => self.points.arm(self.now, &mut self.faults.rng),
            FaultKind::CrashInInstall => self.fall_behind_and_crash(),
            FaultKind::FailingDisk => self.spoil_disk(Mood::Fails, Condition::DiskFailed),
            kind => self.begin_lnd_fault(kind),
        }
    }

    fn end_fault(&mut self, end: &End) {
        match end {
            End::Start(at) => {
                if !self.hosts[*at].is_up() {
                    self.start(*at);
                }
            }
            End::Release(links) => {
                self.trace.event(
                    self.now,
                    trace::WORLD,
                    format_args!("{} directions pass again", links.len()),
                );
                for (from, to) in links {
                    self.network.release(*from, *to);
                }
                self.faults.cut_off.retain(|cut_off| cut_off.links != *links);
            }
            End::Resume(at) => {
                if self.hosts[*at].is_paused() {
                    self.trace.event(self.now, self.hosts[*at].column(), format_args!("goes on"));
                    self.hosts[*at].pause(false);
                }
            }
            End::Conditions(from, to) => self.network.set_conditions(*from, *to, None),
            End::Lnd(end) => self.end_lnd_fault(end),
            End::Disk(at) => {
                let disk = self.hosts[*at].disk().clone();
                disk.set_mood(Mood::Works);
                disk.set_latency(self.swarm.disk.clone());
                if let Some((_, until)) = self.faults.blamed.get_mut(&self.hosts[*at].host_id()) {
                    until.get_or_insert(self.now);
                }
            }
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.is_up() && host.leads())
    }

    /// One that runs, drawn.
    pub(super) fn any(&mut self) -> Option<usize> {
        let running = |at: &usize| self.hosts[*at].is_up() && !self.hosts[*at].is_paused();
        let up: Vec<usize> = (0..self.hosts.len()).filter(running).collect();
        if up.is_empty() { None } else { Some(up[self.faults.rng.random_range(0..up.len())]) }
    }

    pub(super) fn kill_leader(&mut self) -> bool {
        let leader = self.leader();
        leader.is_some() && self.end_one(leader, Ending::Killed, Condition::LeaderKilled)
    }

    fn end_one(&mut self, which: Option<usize>, how: Ending, condition: Condition) -> bool {
        let Some(at) = which.or_else(|| self.any()) else { return false };
        if self.hosts[at].leads() && self.book.under_way() > 0 {
            self.coverage.met(Condition::DiedWithProposals);
        }
        self.coverage.met(condition);
        self.end_process(at, how);
        let down = self.faults.time(20..=6_000);
        self.faults.ends_in(self.now, down, End::Start(at));
        true
    }

    /// A follower is down for so long that it needs a snapshot, and dies again while it takes it.
    fn fall_behind_and_crash(&mut self) -> bool {
        let Some(at) = self.any().filter(|at| !self.hosts[*at].leads()) else { return false };
        if !self.points.arm_install(self.now, &mut self.faults.rng, at) {
            return false;
        }
        self.coverage.met(Condition::Killed);
        self.end_process(at, Ending::Killed);
        let down = self.faults.time(3_000..=12_000);
        self.faults.ends_in(self.now, down, End::Start(at));
        true
    }

    pub(super) fn hold(&mut self, links: Vec<(HostId, HostId)>, what: &str) -> bool {
        self.trace.event(self.now, trace::WORLD, format_args!("{what}: {links:?} do not pass"));
        for (from, to) in &links {
            self.network.hold(*from, *to);
        }
        let time = self.faults.time(300..=15_000);
        self.faults.ends_in(self.now, time, End::Release(links));
        true
    }

    fn partition(&mut self) -> bool {
        let mut hosts = self.host_ids();
        hosts.shuffle(&mut self.faults.rng);
        let (some, others) = hosts.split_at(self.faults.rng.random_range(1..hosts.len()));
        self.coverage.met(Condition::Partitioned);
        let across =
            some.iter().flat_map(|one| others.iter().flat_map(|other| [(*one, *other), (*other, *one)]));
        let across: Vec<_> = across.collect();
        if let Some(leader) = self.leader() {
            let is_of = |side: &[HostId]| side.contains(&self.hosts[leader].host_id());
            let side = if is_of(some) { some } else { others };
            // Of equal halves neither can elect another.
            if side.len() * 2 < hosts.len() {
                self.cuts_off(leader, across.clone());
            }
        }
        self.hold(across, "partition")
    }

    fn one_way(&mut self) -> bool {
        let mut hosts = self.host_ids();
        hosts.shuffle(&mut self.faults.rng);
        self.coverage.met(Condition::OneWay);
        // Between two, or from one to all.
        let links = if self.faults.rng.random_bool(0.5) {
            vec![(hosts[0], hosts[1])]
        } else {
            hosts.iter().skip(1).map(|to| (hosts[0], *to)).collect()
        };
        self.hold(links, "one way")
    }

    fn cut_off_leader(&mut self) -> bool {
        let Some(at) = self.leader() else { return false };
        let leader = self.hosts[at].host_id();
        let others = self.host_ids().into_iter().filter(|host| *host != leader);
        let links: Vec<_> = others.flat_map(|other| [(leader, other), (other, leader)]).collect();
        self.cuts_off(at, links.clone());
        self.hold(links, "the leader is cut off")
    }

    /// A leader is on the smaller side from now on, until this passes again.
    fn cuts_off(&mut self, at: usize, links: Vec<(HostId, HostId)>) {
        if let Some(term) = self.hosts[at].replica().map(|seen| seen.status.borrow().term) {
            self.faults.cut_off.push(CutOff { at, term, links });
        }
    }

    /// Whether the others have elected another by now.
    fn look_at_cut_off_leaders(&mut self) {
        if self.faults.cut_off.is_empty() {
            return;
        }
        let later = |at: usize, host: &ReplicaHost, cut_off: &CutOff| {
            let leads = |seen: &Seen| seen.status.borrow().leads && seen.status.borrow().term > cut_off.term;
            at != cut_off.at && host.replica().is_some_and(leads)
        };
        let (hosts, coverage) = (&self.hosts, &self.coverage);
        self.faults.cut_off.retain(|cut_off| {
            let elected = hosts.iter().enumerate().any(|(at, host)| later(at, host, cut_off));
            coverage.met_times(Condition::LeaderCutOff, u64::from(elected && hosts[cut_off.at].is_up()));
            !elected
        });
    }

    fn pause(&mut self, which: Option<usize>, condition: Condition) -> bool {
        let Some(at) = which.or_else(|| self.any()).filter(|at| !self.hosts[*at].is_paused()) else {
            return false;
        };
        let time = self.faults.time(50..=8_000);
        self.trace.event(self.now, self.hosts[at].column(), format_args!("stands still for {time:?}"));
        self.coverage.met_times(condition, u64::from(time > self.swarm.timing().election_max));
        self.hosts[at].pause(true);
        self.faults.ends_in(self.now, time, End::Resume(at));
        true
    }

    /// Two different hosts, in an order that is drawn.
    fn two(&mut self) -> (HostId, HostId) {
        let mut hosts = self.host_ids();
        hosts.shuffle(&mut self.faults.rng);
        (hosts[0], hosts[1])
    }

    fn break_connections(&mut self) -> bool {
        let (one, other) = self.two();
        let broken = self.network.break_connections(one, other);
        self.trace.event(
            self.now,
            trace::WORLD,
            format_args!("{broken} connections break: {one:?}, {other:?}"),
        );
        self.coverage.met_times(Condition::ConnectionsBroken, u64::from(broken > 0));
        broken > 0
    }

    fn slow_link(&mut self) -> bool {
        let (one, other) = self.two();
        let least = self.faults.rng.random_range(20..=400);
        let mut slow = self.swarm.network.clone();
        slow.delay_ms = least..=least + self.faults.rng.random_range(0..=400);
        self.trace.event(
            self.now,
            trace::WORLD,
            format_args!("slow: {one:?} to {other:?}, {:?} ms", slow.delay_ms),
        );
        self.network.set_conditions(one, other, Some(slow));
        self.coverage.met(Condition::SlowLink);
        let time = self.faults.time(500..=10_000);
        self.faults.ends_in(self.now, time, End::Conditions(one, other));
        true
    }

    fn jump_clock(&mut self) -> bool {
        let Some(at) = self.any() else { return false };
        let far = *[2_000, 20_000, 60_000, 3_600_000].get(self.faults.rng.random_range(0..4)).unwrap_or(&0);
        let offset = self.faults.rng.random_range(-far..=far);
        self.trace.event(self.now, self.hosts[at].column(), format_args!("wall clock off by {offset} ms"));
        self.hosts[at].set_wall_offset_ms(offset);
        self.coverage.met(Condition::ClockJumped);
        true
    }

    fn slow_disk(&mut self) -> bool {
        let Some(at) = self.any() else { return false };
        let least = self.faults.rng.random_range(20..=1_500);
        let latency = Latency { sync_ms: least..=least * 2, other_ms: 0..=least };
        self.trace.event(self.now, self.hosts[at].column(), format_args!("slow disk: {least} ms"));
        self.hosts[at].disk().set_latency(latency);
        let time = self.faults.time(500..=8_000);
        self.faults.ends_in(self.now, time, End::Disk(at));
        true
    }

    fn spoil_disk(&mut self, mood: Mood, condition: Condition) -> bool {
        let Some(at) = self.any() else { return false };
        self.trace.event(self.now, self.hosts[at].column(), format_args!("disk: {mood:?}"));
        self.faults.blamed.insert(self.hosts[at].host_id(), (condition, None));
        self.hosts[at].disk().set_mood(mood);
        let time = self.faults.time(100..=5_000);
        self.faults.ends_in(self.now, time, End::Disk(at));
        true
    }
}

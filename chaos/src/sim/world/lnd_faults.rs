//! What happens to LND nodes, and to the ways between them and replicas.

use super::World;
use super::blocks::DECIDED_LONG_AGO;
use crate::ledger::LndView;
use crate::lndsim::core::Command;
use crate::sim::coverage::Condition;
use crate::sim::host::{Ending, HostClock};
use crate::sim::lnd::{FORWARD_CHANNEL, Running};
use crate::sim::swarm::FaultKind;
use mux_proto::lndsim::v1::{
    ChannelEntry, ChannelRef, CutStreamsRequest, DropFinalEventsRequest, FailHtlcRequest, ForceCloseRequest,
    HtlcEntry, OpenChannelRequest, Power, RestartRequest, SetStageLimitRequest, Stage, channel_entry::Status,
    cut_streams_request::Mode, force_close_request::Commitment, restart_request::Phase,
};
use mux_raft::types::PaymentHash;
use rand::Rng as _;
use std::collections::BTreeSet;
use std::time::Duration;

/// What an LND node that is down cannot be told is tried again after this.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Times that the peers of a storm flap.
const FLAPS: usize = 3;

/// Of an HTLC: one block before LND fails it anyway (19 before its expiry), and eight after the cluster's last chance to decide
/// (28 before it), more than a storm of blocks makes before a replica has heard of them.
const LAST_BLOCKS: u32 = 20;

/// What ends a fault of an LND node.
#[derive(Clone, Copy, Debug)]
pub(super) enum LndEnd {
    /// Its process starts.
    Start(usize),
    /// It goes on.
    Resume(usize),
    /// What it was told is lost, and from now on it keeps everything.
    Forget(usize),
    /// Its stream breaks, and none is taken for this many milliseconds.
    Cut(usize, u64),
    /// It tells again how HTLCs end.
    Tell(usize),
    /// The peers of its channels sign again.
    Sign(usize),
}

/// When LND nodes told nobody how HTLCs end, by their wall clocks.
#[derive(Debug, Default)]
pub(super) struct Silences(Vec<Silence>);

#[derive(Debug)]
struct Silence {
    /// Which node.
    at: usize,
    from_ms: u64,
    /// None: still.
    until_ms: Option<u64>,
}

impl Silences {
    /// Whether an event of this moment was told nobody.
    fn covers(&self, at: usize, unix_ms: u64) -> bool {
        let within = |one: &Silence| one.from_ms < unix_ms && one.until_ms.is_none_or(|end| unix_ms < end);
        self.0.iter().any(|one| one.at == at && within(one))
    }

    /// Of what LND nodes hold at the end, HTLCs that the cluster had answered, whose end nobody was told.
    pub(super) fn unheard(&self, lnds: &[LndView]) -> u64 {
        let ours = |htlc: &&HtlcEntry| !htlc.answers.is_empty() && htlc.forwarded_chan_id == 0;
        let of = |(at, lnd): (usize, &LndView)| {
            let ended = lnd.htlcs.iter().filter(ours).filter_map(|htlc| htlc.r#final.as_ref());
            ended.filter(|end| self.covers(at, end.unix_ms)).count() as u64
        };
        lnds.iter().enumerate().map(of).sum()
    }
}

impl World {
    /// False: it cannot happen now.
    pub(super) fn begin_lnd_fault(&mut self, kind: FaultKind) -> bool {
        let at = self.faults.rng.random_range(0..self.lnds.len());
        let Some(node) = self.lnds[at].running().filter(|_| !self.lnds[at].is_paused()) else { return false };
        self.trace.event(self.now, self.lnds[at].column(), format_args!("{kind:?}"));
        let holds = u64::from(node.state().held_htlcs > 0);
        match kind {
            FaultKind::LndKill => {
                self.coverage.met_times(Condition::LndDiedHolding, holds);
                let fails_over = if self.swarm.lnds.standbys { holds } else { 0 };
                self.coverage.met_times(Condition::LndFailedOver, fails_over);
                self.kill_lnd(at)
            }
            FaultKind::LndRestart => {
                self.coverage.met_times(Condition::LndRestartedHolding, holds);
                self.restart(at)
            }
            FaultKind::LndCut => {
                self.coverage.met_times(Condition::CutHolding, holds);
                self.cut(at)
            }
            FaultKind::LndStorm => {
                self.coverage.met_times(Condition::StormHolding, holds);
                self.storm(at, &node)
            }
            FaultKind::LndDropsFinals => self.drop_finals(at),
            FaultKind::LndStrands => self.strand(at),
            FaultKind::Reorg => self.reorganise(),
            FaultKind::LastBlocks => self.hurry_to_the_end(),
            FaultKind::LndLosesAnswers => self.lose_answers(at),
            FaultKind::LndForceClose => self.force_close(at, &node),
            FaultKind::LndFails => self.fail_one(at) || self.hurry_to_fail_one(),
            FaultKind::LndPause => {
                let time = self.faults.time(100..=8_000);
                self.coverage.met_times(Condition::LndStoodStill, holds);
                self.lnds[at].pause(true);
                self.faults.lnd_ends_in(self.now, time, LndEnd::Resume(at));
                true
            }
            FaultKind::LndCutOff => self.cut_off(at),
            FaultKind::Blocks => {
                let blocks = self.faults.rng.random_range(5..=200);
                self.blocks.storm(blocks);
                true
            }
            FaultKind::KillDecider => {
                self.settlements.strike = true;
                true
            }
            _ => false,
        }
    }

    /// Kills the leader if that was asked for, as soon as a set is decided.
    pub(super) fn strike_when_decided(&mut self) {
        if self.settlements.strike && self.settlements.undone().next().is_some() {
            self.settlements.strike = !self.kill_leader();
        }
    }

    pub(super) fn end_lnd_fault(&mut self, end: &LndEnd) {
        match *end {
            LndEnd::Start(at) => {
                if !self.lnds[at].is_up() {
                    self.start_lnd(at);
                }
            }
            LndEnd::Resume(at) => {
                if self.lnds[at].is_paused() {
                    self.trace.event(self.now, self.lnds[at].column(), format_args!("goes on"));
                    self.lnds[at].pause(false);
                }
            }
            LndEnd::Cut(at, ms) => {
                self.look_at_lagging_owner(at);
                self.break_stream(at, ms);
            }
            LndEnd::Sign(at) => {
                if self.lnds[at].running().is_none() {
                    return self.faults.lnd_ends_in(self.now, ASK_AGAIN, LndEnd::Sign(at));
                }
                self.stranding.end();
                self.limit(at, Stage::Final);
            }
            LndEnd::Tell(at) => {
                if self.lnds[at].running().is_none() {
                    // Its database would remember that it is silent.
                    return self.faults.lnd_ends_in(self.now, ASK_AGAIN, LndEnd::Tell(at));
                }
                self.trace.event(self.now, self.lnds[at].column(), format_args!("tells how HTLCs end"));
                self.lnds[at].command(Command::DropFinalEvents(DropFinalEventsRequest { drop: false }));
                let now_ms = HostClock::wall_at(self.now);
                for silence in self.silences.0.iter_mut().filter(|one| one.at == at) {
                    silence.until_ms.get_or_insert(now_ms);
                }
            }
            LndEnd::Forget(at) => {
                let Some(node) = self.lnds[at].running() else {
                    // Its database would remember the limit, when it comes back.
                    return self.faults.lnd_ends_in(self.now, ASK_AGAIN, LndEnd::Forget(at));
                };
                let closed = self.faults.rng.random_bool(0.4) && self.force_close(at, &node);
                if !closed {
                    self.lnds[at].command(Command::Restart(RestartRequest::default()));
                }
                self.limit(at, Stage::Final);
            }
        }
    }

    /// All of them work from now on.
    pub(super) fn mend_lnds(&mut self) {
        for at in 0..self.lnds.len() {
            self.end_lnd_fault(&LndEnd::Resume(at));
            if self.lnds[at].is_up() {
                self.limit(at, Stage::Final);
            }
            self.end_lnd_fault(&LndEnd::Start(at));
            for replica in self.hosts.iter().map(super::ReplicaHost::host_id) {
                self.network.release(replica, self.lnds[at].host_id());
                self.network.release(self.lnds[at].host_id(), replica);
            }
        }
        self.blocks.calm();
        self.stranding.end();
        self.settlements.strike = false;
    }

    fn kill_lnd(&mut self, at: usize) -> bool {
        let how = if self.faults.rng.random_bool(0.7) { Ending::Killed } else { Ending::PowerCut };
        self.lnds[at].end(how);
        let down = self.faults.time(50..=5_000);
        self.faults.lnd_ends_in(self.now, down, LndEnd::Start(at));
        true
    }

    fn restart(&mut self, at: usize) -> bool {
        let rng = &mut self.faults.rng;
        let down = Phase { power: Power::Down.into(), duration_ms: rng.random_range(0..3_000) };
        let starting = Phase { power: Power::RpcActive.into(), duration_ms: rng.random_range(0..300) };
        let graceful = rng.random_bool(0.5);
        let request = RestartRequest { phases: vec![down, starting], graceful, peers_stay_offline: false };
        self.lnds[at].command(Command::Restart(request));
        true
    }

    fn cut(&mut self, at: usize) -> bool {
        let rng = &mut self.faults.rng;
        let mode = if rng.random_bool(0.3) { Mode::Stall } else { Mode::Reset };
        let request = CutStreamsRequest {
            mode: mode.into(),
            hold_slot_ms: rng.random_range(0..1_500),
            all_connections: rng.random_bool(0.5),
        };
        self.lnds[at].command(Command::CutStreams(request));
        true
    }

    /// The interceptor's stream breaks, and none can be opened for a while, in which HTLCs pile up.
    fn break_stream(&self, at: usize, hold_slot_ms: u64) {
        let request =
            CutStreamsRequest { mode: Mode::Reset.into(), hold_slot_ms, ..CutStreamsRequest::default() };
        self.lnds[at].command(Command::CutStreams(request));
    }

    /// Every HTLC that is held is offered again and again.
    fn storm(&self, at: usize, node: &Running) -> bool {
        for _ in 0..FLAPS {
            for channel in node.state().channels.iter().filter(|channel| is_open(channel) && channel.active) {
                self.lnds[at].command(Command::PeerFlap(ChannelRef { chan_id: channel.chan_id }));
            }
        }
        true
    }

    /// Answers get no further than the node's memory, or the peer's without a signature; then a restart forgets
    /// them, or the channel is closed without them.
    fn lose_answers(&mut self, at: usize) -> bool {
        let limit = if self.faults.rng.random_bool(0.5) { Stage::Mailbox } else { Stage::Sent };
        self.limit(at, limit);
        let time = self.faults.time(300..=5_000);
        self.faults.lnd_ends_in(self.now, time, LndEnd::Forget(at));
        true
    }

    /// HTLCs end, and nobody is told: LND does not tell again of what happened while nobody listened, or when it crashed
    /// before it could.
    fn drop_finals(&mut self, at: usize) -> bool {
        let silent = |one: &Silence| one.at == at && one.until_ms.is_none();
        if self.silences.0.iter().any(silent) {
            return false;
        }
        self.lnds[at].command(Command::DropFinalEvents(DropFinalEventsRequest { drop: true }));
        // The command is carried out in the next step.
        let from_ms = HostClock::wall_at(self.now + self.swarm.tick());
        self.silences.0.push(Silence { at, from_ms, until_ms: None });
        let time = self.faults.time(1_000..=10_000);
        self.faults.lnd_ends_in(self.now, time, LndEnd::Tell(at));
        true
    }

    pub(super) fn limit(&self, at: usize, limit: Stage) {
        let request = SetStageLimitRequest { chan_id: 0, limit: limit.into(), release_after_ms: 0 };
        self.lnds[at].command(Command::SetStageLimit(request));
    }

    /// One channel goes to chain with everything that is on it; another takes its place.
    fn force_close(&mut self, at: usize, node: &Running) -> bool {
        let (channels, late) = (node.state().channels, self.channels_with_late_dust(node));
        let usable = |one: &&ChannelEntry| {
            is_open(one) && one.chan_id != FORWARD_CHANNEL && !late.contains(&one.chan_id)
        };
        let incoming: Vec<_> = channels.iter().filter(usable).collect();
        // One with HTLCs rather than without.
        let busy = incoming.iter().find(|one| one.pending_htlcs > 0);
        let Some(channel) = busy.or_else(|| incoming.first()) else { return false };
        self.coverage.met_times(Condition::ClosedWithHtlcs, u64::from(channel.pending_htlcs > 0));
        self.stranding.closes(channel.chan_id);
        self.lnds[at].command(Command::OpenChannel(OpenChannelRequest::default()));
        let request = ForceCloseRequest {
            chan_id: channel.chan_id,
            commitment: Commitment::Local.into(),
            wait_for_block: self.faults.rng.random_bool(0.5),
        };
        self.lnds[at].command(Command::ForceClose(request));
        true
    }

    /// Channels with dust that was decided long ago, and that faults have kept from being settled since: on chain it is lost,
    /// and nobody can promise anything of that.
    fn channels_with_late_dust(&self, node: &Running) -> BTreeSet<u64> {
        let is_late = |htlc: &&HtlcEntry| {
            let hash = PaymentHash::try_from(htlc.payment_hash.as_ref()).ok();
            let decided = hash.and_then(|hash| self.settlements.decided_at(&hash));
            let open = htlc.r#final.is_none();
            open && htlc.dust && decided.is_some_and(|at| self.now.since(at) > DECIDED_LONG_AGO)
        };
        node.ledger().htlcs.iter().filter(is_late).map(|htlc| htlc.chan_id).collect()
    }

    /// A held HTLC whose last block this is: LND looks after itself, and the cluster has decided nothing and does not any more.
    fn fail_one(&mut self, at: usize) -> bool {
        let Some(node) = self.lnds[at].running().filter(|_| !self.lnds[at].is_paused()) else { return false };
        let held: Vec<_> = node
            .ledger()
            .htlcs
            .into_iter()
            .filter(|htlc| htlc.stage() == Stage::Locked && htlc.offers > 0 && htlc.answers.is_empty())
            // With fewer left LND does it without being asked.
            .filter(|htlc| htlc.incoming_expiry == self.chain.height() + LAST_BLOCKS)
            .filter(|htlc| !self.settlements.is_decided(htlc.payment_hash.as_ref()))
            .collect();
        if held.is_empty() {
            return false;
        }
        let htlc = &held[self.faults.rng.random_range(0..held.len())];
        let (chan_id, htlc_id) = (htlc.chan_id, htlc.htlc_id);
        let what = format_args!("fails HTLC {htlc_id} of {chan_id} by itself, a block early");
        self.trace.event(self.now, self.lnds[at].column(), what);
        self.coverage.met(Condition::FailedEarly);
        self.lnds[at].command(Command::FailHtlc(FailHtlcRequest { chan_id, htlc_id }));
        true
    }

    /// Blocks come until there is one that can be failed, at whichever node: which HTLC is the first to come so far, nobody
    /// knows.
    fn hurry_to_fail_one(&mut self) -> bool {
        let hurries = self.hurry_to_the_end();
        self.blocks.fails_one |= hurries;
        hurries
    }

    /// The first that can be failed is, if that was asked for.
    pub(super) fn fail_one_when_asked(&mut self) {
        if self.blocks.fails_one {
            self.blocks.fails_one = !(0..self.lnds.len()).any(|at| self.fail_one(at));
        }
    }

    /// A replica and this node, in one direction or both; nobody else.
    fn cut_off(&mut self, at: usize) -> bool {
        let owner = self.owner_of(self.lnds[at].node());
        let rng = &mut self.faults.rng;
        let any = rng.random_range(0..self.hosts.len());
        let replica = owner.filter(|_| rng.random_bool(0.8)).unwrap_or(any);
        let is_owner = owner == Some(replica);
        let (lnd, replica) = (self.lnds[at].host_id(), self.hosts[replica].host_id());
        let links = match rng.random_range(0..4) {
            0 => vec![(lnd, replica)],
            1 => vec![(replica, lnd)],
            _ => vec![(lnd, replica), (replica, lnd)],
        };
        self.coverage.met_times(Condition::OwnerCutOff, u64::from(is_owner));
        self.hold(links, "cut off from LND")
    }
}

fn is_open(channel: &ChannelEntry) -> bool {
    channel.status() == Status::Open
}

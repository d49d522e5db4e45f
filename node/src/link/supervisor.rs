//! One front node at one replica: feeds the core with what happens and does what it says.
//!
//! One task owns the core. Everything that can wait (LND, consensus, elliptic curves) runs beside it and
//! comes back as an [`Event`], so that reading, answering and foreign HTLCs never wait for each other.

use super::answers;
use super::core::{Action, Answer, CoreConfig, HtlcId, LinkCore, MonoMs, Output};
use super::finals::{self, Finding};
use super::measure::Measure;
use super::ownership::{Desired, Ownership};
use super::screener::{ScreenContext, Screened, Screener};
use super::status::{LinkPhase, LinkStatus};
use super::stream::{Stream, StreamItem};
use super::watch::{self, Sight, jitter};
use super::{LinksConfig, rescue};
use crate::lnd::{FrontNodeConfig, LndClient, LndError};
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::consensus::{Committed, Consensus, ProposeError, RaftStatus};
use mux_raft::machine::command::ChainTip;
use mux_raft::machine::{Command, RequestId};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as state_watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Things that happened and were not looked at yet.
const EVENTS_QUEUED_MAX: usize = 4_096;

/// The heartbeat of everything that goes by time.
const TICK: Duration = Duration::from_millis(50);

/// With many HTLCs outstanding they are compared with the state at most this often.
const SCAN_INTERVAL: Duration = Duration::from_millis(10);

/// Up to this many are compared after every apply.
const SCAN_ALWAYS_MAX: usize = 256;

/// Requests taken from the stream's queue at a time.
const REQUESTS_PER_TURN: usize = 64;

/// Longer than consensus lets any proposal take.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(15);

/// A tip that the node did not repeat for this long is not reported any more.
const TIP_FRESH: Duration = Duration::from_secs(15);

/// A stream that was held for this long was no failure: the next one is opened at once.
const STREAM_GOOD_AFTER: Duration = Duration::from_secs(2);

/// How often a replica that is not assigned tries a taken slot, without a quorum.
const DEGRADED_RETRY: Duration = Duration::from_secs(2);

/// How soon a replica asks again whether it has caught up.
const CATCH_UP_RETRY: Duration = Duration::from_millis(50);

/// How soon handing over is tried again.
const HANDOVER_RETRY: Duration = Duration::from_millis(500);

/// What comes back to the task.
enum Event {
    Proposed { id: u64, result: Result<Committed, ProposeError> },
    Barrier { stream: u64, passed: bool },
    Screened { number: u64, htlc: HtlcId, result: Screened },
    ForceCloseFailed { chan_id: u64 },
    HandoverTried,
    CaughtUp(bool),
}

/// Whether everything committed when the quorum was regained is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CatchUp {
    Needed,
    Asked,
    Done,
}

/// HTLCs on their way through the screener.
type ScreenJob = (u64, HtlcId, Arc<ForwardHtlcInterceptRequest>, ScreenContext);

/// What the task is given.
pub(super) struct Parts {
    pub(super) front: FrontNodeConfig,
    pub(super) config: Arc<LinksConfig>,
    pub(super) consensus: Arc<dyn Consensus>,
    pub(super) screener: Arc<dyn Screener>,
    pub(super) status: Arc<RwLock<LinkStatus>>,
    pub(super) draining: state_watch::Receiver<bool>,
    pub(super) stop: CancellationToken,
}

/// See the module.
pub(super) struct Supervisor {
    parts: Parts,
    core: LinkCore,
    ownership: Ownership,
    measure: Measure,
    events_to: mpsc::Sender<Event>,
    client: Option<LndClient>,
    stream: Option<Stream>,
    held_since: Option<Instant>,
    findings: Option<(mpsc::Receiver<Finding>, AbortOnDropHandle<()>)>,
    open_at: Instant,
    backoff: Duration,
    tip_at: Option<Instant>,
    scanned_at: Instant,
    scan_due: bool,
    handover_at: Option<Instant>,
    catch_up: CatchUp,
    raft: RaftStatus,
    started: Instant,
}

impl Supervisor {
    /// Runs the link until it is stopped.
    pub(super) async fn run(parts: Parts) {
        let (events_to, events) = mpsc::channel(EVENTS_QUEUED_MAX);
        let raft = parts.consensus.status().borrow().clone();
        let timing = parts.config.timing;
        let core_config = CoreConfig {
            me: raft.id,
            node: parts.front.node,
            report_interval_ms: u64::try_from(timing.report_interval.as_millis()).unwrap_or(1_000),
            rescue_margin: parts.config.rescue.margin_blocks,
            force_close: parts.config.rescue.force_close,
        };
        let now = Instant::now();
        let mut supervisor = Self {
            core: LinkCore::new(core_config, Arc::clone(&parts.screener)),
            ownership: Ownership::new(&timing),
            measure: Measure::new(&parts.front.alias),
            parts,
            events_to,
            client: None,
            stream: None,
            held_since: None,
            findings: None,
            open_at: now,
            backoff: timing.backoff_min,
            tip_at: None,
            scanned_at: now,
            scan_due: false,
            handover_at: None,
            catch_up: CatchUp::Needed,
            raft,
            started: now,
        };
        supervisor.work(events).await;
        supervisor.stream = None;
        supervisor.set_status(LinkPhase::Stopped);
    }

    async fn work(&mut self, mut events: mpsc::Receiver<Event>) {
        let (sights_to, mut sights) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (front, config) = (self.parts.front.clone(), Arc::clone(&self.parts.config));
        let _watcher = AbortOnDropHandle::new(tokio::spawn(async move {
            watch::watch(&front, &config.network, &config.timing, sights_to).await;
        }));
        let stop = self.parts.stop.clone();
        let mut applied = self.parts.consensus.state().watch();
        let mut raft = self.parts.consensus.status();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let initial = raft.borrow_and_update().clone();
        self.raft_changed(initial);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = events.recv() => self.event(event),
                Some(sight) = sights.recv() => self.sight(sight),
                Some(items) = next_items(&mut self.stream) => self.stream_items(items),
                Some(finding) = next_finding(&mut self.findings) => self.finding(finding),
                Ok(()) = applied.changed() => self.scan_due = true,
                Ok(()) = raft.changed() => {
                    let status = raft.borrow_and_update().clone();
                    self.raft_changed(status);
                }
                () = sleep_until(self.scanned_at + SCAN_INTERVAL), if self.scan_due => {}
                _ = tick.tick() => self.tick(),
            }
            self.scan_if_due();
            self.steer();
            self.do_outputs();
        }
    }

    fn now(&self) -> MonoMs {
        MonoMs::try_from(self.started.elapsed().as_millis()).unwrap_or(MonoMs::MAX)
    }

    /// Tells the core something, together with the applied state.
    fn tell<T>(&mut self, what: impl FnOnce(&mut LinkCore, &mux_raft::machine::State, MonoMs) -> T) -> T {
        let now = self.now();
        let core = &mut self.core;
        self.parts.consensus.state().read(|state| what(core, state, now))
    }

    fn scan_if_due(&mut self) {
        let often = self.core.held() <= SCAN_ALWAYS_MAX || self.scanned_at.elapsed() >= SCAN_INTERVAL;
        if self.scan_due && often {
            self.scan_due = false;
            self.scanned_at = Instant::now();
            self.tell(LinkCore::state_changed);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Proposed { id, result } => {
                self.tell(|core, state, now| core.proposed(id, result, state, now))
            }
            Event::Barrier { stream, passed } => {
                self.tell(|core, state, now| core.barrier(stream, passed, state, now));
            }
            Event::Screened { number, htlc, result } => {
                self.tell(|core, state, now| core.screened(number, htlc, result, state, now));
            }
            Event::ForceCloseFailed { chan_id } => self.core.force_close_failed(chan_id),
            Event::HandoverTried => {}
            Event::CaughtUp(passed) if self.catch_up == CatchUp::Asked => {
                self.catch_up = if passed { CatchUp::Done } else { CatchUp::Needed };
            }
            Event::CaughtUp(_) => {}
        }
    }

    fn sight(&mut self, sight: Sight) {
        match sight {
            Sight::Connected(client) => {
                let mut status = self.parts.status.write();
                status.endpoint = Some(client.endpoint().to_owned());
                status.last_error = None;
                drop(status);
                tracing::info!(node = %self.parts.front.alias, endpoint = client.endpoint(), "connected");
                self.client = Some(*client);
                self.open_at = Instant::now();
                self.backoff = self.parts.config.timing.backoff_min;
            }
            Sight::Lost(error) => self.lost(&error),
            Sight::Tip(tip) => {
                self.tip_at = Some(Instant::now());
                self.set_tip(Some(tip));
            }
            Sight::Channels { active, receivable_msat } => {
                self.parts.status.write().receivable_msat = Some(receivable_msat);
                self.tell(|core, state, now| core.channels(active, state, now));
            }
        }
    }

    fn lost(&mut self, error: &LndError) {
        let text = error.to_string();
        let mut status = self.parts.status.write();
        let news = status.last_error.as_deref() != Some(&text);
        let refused = matches!(error, LndError::Refused(_));
        status.phase = if refused { LinkPhase::Refused } else { LinkPhase::Disconnected };
        status.endpoint = None;
        status.receivable_msat = None;
        status.last_error = Some(text);
        drop(status);
        match error {
            LndError::Refused(refusal) if news => {
                tracing::error!(node = %self.parts.front.alias, %refusal, "front node refused");
            }
            _ if news => tracing::warn!(node = %self.parts.front.alias, %error, "front node lost"),
            _ => {}
        }
        self.client = None;
        self.close_stream();
    }

    fn set_tip(&mut self, tip: Option<ChainTip>) {
        self.parts.status.write().tip = tip;
        self.tell(|core, state, now| core.tip(tip, state, now));
    }

    fn finding(&mut self, finding: Finding) {
        match finding {
            Finding::Event(event) => {
                self.tell(|core, state, now| core.htlc_event(&event, state, now));
            }
            Finding::Final(htlc, outcome) => {
                self.tell(|core, state, now| core.final_known(htlc, outcome, state, now));
            }
        }
    }

    fn raft_changed(&mut self, status: RaftStatus) {
        let leader_changed = status.leader != self.raft.leader || status.term != self.raft.term;
        let quorum = status.quorum;
        if !quorum {
            self.catch_up = CatchUp::Needed;
        }
        self.raft = status;
        if leader_changed && self.raft.leader.is_some() {
            self.tell(LinkCore::leader_changed);
        }
        self.tell(|core, state, now| core.quorum(quorum, state, now));
    }

    fn tick(&mut self) {
        if self.tip_at.is_some_and(|at| at.elapsed() > TIP_FRESH) {
            self.tip_at = None;
            self.set_tip(None);
        }
        self.tell(LinkCore::tick);
        let node = self.parts.front.node;
        let held = self.core.held();
        let consensus = Arc::clone(&self.parts.consensus);
        consensus.state().read(|state| self.measure.tick(held, &node, state));
    }

    fn stream_items(&mut self, items: Vec<StreamItem>) {
        for item in items {
            match item {
                StreamItem::Held(info) => self.stream_held(info.block_height),
                StreamItem::Request(request) => {
                    self.measure.intercepted();
                    self.tell(|core, state, now| core.intercepted(request, state, now));
                }
                StreamItem::Ended(error) => self.stream_ended(&error),
            }
        }
    }

    fn stream_held(&mut self, height: u32) {
        let Some(stream) = &mut self.stream else { return };
        stream.held = true;
        self.held_since = Some(Instant::now());
        self.measure.stream_up(true);
        let degraded = !self.raft.quorum;
        let id = RequestId(rand::random());
        tracing::info!(node = %self.parts.front.alias, height, degraded, "interceptor stream held");
        self.tell(|core, state, now| core.stream_opened(id, degraded, state, now));
        self.parts.status.write().last_error = None;
        let Some(client) = self.client.clone() else { return };
        let (to, from) = mpsc::channel(EVENTS_QUEUED_MAX);
        let lookups = self.parts.config.timing.lookup_interval;
        let consensus = Arc::clone(&self.parts.consensus);
        let task = finals::follow(client, consensus, self.parts.front.node, lookups, to);
        self.findings = Some((from, AbortOnDropHandle::new(tokio::spawn(task))));
    }

    fn stream_ended(&mut self, error: &LndError) {
        let held_for = self.held_since.map(|since| since.elapsed());
        self.close_stream();
        let timing = &self.parts.config.timing;
        let wait = if error.is_slot_taken() {
            if self.raft.quorum { timing.slot_retry } else { DEGRADED_RETRY }
        } else {
            if held_for.is_some_and(|held_for| held_for >= STREAM_GOOD_AFTER) {
                self.backoff = timing.backoff_min;
            }
            let wait = self.backoff;
            self.backoff = self.backoff.saturating_mul(2).min(timing.backoff_max);
            wait
        };
        self.open_at = Instant::now() + jitter(wait);
        let text = error.to_string();
        let news = self.parts.status.read().last_error.as_deref() != Some(&text);
        if news || held_for.is_some() {
            tracing::warn!(node = %self.parts.front.alias, %error, "interceptor stream ended");
        }
        self.parts.status.write().last_error = Some(text);
    }

    fn close_stream(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        self.findings = None;
        self.held_since = None;
        if stream.held {
            self.measure.stream_up(false);
            self.tell(LinkCore::stream_closed);
        }
    }

    /// Opens or closes the stream as the assignment and the quorum demand.
    fn steer(&mut self) {
        let node = self.parts.front.node;
        let assigned = self
            .parts
            .consensus
            .state()
            .read(|state| state.front_node(&node).and_then(|front| front.assigned) == Some(self.raft.id));
        let now = self.now();
        let mut desired = self.ownership.desired(assigned, self.raft.quorum, now);
        if self.raft.quorum {
            self.ask_caught_up();
            if desired == Desired::Normal && self.catch_up != CatchUp::Done {
                desired = Desired::Keep;
            }
        }
        match (desired, self.stream.is_some()) {
            (Desired::Closed, true) => {
                tracing::info!(node = %self.parts.front.alias, assigned, "closing the stream");
                self.close_stream();
            }
            (Desired::Normal | Desired::Degraded, false) if Instant::now() >= self.open_at => {
                if let Some(client) = self.client.clone() {
                    self.measure.opening();
                    self.stream = Some(Stream::open(client));
                }
            }
            (Desired::Closed | Desired::Keep | Desired::Normal | Desired::Degraded, _) => {}
        }
        self.set_status(self.phase(desired));
        if assigned && self.raft.quorum && *self.parts.draining.borrow() {
            self.hand_over();
        }
    }

    /// A replica that comes back may have a stale idea of whose the link is. It finds out before it opens a
    /// stream, and long before an assignment that follows an election reaches it.
    fn ask_caught_up(&mut self) {
        if self.catch_up != CatchUp::Needed {
            return;
        }
        self.catch_up = CatchUp::Asked;
        let consensus = Arc::clone(&self.parts.consensus);
        let events = self.events_to.clone();
        tokio::spawn(async move {
            let passed = matches!(timeout(PROPOSAL_DEADLINE, consensus.read_barrier()).await, Ok(Ok(_)));
            if !passed {
                tokio::time::sleep(CATCH_UP_RETRY).await;
            }
            let _ = events.send(Event::CaughtUp(passed)).await;
        });
    }

    fn phase(&self, desired: Desired) -> LinkPhase {
        let held = self.stream.as_ref().map(|stream| stream.held);
        match (desired, held, self.client.is_some()) {
            (_, _, false) if self.parts.status.read().phase == LinkPhase::Refused => LinkPhase::Refused,
            (_, _, false) => LinkPhase::Disconnected,
            (Desired::Degraded, Some(true), true) => LinkPhase::Degraded,
            (_, Some(true), true) if self.core.session().is_some() => LinkPhase::Up,
            (_, Some(true), true) => LinkPhase::Joining,
            (Desired::Closed | Desired::Keep, None, true) if self.raft.quorum => LinkPhase::Standby,
            (Desired::Closed | Desired::Keep, None, true) => LinkPhase::Yielding,
            (_, Some(false), true) | (_, None, true) => LinkPhase::Opening,
        }
    }

    fn set_status(&self, phase: LinkPhase) {
        let mut status = self.parts.status.write();
        status.phase = phase;
        status.session = self.core.session();
        status.held = self.core.held();
    }

    /// Gives the link to the next voter.
    fn hand_over(&mut self) {
        if self.handover_at.is_some_and(|at| at.elapsed() < HANDOVER_RETRY) {
            return;
        }
        let me = self.raft.id;
        let voters = || self.raft.members.iter().filter(|(_, member)| member.voter).map(|(id, _)| *id);
        let Some(next) = voters().find(|id| *id > me).or_else(|| voters().find(|id| *id != me)) else {
            return;
        };
        self.handover_at = Some(Instant::now());
        let consensus = Arc::clone(&self.parts.consensus);
        let events = self.events_to.clone();
        let command = Command::AssignLink { node: self.parts.front.node, replica: Some(next) };
        tracing::info!(node = %self.parts.front.alias, to = next, "handing the link over");
        tokio::spawn(async move {
            // Tried again from the state, whatever comes of it.
            let _ = timeout(PROPOSAL_DEADLINE, consensus.propose(command, None)).await;
            let _ = events.send(Event::HandoverTried).await;
        });
    }

    fn do_outputs(&mut self) {
        let mut screen: Vec<ScreenJob> = Vec::new();
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Send(answer) => self.send(answer),
                Output::Propose { id, command } => self.propose(id, command),
                Output::Barrier { stream } => self.barrier(stream),
                Output::Screen { number, htlc, request, context } => {
                    screen.push((number, htlc, request, context));
                }
                Output::Alarm { key, hash, incoming_expiry, height } => {
                    self.measure.alarm();
                    tracing::error!(
                        %key, %hash, incoming_expiry, height,
                        "CRITICAL: a settled HTLC is not final and about to expire; force-close its channel"
                    );
                }
                Output::ForceClose { chan_id } => self.force_close(chan_id),
            }
        }
        if !screen.is_empty() {
            self.screen(screen);
        }
    }

    fn send(&mut self, answer: Answer) {
        let Some(stream) = &self.stream else { return };
        self.measure.answered(&answer);
        if !matches!(answer.action, Action::Resume) {
            let (action, reason) = answer.action.labels();
            tracing::info!(
                node = %self.parts.front.alias, chan_id = answer.htlc.chan_id, htlc_id = answer.htlc.htlc_id,
                hash = %hex::encode(&answer.request.payment_hash), action, reason,
                waited_ms = answer.waited_ms, "HTLC answered"
            );
        }
        let answers = stream.answers.clone();
        if matches!(answer.action, Action::Fail(_)) {
            let screener = Arc::clone(&self.parts.screener);
            tokio::task::spawn_blocking(move || {
                if let Ok(response) = answers::response(&answer, &*screener) {
                    // Full or closed: the stream is about to end, and LND offers the HTLC again.
                    let _ = answers.try_send(response);
                }
            });
            return;
        }
        match answers::response(&answer, &*self.parts.screener) {
            Ok(response) => {
                let _ = answers.try_send(response);
            }
            Err(error) => {
                let hash = hex::encode(&answer.request.payment_hash);
                tracing::error!(node = %self.parts.front.alias, %hash, %error, "CRITICAL: cannot settle");
            }
        }
    }

    fn propose(&self, id: u64, command: Command) {
        let consensus = Arc::clone(&self.parts.consensus);
        let events = self.events_to.clone();
        tokio::spawn(async move {
            let result = timeout(PROPOSAL_DEADLINE, consensus.propose(command, None)).await;
            let result = result.unwrap_or_else(|_| Err(ProposeError::Unknown("no answer in time".into())));
            let _ = events.send(Event::Proposed { id, result }).await;
        });
    }

    fn barrier(&self, stream: u64) {
        let consensus = Arc::clone(&self.parts.consensus);
        let events = self.events_to.clone();
        tokio::spawn(async move {
            let passed = matches!(timeout(PROPOSAL_DEADLINE, consensus.read_barrier()).await, Ok(Ok(_)));
            let _ = events.send(Event::Barrier { stream, passed }).await;
        });
    }

    fn screen(&self, jobs: Vec<ScreenJob>) {
        let screener = Arc::clone(&self.parts.screener);
        let events = self.events_to.clone();
        tokio::task::spawn_blocking(move || {
            for (number, htlc, request, context) in jobs {
                let result = screener.screen(&request, &context);
                if events.blocking_send(Event::Screened { number, htlc, result }).is_err() {
                    return;
                }
            }
        });
    }

    fn force_close(&self, chan_id: u64) {
        let (Some(client), alias) = (self.client.clone(), self.parts.front.alias.clone()) else { return };
        let events = self.events_to.clone();
        tokio::spawn(async move {
            tracing::error!(node = %alias, chan_id, "force-closing a channel to save settled HTLCs");
            if let Err(error) = rescue::force_close(&client, chan_id).await {
                tracing::error!(node = %alias, chan_id, %error, "CRITICAL: the force-close failed");
                let _ = events.send(Event::ForceCloseFailed { chan_id }).await;
            }
        });
    }
}

async fn next_items(stream: &mut Option<Stream>) -> Option<Vec<StreamItem>> {
    let stream = match stream {
        Some(stream) => stream,
        None => return std::future::pending().await,
    };
    let mut items = Vec::new();
    let taken = stream.items.recv_many(&mut items, REQUESTS_PER_TURN).await;
    (taken > 0).then_some(items)
}

async fn next_finding(
    findings: &mut Option<(mpsc::Receiver<Finding>, AbortOnDropHandle<()>)>,
) -> Option<Finding> {
    match findings {
        Some((from, _)) => from.recv().await,
        None => std::future::pending().await,
    }
}

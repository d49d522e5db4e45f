//! One front node at one replica: feeds the core with what happens and does what it says.
//!
//! One task owns the core. Everything that can wait (LND, consensus, elliptic curves) runs beside it and
//! comes back as an [`Event`], so that reading, answering and foreign HTLCs never wait for each other.

mod steer;

use super::LinksConfig;
use super::answers;
use super::backoff::{Backoff, jitter};
use super::core::{Action, Answer, CoreConfig, LinkCore, MonoMs, Output};
use super::finals::{self, Finding};
use super::jobs::{Event, Jobs, ScreenJob};
use super::measure::Measure;
use super::ownership::Ownership;
use super::screener::Screener;
use super::seats::Seat;
use super::spans;
use super::status::{LinkPhase, LinkStatus};
use super::stream::{Stream, StreamItem};
use super::told::Told;
use super::watch::{self, Sight};
use crate::NodeWiring;
use crate::lnd::{Dialer, FrontNodeConfig, LndClient, LndError};
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::consensus::{Consensus, RaftStatus};
use mux_raft::machine::RequestId;
use mux_raft::machine::command::ChainTip;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch as state_watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
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

/// Requests taken from the stream's queue at a time: what comes together is judged and proposed together.
const REQUESTS_PER_TURN: usize = 64;

/// The same for everything else that happens.
const EVENTS_PER_TURN: usize = 64;

/// A tip that the node did not repeat for this long is not reported any more.
const TIP_FRESH: Duration = Duration::from_secs(15);

/// A stream that was held for this long was no failure: the next one is opened at once.
const STREAM_GOOD_AFTER: Duration = Duration::from_secs(2);

/// How often a replica that is not assigned tries a taken slot, without a quorum.
const DEGRADED_RETRY: Duration = Duration::from_secs(2);

/// Whether everything committed when the quorum was regained is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CatchUp {
    Needed,
    Asked,
    Done,
}

/// What the task is given.
pub(super) struct Parts {
    pub(super) front: FrontNodeConfig,
    pub(super) config: Arc<LinksConfig>,
    pub(super) consensus: Arc<dyn Consensus>,
    pub(super) screener: Arc<dyn Screener>,
    pub(super) wiring: NodeWiring,
    pub(super) status: Arc<RwLock<LinkStatus>>,
    pub(super) draining: state_watch::Receiver<bool>,
    pub(super) stop: CancellationToken,
}

/// See the module.
pub(super) struct Supervisor {
    parts: Parts,
    seat: Arc<Seat>,
    core: LinkCore,
    ownership: Ownership,
    measure: Measure,
    jobs: Jobs,
    client: Option<LndClient>,
    stream: Option<Stream>,
    held_since: Option<Instant>,
    findings: Option<(mpsc::Receiver<Finding>, AbortOnDropHandle<()>)>,
    open_at: Instant,
    backoff: Backoff,
    told: Told,
    tip_at: Option<Instant>,
    scanned_at: Instant,
    scan_due: bool,
    handover_at: Option<Instant>,
    catch_up: CatchUp,
    raft: RaftStatus,
    started: Instant,
}

impl Supervisor {
    /// Runs the link until it is stopped. `seat`: the node's.
    pub(super) async fn run(parts: Parts, seat: Arc<Seat>) {
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
        let jobs = Jobs {
            consensus: Arc::clone(&parts.consensus),
            screener: Arc::clone(&parts.screener),
            blocking: parts.wiring.blocking.clone(),
            events: events_to,
        };
        let mut supervisor = Self {
            core: LinkCore::new(core_config, Arc::clone(&parts.screener)),
            ownership: Ownership::new(&timing),
            told: Told::default(),
            measure: Measure::new(&parts.front.alias),
            parts,
            seat,
            jobs,
            client: None,
            stream: None,
            held_since: None,
            findings: None,
            open_at: now,
            backoff: Backoff::new(&timing),
            tip_at: None,
            scanned_at: now,
            scan_due: false,
            handover_at: None,
            catch_up: CatchUp::Needed,
            raft,
            started: now,
        };
        supervisor.work(events).await;
        supervisor.close_stream();
        supervisor.set_status(LinkPhase::Stopped);
    }

    async fn work(&mut self, mut events: mpsc::Receiver<Event>) {
        let (sights_to, mut sights) = mpsc::channel(EVENTS_QUEUED_MAX);
        let config = Arc::clone(&self.parts.config);
        let dialer =
            Dialer::new(self.parts.front.clone(), &config.network, Arc::clone(&self.parts.wiring.lnd));
        let _watcher = AbortOnDropHandle::new(tokio::spawn(async move {
            watch::watch(dialer, &config.timing, sights_to).await;
        }));
        let stop = self.parts.stop.clone();
        let mut applied = self.parts.consensus.state().watch();
        let mut raft = self.parts.consensus.status();
        let mut happened = Vec::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let initial = raft.borrow_and_update().clone();
        self.raft_changed(initial);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                taken = events.recv_many(&mut happened, EVENTS_PER_TURN) => {
                    if taken == 0 {
                        return;
                    }
                    happened.drain(..).for_each(|event| self.event(event));
                }
                Some(sight) = sights.recv() => self.sight(sight),
                Some(items) = next_items(&mut self.stream) => self.stream_items(items),
                Some(found) = next_findings(&mut self.findings) => {
                    found.into_iter().for_each(|finding| self.finding(finding));
                }
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

    fn force_close_failed(&mut self, chan_id: u64) {
        let now = self.now();
        self.core.force_close_failed(chan_id, now);
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
            Event::Heard { number } => self.heard(number),
            Event::LookedUp { number, found } => {
                self.tell(|core, state, now| core.looked_up(number, found, state, now));
            }
            Event::Screened(done) => {
                self.tell(|core, state, now| core.screened(done, state, now));
            }
            Event::ForceCloseFailed { chan_id } => self.force_close_failed(chan_id),
            Event::CaughtUp(passed) if self.catch_up == CatchUp::Asked => {
                self.catch_up = if passed { CatchUp::Done } else { CatchUp::Needed };
            }
            Event::CaughtUp(_) => {}
        }
    }

    /// Whatever LND said before it answered comes first.
    fn heard(&mut self, number: u64) {
        while let Some(finding) = self.findings.as_mut().and_then(|(findings, _)| findings.try_recv().ok()) {
            self.finding(finding);
        }
        self.tell(|core, state, now| core.heard(number, state, now));
    }

    fn sight(&mut self, sight: Sight) {
        match sight {
            Sight::Connected(client) => {
                let mut status = self.parts.status.write();
                status.endpoint = Some(client.endpoint().to_owned());
                status.last_error = None;
                drop(status);
                self.told.forget();
                tracing::info!(front_node = %self.parts.front.alias, endpoint = client.endpoint(), "connected");
                self.client = Some(*client);
                self.open_at = Instant::now();
                self.backoff.reset();
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
        let news = self.told.is_news(&text);
        let mut status = self.parts.status.write();
        let refused = matches!(error, LndError::Refused(_));
        status.phase = if refused { LinkPhase::Refused } else { LinkPhase::Disconnected };
        status.endpoint = None;
        status.receivable_msat = None;
        status.last_error = Some(text);
        drop(status);
        match error {
            LndError::Refused(refusal) if news => {
                tracing::error!(front_node = %self.parts.front.alias, %refusal, "front node refused");
            }
            _ if news => tracing::warn!(front_node = %self.parts.front.alias, %error, "front node lost"),
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
        self.measure.outstanding(self.core.held());
    }

    fn stream_items(&mut self, items: Vec<StreamItem>) {
        for item in items {
            match item {
                StreamItem::Held(info) => self.stream_held(info.block_height),
                StreamItem::Request(request) => {
                    self.measure.intercepted();
                    self.intercepted(request);
                }
                StreamItem::Ended(error) => self.stream_ended(&error),
            }
        }
    }

    /// An HTLC for somebody else passes whatever LND this is. Ours wait until the node has said who it is: a
    /// slot that gives HTLCs may be that of a node which took the place of the one that was checked.
    fn intercepted(&mut self, request: Arc<ForwardHtlcInterceptRequest>) {
        let ours = self.parts.screener.may_be_ours(request.outgoing_requested_chan_id);
        match &mut self.stream {
            Some(stream) if ours && !stream.held => stream.set_aside(request),
            _ => self.tell(|core, state, now| core.intercepted(request, state, now)),
        }
    }

    fn stream_held(&mut self, height: u32) {
        let Some(stream) = &mut self.stream else { return };
        let early = stream.set_held();
        self.held_since = Some(Instant::now());
        self.measure.stream_up(true);
        let degraded = !self.raft.quorum;
        let id = RequestId(rand::random());
        tracing::info!(front_node = %self.parts.front.alias, height, degraded, "interceptor stream held");
        self.tell(|core, state, now| core.stream_opened(id, degraded, state, now));
        early.into_iter().for_each(|request| self.intercepted(request));
        self.parts.status.write().last_error = None;
        self.told.forget();
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
                self.backoff.reset();
            }
            self.backoff.failed()
        };
        self.open_at = Instant::now() + jitter(wait);
        let text = error.to_string();
        let news = self.told.is_news(&text);
        if news || held_for.is_some() {
            tracing::warn!(front_node = %self.parts.front.alias, %error, "interceptor stream ended");
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

    fn do_outputs(&mut self) {
        let mut screen: Vec<ScreenJob> = Vec::new();
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Send(answer) => self.send(answer),
                Output::Propose { id, spans, command } => self.jobs.propose(id, &spans, command),
                Output::Barrier { stream } => self.jobs.barrier(stream),
                Output::Hear { number } => {
                    // Without a connection the stream is about to end.
                    if let Some(client) = self.client.clone() {
                        self.jobs.hear(client, self.parts.config.timing.node_patience, number);
                    }
                }
                Output::LookUp { number, htlcs } => {
                    // Without a connection the stream is about to end.
                    if let Some(client) = self.client.clone() {
                        self.jobs.look_up(client, self.parts.config.timing.node_patience, number, htlcs);
                    }
                }
                Output::Screen { number, htlc, request, context, span } => {
                    screen.push(ScreenJob { number, htlc, request, context, span });
                }
                Output::Alarm { key, hash, incoming_expiry, height, is_dust } => {
                    self.measure.alarm();
                    let what_to_do = if is_dust {
                        "it is dust: closing its channel would lose it; see that LND and its peer go on with the channel"
                    } else {
                        "force-close its channel"
                    };
                    tracing::error!(
                        circuit_key = %key, payment_hash = %hash, incoming_expiry, height,
                        "CRITICAL: a settled HTLC is not final and about to expire; {what_to_do}"
                    );
                }
                Output::ForceClose { chan_id } => match self.client.clone() {
                    Some(client) => {
                        self.jobs.force_close(client, self.parts.front.alias.clone(), chan_id);
                    }
                    None => self.force_close_failed(chan_id),
                },
            }
        }
        if !screen.is_empty() {
            self.jobs.screen(self.parts.front.node, screen);
        }
    }

    fn send(&mut self, answer: Answer) {
        let Some(stream) = &self.stream else { return };
        self.measure.answered(&answer);
        if !matches!(answer.action, Action::Resume) {
            spans::answered(&self.parts.front, &answer);
        }
        let answers = stream.answers.clone();
        if matches!(answer.action, Action::Fail(_)) {
            return self.jobs.answer(answer, answers);
        }
        match answers::response(&answer, &*self.parts.screener) {
            Ok(response) => answers.send(response),
            Err(error) => {
                tracing::error!(
                    front_node = %self.parts.front.alias, circuit_key = %answer.key(&self.parts.front.node),
                    payment_hash = %hex::encode(&answer.request.payment_hash), %error, "CRITICAL: cannot settle"
                );
            }
        }
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

async fn next_findings(
    findings: &mut Option<(mpsc::Receiver<Finding>, AbortOnDropHandle<()>)>,
) -> Option<Vec<Finding>> {
    let (from, _) = match findings {
        Some(findings) => findings,
        None => return std::future::pending().await,
    };
    let mut found = Vec::new();
    let taken = from.recv_many(&mut found, EVENTS_PER_TURN).await;
    (taken > 0).then_some(found)
}

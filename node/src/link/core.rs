//! What decides on a link: pure, synchronous, without clock, tasks or network.
//!
//! One [`LinkCore`] per front node and replica. It is told what happened (an HTLC was offered, state was
//! applied, a proposal ended, time passed) together with the applied state, and puts what is to be done
//! into a queue of [`Output`]s. Its invariants, each with a test of that name:
//!
//! * at most one answer per offer and stream, never one for a key that is not outstanding on the stream;
//! * the recorded verdict comes first; a known key is never judged again;
//! * nothing of ours is answered before the read barrier, except SETTLEs on a degraded stream;
//! * a FAIL that is not in the log only for a key absent from state since this session came up and never
//!   proposed from this stream, and only with a quorum;
//! * HTLCs on chain are settled or left alone;
//! * what LND has ended is not offered to the log, though LND offers it;
//! * foreign HTLCs are resumed at once, whatever else is wrong (on chain they are left alone);
//! * after a standstill nothing is vouched for before LND was heard again.

mod finals;
mod htlcs;
mod offers;
mod output;
mod rescue;
mod session;
mod standstill;
mod stream;
#[cfg(test)]
mod tests;
mod vetting;

use super::screener::Screener;
use finals::Finals;
pub(crate) use htlcs::HtlcId;
use mux_raft::consensus::{Committed, ProposeError};
use mux_raft::machine::command::ChainTip;
use mux_raft::machine::{Command, RequestId, State};
use mux_raft::types::{BlockHeight, CircuitKey, NodePubkey, ReplicaId, SessionId};
pub(crate) use output::{Action, Answer, Output};
use rescue::Rescue;
use standstill::Standstill;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use stream::StreamState;
use tracing::Span;
pub(crate) use vetting::LookedUp;

/// Milliseconds on a clock that never runs backwards; only differences mean anything.
pub(crate) type MonoMs = u64;

/// How long after a proposal of certain or uncertain failure the next one follows.
const RETRY_MS: MonoMs = 50;

/// The same after a refusal that time alone may lift.
const REJECTED_RETRY_MS: MonoMs = 250;

/// What the core needs to know of its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreConfig {
    /// This replica.
    pub(crate) me: ReplicaId,
    /// The front node.
    pub(crate) node: NodePubkey,
    /// Between two reports.
    pub(crate) report_interval_ms: MonoMs,
    /// Blocks before `incoming_expiry - 16` at which a decided HTLC raises the alarm.
    pub(crate) rescue_margin: BlockHeight,
    /// Whether its channel is then closed.
    pub(crate) force_close: bool,
}

/// See the module.
pub(crate) struct LinkCore {
    config: CoreConfig,
    screener: Arc<dyn Screener>,
    stream: Option<StreamState>,
    quorum: bool,
    proposals: BTreeMap<u64, Pending>,
    next_id: u64,
    finals: Finals,
    rescue: Rescue,
    standstill: Standstill,
    tip: Option<ChainTip>,
    active_channels: Option<BTreeSet<u64>>,
    reported_at: MonoMs,
    report_due: bool,
    report_retry_at: MonoMs,
    down_retry_at: MonoMs,
    outputs: VecDeque<Output>,
}

/// A proposal that has not ended.
#[derive(Debug)]
enum Pending {
    LinkUp { stream: u64 },
    LinkDown,
    Report { stream: u64 },
    Offers { stream: u64, htlcs: Vec<HtlcId> },
    Finals { htlcs: Vec<HtlcId> },
}

impl LinkCore {
    pub(crate) fn new(config: CoreConfig, screener: Arc<dyn Screener>) -> Self {
        Self {
            config,
            screener,
            stream: None,
            quorum: false,
            proposals: BTreeMap::new(),
            next_id: 1,
            finals: Finals::default(),
            rescue: Rescue::default(),
            standstill: Standstill::default(),
            tip: None,
            active_channels: None,
            reported_at: 0,
            report_due: false,
            report_retry_at: 0,
            down_retry_at: 0,
            outputs: VecDeque::new(),
        }
    }

    /// What is to be done, in order.
    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The stream is held. `id` names it in the log; `degraded`: there is no quorum, and only answers that
    /// are safe without one may be given.
    pub(crate) fn stream_opened(&mut self, id: RequestId, degraded: bool, state: &State, now: MonoMs) {
        let number = self.fresh_id();
        self.standstill.stream_changed();
        self.stream = Some(StreamState::new(number, id, degraded));
        self.state_changed(state, now);
        self.pump(state, now);
    }

    /// The stream ended. What was outstanding on it will be offered again by LND.
    pub(crate) fn stream_closed(&mut self, state: &State, now: MonoMs) {
        self.stream = None;
        self.standstill.stream_changed();
        self.finals.stream_ended();
        self.down_retry_at = now;
        self.pump(state, now);
    }

    /// Something was applied, or a snapshot installed, or nobody knows.
    pub(crate) fn state_changed(&mut self, state: &State, now: MonoMs) {
        self.watch_session(state);
        self.advance_all(state, now);
        self.pump(state, now);
    }

    /// Whether a quorum is in contact.
    pub(crate) fn quorum(&mut self, quorum: bool, state: &State, now: MonoMs) {
        let regained = quorum && !self.quorum;
        self.quorum = quorum;
        if regained {
            self.advance_all(state, now);
        }
        self.pump(state, now);
    }

    /// Another leader, or another term: proposals under way may be lost, and sessions are unconfirmed.
    pub(crate) fn leader_changed(&mut self, state: &State, now: MonoMs) {
        let forgotten = std::mem::take(&mut self.proposals);
        for (id, pending) in forgotten {
            self.proposal_lost(id, pending, true, now);
        }
        // The first of a term opens gates: it goes at once.
        (self.report_due, self.report_retry_at) = (true, now);
        self.pump(state, now);
    }

    /// The read barrier that was asked for on this stream passed, or did not.
    pub(crate) fn barrier(&mut self, stream: u64, passed: bool, state: &State, now: MonoMs) {
        let Some(current) = self.stream.as_mut().filter(|current| current.number == stream) else { return };
        current.barrier_done(passed, now);
        if passed {
            self.advance_all(state, now);
        }
        self.pump(state, now);
    }

    /// A proposal ended.
    pub(crate) fn proposed(
        &mut self,
        id: u64,
        result: Result<Committed, ProposeError>,
        state: &State,
        now: MonoMs,
    ) {
        let Some(pending) = self.proposals.remove(&id) else { return };
        match result {
            Ok(committed) => self.proposal_done(id, pending, committed, state, now),
            Err(error) => self.proposal_lost(id, pending, matches!(error, ProposeError::Unknown(_)), now),
        }
        self.watch_session(state);
        self.pump(state, now);
    }

    /// The node's tip, confirmed just now; `None`: it has not been heard from lately.
    pub(crate) fn tip(&mut self, tip: Option<ChainTip>, state: &State, now: MonoMs) {
        self.report_due |= tip.is_some() && tip != self.tip;
        self.tip = tip;
        self.pump(state, now);
    }

    /// The channels that are active, under all their ids.
    pub(crate) fn channels(&mut self, active: BTreeSet<u64>, state: &State, now: MonoMs) {
        self.report_due |= self.active_channels.as_ref() != Some(&active);
        self.active_channels = Some(active);
        self.pump(state, now);
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, state: &State, now: MonoMs) {
        self.state_changed(state, now);
        self.check_rescue(state, now);
    }

    /// The session that is up on the stream.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.stream.as_ref().and_then(|stream| stream.up).map(|up| up.session)
    }

    /// HTLCs of ours outstanding on the stream.
    pub(crate) fn held(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.offers.len())
    }

    /// Proposes what is due. Called at the end of every input.
    fn pump(&mut self, state: &State, now: MonoMs) {
        self.notice_standstill(state, now);
        self.pump_finals(now);
        self.pump_session(state, now);
        self.pump_offers(state, now);
    }

    fn propose(&mut self, pending: Pending, command: Command) {
        let id = self.fresh_id();
        self.propose_as((id, Vec::new()), pending, command);
    }

    fn propose_as(&mut self, (id, spans): (u64, Vec<Span>), pending: Pending, command: Command) {
        self.proposals.insert(id, pending);
        self.outputs.push_back(Output::Propose { id, spans, command });
    }

    fn proposal_done(&mut self, id: u64, pending: Pending, committed: Committed, state: &State, now: MonoMs) {
        match pending {
            Pending::LinkUp { stream } => self.link_up_done(stream, committed, state, now),
            Pending::Report { stream } => self.report_done(stream, &committed.reply),
            Pending::LinkDown => {}
            Pending::Offers { stream, htlcs } => {
                self.offers_done((id, stream), &htlcs, &committed.reply, state, now);
            }
            Pending::Finals { htlcs } => self.finals.done(&htlcs, &committed.reply, now),
        }
    }

    /// `maybe`: it may be, or get, in the log all the same.
    fn proposal_lost(&mut self, id: u64, pending: Pending, maybe: bool, now: MonoMs) {
        let retry_at = now.saturating_add(RETRY_MS);
        match pending {
            Pending::LinkUp { stream } => {
                if let Some(current) = self.stream.as_mut().filter(|current| current.number == stream) {
                    current.link_up_retry_at = retry_at;
                }
            }
            Pending::LinkDown => self.down_retry_at = retry_at,
            Pending::Report { .. } => self.report_retry_at = retry_at,
            Pending::Offers { stream, htlcs } => self.offers_lost((id, stream), &htlcs, maybe, retry_at),
            Pending::Finals { htlcs } => self.finals.lost(&htlcs, retry_at),
        }
    }

    fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        id
    }

    fn key(&self, htlc: HtlcId) -> CircuitKey {
        CircuitKey { node: self.config.node, chan_id: htlc.chan_id, htlc_id: htlc.htlc_id }
    }
}

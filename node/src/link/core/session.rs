//! Sessions: LinkUp, reports, LinkDown, and noticing that a session was lost.

use super::offers::OFFERS_UNDER_WAY_MAX;
use super::stream::{Stage, Up};
use super::vetting::Vetting;
use super::{HtlcId, LinkCore, MonoMs, Output, Pending, REJECTED_RETRY_MS};
use mux_raft::consensus::Committed;
use mux_raft::machine::model::{FrontNode, HEIGHT_FRESH_MS};
use mux_raft::machine::{Command, Rejection, Reply, State};
use mux_raft::types::LogTimeMs;
use std::collections::BTreeSet;

/// Well below what the gate asks of a height ([`HEIGHT_FRESH_MS`]).
const RECORDED_TIP_FRESH_MS: LogTimeMs = HEIGHT_FRESH_MS / 2;

impl LinkCore {
    /// Whether the session that this stream believes in is still the log's. If not, the stream's HTLCs are
    /// not live, and it needs a new session.
    pub(super) fn watch_session(&mut self, state: &State) {
        let me = self.config.me;
        let Some(stream) = &mut self.stream else { return };
        let Some(up) = stream.up else { return };
        if state.applied().index < up.index {
            return;
        }
        let session = state.front_node(&self.config.node).and_then(|front| front.session.as_ref());
        match session {
            Some(session) if session.id == up.session && session.owner == me => {
                self.report_due |= session.confirmed_term < state.applied().term;
            }
            Some(_) | None => {
                stream.up = None;
                stream.rename();
            }
        }
    }

    pub(super) fn pump_session(&mut self, state: &State, now: MonoMs) {
        let front = state.front_node(&self.config.node);
        if self.stream.is_none() {
            self.pump_link_down(front, now);
            return;
        }
        self.pump_barrier(now);
        self.pump_link_up(front, now);
        self.pump_report(state, now);
    }

    fn pump_barrier(&mut self, now: MonoMs) {
        let Some(stream) = &mut self.stream else { return };
        if self.quorum && !stream.barrier_passed && !stream.barrier_asked && now >= stream.barrier_retry_at {
            stream.barrier_asked = true;
            self.outputs.push_back(Output::Barrier { stream: stream.number });
        }
    }

    fn pump_link_up(&mut self, front: Option<&FrontNode>, now: MonoMs) {
        let Some(stream) = &self.stream else { return };
        let assigned = front.is_some_and(|front| front.assigned == Some(self.config.me));
        if !assigned || !self.quorum || stream.up.is_some() || now < stream.link_up_retry_at {
            return;
        }
        let number = stream.number;
        let pending = |pending: &Pending| matches!(pending, Pending::LinkUp { stream } if *stream == number);
        if self.proposals.values().any(pending) {
            return;
        }
        let command = Command::LinkUp { node: self.config.node, replica: self.config.me, stream: stream.id };
        self.propose(Pending::LinkUp { stream: number }, command);
    }

    pub(super) fn link_up_done(&mut self, number: u64, committed: Committed, state: &State, now: MonoMs) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else { return };
        let Reply::Session(session) = committed.reply else {
            // A name that stood for an earlier session is not taken again.
            stream.rename();
            stream.link_up_retry_at = now.saturating_add(REJECTED_RETRY_MS);
            return;
        };
        stream.up = Some(Up { session, index: committed.at.index, reported: false });
        // The entry is applied here, so everything committed before it is, too.
        stream.barrier_passed = true;
        stream.degraded = false;
        self.report_due = true;
        self.offer_again();
        self.advance_all(state, now);
    }

    /// Whatever was recorded under an earlier session is live again only when it is offered in this one.
    fn offer_again(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let again: Vec<_> = stream
            .offers
            .iter()
            .filter(|(_, offer)| matches!(offer.stage, Stage::Held | Stage::Proposed(_)))
            .map(|(htlc, _)| *htlc)
            .collect();
        for htlc in again {
            if let Some(offer) = stream.offers.get_mut(&htlc) {
                offer.vetting = Vetting::Open;
            }
            stream.enqueue(htlc);
        }
    }

    fn pump_report(&mut self, state: &State, now: MonoMs) {
        let Some(stream) = &self.stream else { return };
        let Some(up) = stream.up else { return };
        let due = self.report_due
            || now.saturating_sub(self.reported_at) >= self.config.report_interval_ms
            || self.has_channel_to_report(state);
        let number = stream.number;
        let pending = |pending: &Pending| matches!(pending, Pending::Report { stream } if *stream == number);
        if now < self.report_retry_at {
            return;
        }
        if !due || !self.quorum || !self.standstill.is_over() || self.proposals.values().any(pending) {
            return;
        }
        // A report opens gates, at the latest when it is the first of a term or the first for long: what LND failed
        // meanwhile must be in the log before.
        if self.has_untold_ends(state) {
            return;
        }
        self.report_due = false;
        self.reported_at = now;
        let command = Command::LinkReport {
            node: self.config.node,
            session: up.session,
            tip: self.tip,
            inactive_channels: self.inactive_channels(state),
        };
        self.propose(Pending::Report { stream: number }, command);
    }

    /// Channels with HTLCs that are not known to be active. Before LND told, none is.
    fn inactive_channels(&self, state: &State) -> Vec<u64> {
        let recorded =
            state.unresolved_htlcs(&self.config.node).filter(|htlc| !htlc.gone).map(|htlc| htlc.key.chan_id);
        let outstanding = self.stream.iter().flat_map(|stream| stream.offers.keys()).map(|htlc| htlc.chan_id);
        let channels: BTreeSet<u64> = recorded.chain(outstanding).collect();
        let is_active = |channel: &u64| self.active_channels.as_ref().is_some_and(|a| a.contains(channel));
        channels.into_iter().filter(|channel| !is_active(channel)).collect()
    }

    /// The channels that the log knows to be inactive, by the session that is up here.
    pub(super) fn reported_inactive<'s>(&self, state: &'s State) -> Option<&'s BTreeSet<u64>> {
        let up = self.stream.as_ref().and_then(|stream| stream.up)?;
        let session = state.front_node(&self.config.node).and_then(|front| front.session.as_ref())?;
        (session.id == up.session).then_some(&session.inactive_channels)
    }

    /// Something is to be offered on a channel that is not active, which the log does not know yet.
    fn has_channel_to_report(&self, state: &State) -> bool {
        let Some(stream) = &self.stream else { return false };
        let (active, reported) = (self.active_channels.as_ref(), self.reported_inactive(state));
        let is_queued = |htlc: &&HtlcId| stream.offers.get(htlc).is_some_and(|o| o.stage == Stage::Queued);
        let mut next = stream.queue.iter().take(OFFERS_UNDER_WAY_MAX).filter(is_queued);
        next.any(|htlc| !is_channel_known(active, reported, htlc.chan_id))
    }

    /// Whether offers can be judged: the session is applied, and the log knows under it what the first
    /// report says. Waiting for a report that says nothing new would cost a take-over one commit.
    pub(super) fn may_offer(&self, state: &State) -> bool {
        let up = self.stream.as_ref().and_then(|stream| stream.up);
        let Some(up) = up.filter(|up| state.applied().index >= up.index) else { return false };
        if !self.standstill.is_over() {
            return false;
        }
        up.reported || self.report_is_no_news(state)
    }

    fn report_is_no_news(&self, state: &State) -> bool {
        let recorded = state.front_node(&self.config.node).and_then(|front| front.tip);
        let (Some(tip), Some(recorded)) = (self.tip, recorded) else { return false };
        let age_ms = state.time_ms().saturating_sub(recorded.confirmed_at_ms);
        let same = (recorded.height, recorded.hash, recorded.synced) == (tip.height, tip.hash, tip.synced);
        // A new session starts without inactive channels.
        same && age_ms < RECORDED_TIP_FRESH_MS && self.inactive_channels(state).is_empty()
    }

    pub(super) fn report_done(&mut self, number: u64, reply: &Reply) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else { return };
        match reply {
            Reply::Rejected(Rejection::StaleSession | Rejection::NotAssigned) => {
                if stream.up.take().is_some() {
                    stream.rename();
                }
            }
            Reply::Rejected(rejection) => {
                tracing::warn!(front_node = %self.config.node.short(), %rejection, "report was not taken");
            }
            _ => stream.up.iter_mut().for_each(|up| up.reported = true),
        }
    }

    /// While no stream is open, the log must not think one is: also after a restart, and after a LinkUp
    /// whose outcome nobody knew.
    fn pump_link_down(&mut self, front: Option<&FrontNode>, now: MonoMs) {
        let session = front.and_then(|front| front.session.as_ref());
        let Some(session) = session.filter(|session| session.owner == self.config.me) else { return };
        let pending = |pending: &Pending| matches!(pending, Pending::LinkDown);
        if !self.quorum || now < self.down_retry_at || self.proposals.values().any(pending) {
            return;
        }
        self.down_retry_at = now.saturating_add(REJECTED_RETRY_MS);
        let command = Command::LinkDown { node: self.config.node, session: session.id };
        self.propose(Pending::LinkDown, command);
    }
}

/// A channel is active, or the log knows that it is not: so an HTLC on it can be judged.
pub(super) fn is_channel_known(
    active: Option<&BTreeSet<u64>>,
    reported_inactive: Option<&BTreeSet<u64>>,
    chan_id: u64,
) -> bool {
    active.is_some_and(|active| active.contains(&chan_id))
        || reported_inactive.is_some_and(|inactive| inactive.contains(&chan_id))
}

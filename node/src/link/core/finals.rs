//! How HTLCs ended, from LND's events and look-ups into the log.

use super::{HtlcId, LinkCore, MonoMs, Pending, RETRY_MS};
use mux_proto::routerrpc::{HtlcEvent, htlc_event};
use mux_raft::machine::command::{FINALS_PER_ENTRY_MAX, FinalOutcome, HtlcFinal};
use mux_raft::machine::model::{FinalState, Htlc};
use mux_raft::machine::{Command, Reply, State};
use std::collections::{BTreeMap, BTreeSet};

/// A key that the log does not know yet is told again after this long.
const UNKNOWN_RETRY_MS: MonoMs = 250;

/// And given up after this many times: the look-up loop, which starts from the log, finds it if it ever
/// gets known.
const UNKNOWN_TRIES_MAX: u32 = 2_400;

/// An offer of unknown outcome can get into the log after the HTLC ended. Its end is told again after this
/// long, so that no ghost of it is counted.
const REPEAT_AFTER_MS: MonoMs = 5_000;

/// Ends that the log has to be told.
#[derive(Debug, Default)]
pub(super) struct Finals {
    due: BTreeMap<HtlcId, Due>,
    /// Offers of these may land late.
    late: BTreeSet<HtlcId>,
}

#[derive(Debug)]
struct Due {
    outcome: FinalOutcome,
    not_before: MonoMs,
    tries: u32,
    /// Told once, being repeated.
    repeat: bool,
    in_flight: bool,
}

/// A later word never replaces a more definite one.
fn rank(outcome: FinalOutcome) -> u8 {
    match outcome {
        FinalOutcome::FailedByLnd => 0,
        FinalOutcome::Unconfirmed => 1,
        FinalOutcome::Failed | FinalOutcome::Settled => 2,
    }
}

impl Finals {
    fn add(&mut self, htlc: HtlcId, outcome: FinalOutcome) {
        let due = Due { outcome, not_before: 0, tries: 0, repeat: false, in_flight: false };
        match self.due.get_mut(&htlc) {
            Some(known) if rank(known.outcome) >= rank(outcome) => {}
            Some(known) => *known = due,
            None => {
                self.due.insert(htlc, due);
            }
        }
    }

    /// Offers of these have an unknown outcome.
    pub(super) fn may_be_offered_late(&mut self, htlcs: &[HtlcId]) {
        self.late.extend(htlcs);
    }

    /// A new session makes late offers of the former one stale.
    pub(super) fn stream_ended(&mut self) {
        self.late.clear();
    }

    pub(super) fn done(&mut self, htlcs: &[HtlcId], reply: &Reply, now: MonoMs) {
        let unknown: BTreeSet<HtlcId> = match reply {
            Reply::UnknownHtlcs(unknown) => {
                unknown.iter().map(|&(chan_id, htlc_id)| HtlcId { chan_id, htlc_id }).collect()
            }
            _ => BTreeSet::new(),
        };
        for htlc in htlcs {
            let Some(due) = self.due.get_mut(htlc).filter(|due| due.in_flight) else { continue };
            due.in_flight = false;
            due.tries = due.tries.saturating_add(1);
            if unknown.contains(htlc) && !due.repeat && due.tries < UNKNOWN_TRIES_MAX {
                due.not_before = now.saturating_add(UNKNOWN_RETRY_MS);
            } else if self.late.remove(htlc) {
                due.repeat = true;
                due.not_before = now.saturating_add(REPEAT_AFTER_MS);
            } else {
                self.due.remove(htlc);
            }
        }
    }

    pub(super) fn lost(&mut self, htlcs: &[HtlcId], retry_at: MonoMs) {
        for htlc in htlcs {
            if let Some(due) = self.due.get_mut(htlc) {
                due.in_flight = false;
                due.not_before = retry_at;
            }
        }
    }
}

impl LinkCore {
    /// LND's event stream says something.
    pub(crate) fn htlc_event(&mut self, event: &HtlcEvent, state: &State, now: MonoMs) {
        let htlc = HtlcId { chan_id: event.incoming_channel_id, htlc_id: event.incoming_htlc_id };
        match &event.event {
            Some(htlc_event::Event::FinalHtlcEvent(end)) => {
                let outcome = if end.settled { FinalOutcome::Settled } else { FinalOutcome::Failed };
                self.final_known(htlc, outcome, state, now);
            }
            Some(htlc_event::Event::ForwardFailEvent(_)) => self.failed_by_lnd(htlc, state, now),
            // A settle event is sent before the peer is bound to anything: no proof.
            Some(
                htlc_event::Event::SettleEvent(_)
                | htlc_event::Event::ForwardEvent(_)
                | htlc_event::Event::LinkFailEvent(_)
                | htlc_event::Event::SubscribedEvent(_),
            )
            | None => {}
        }
    }

    /// The end of an HTLC is known, from an event or a look-up. Events of foreign HTLCs come here, too.
    pub(crate) fn final_known(&mut self, htlc: HtlcId, outcome: FinalOutcome, state: &State, now: MonoMs) {
        let known = state.htlc(&self.key(htlc));
        let told = |known: &Htlc| {
            let unconfirmed = known.final_state == FinalState::Unconfirmed;
            known.final_state.is_final() || (unconfirmed && outcome == FinalOutcome::Unconfirmed)
        };
        if known.is_some_and(told) {
            return;
        }
        if known.is_none() && !self.is_ours(htlc) {
            return;
        }
        // LND dealt with it: an answer would end the stream.
        self.forget(htlc);
        self.finals.add(htlc, outcome);
        self.pump(state, now);
    }

    /// LND failed it, by our answer or by itself. Only the latter is news.
    fn failed_by_lnd(&mut self, htlc: HtlcId, state: &State, now: MonoMs) {
        let known = state.htlc(&self.key(htlc));
        let on_chain = self
            .stream
            .as_ref()
            .and_then(|stream| stream.offers.get(&htlc))
            .is_some_and(|offer| offer.on_chain);
        if on_chain || (known.is_none() && !self.is_ours(htlc)) {
            return;
        }
        self.forget(htlc);
        if known.is_none_or(|known| known.verdict.is_none() && !known.gone) {
            self.finals.add(htlc, FinalOutcome::FailedByLnd);
            self.pump(state, now);
        }
    }

    /// Proposed from this stream, whether or not it is applied yet.
    fn is_ours(&self, htlc: HtlcId) -> bool {
        self.is_being_offered(htlc)
            || self
                .stream
                .as_ref()
                .and_then(|stream| stream.offers.get(&htlc))
                .is_some_and(|offer| offer.proposed)
    }

    /// Ends of undecided HTLCs that the log has yet to hear of.
    pub(super) fn has_untold_ends(&self, state: &State) -> bool {
        let undecided = |htlc: &HtlcId| {
            state.htlc(&self.key(*htlc)).is_some_and(|known| known.verdict.is_none() && !known.gone)
        };
        self.finals.due.iter().any(|(htlc, due)| !due.repeat && undecided(htlc))
    }

    pub(super) fn pump_finals(&mut self, now: MonoMs) {
        let under_way = self.proposals.values().any(|pending| matches!(pending, Pending::Finals { .. }));
        if under_way || !self.quorum || self.finals.due.is_empty() {
            return;
        }
        // An end must not overtake the offer that it ends.
        let due: Vec<HtlcId> = self
            .finals
            .due
            .iter()
            .filter(|(htlc, due)| now >= due.not_before && !self.is_being_offered(**htlc))
            .map(|(htlc, _)| *htlc)
            .take(FINALS_PER_ENTRY_MAX)
            .collect();
        let mut finals = Vec::with_capacity(due.len());
        for htlc in &due {
            if let Some(due) = self.finals.due.get_mut(htlc) {
                due.in_flight = true;
                due.not_before = now.saturating_add(RETRY_MS);
                finals.push(HtlcFinal { chan_id: htlc.chan_id, htlc_id: htlc.htlc_id, outcome: due.outcome });
            }
        }
        if !finals.is_empty() {
            let command = Command::HtlcFinals { node: self.config.node, finals };
            self.propose(Pending::Finals { htlcs: due }, command);
        }
    }
}

//! What applied entries say in the operator's log, under the names `payment_hash`, `circuit_key`, `term`, `index`.
//!
//! In the whole cluster a settled payment has one line at level info: the leader's, at the decision. All other
//! steps are at level debug, on every replica. Alarms are errors on every replica.

use crate::machine::model::{Event, EventKind};
use crate::machine::{Alarm, State};
use crate::replica::raft::LogId;
use crate::types::CircuitKey;

/// HTLCs named in the line of a decision; the set's size is told in any case.
const KEYS_TOLD: usize = 8;

/// What was decided by an entry, with the HTLCs it was decided for.
#[derive(Debug, Default)]
pub(super) struct Decided {
    parts: usize,
    keys: Vec<CircuitKey>,
}

/// The HTLCs of the set that this event decides on, from the state that follows from it.
pub(super) fn decided(state: &State, changes: &[Event]) -> Vec<Decided> {
    let settling = changes.iter().filter(|event| matches!(event.kind, EventKind::Settling { .. }));
    let sets = settling.map(|event| state.invoice(&event.hash).and_then(|invoice| invoice.set.as_ref()));
    let told = sets.map(|set| {
        let parts = set.map_or(0, |set| set.parts.len());
        Decided { parts, keys: set.iter().flat_map(|set| &set.parts).take(KEYS_TOLD).copied().collect() }
    });
    told.collect()
}

/// Tells what an entry did. `leads`: this replica took it into the log, so that it is the one to tell.
pub(super) fn tell(at: LogId, leads: bool, changes: &[Event], decided: Vec<Decided>) {
    let (term, index) = (at.leader_id.term, at.index);
    let mut decided = decided.into_iter();
    for Event { hash, kind, .. } in changes {
        match kind {
            EventKind::Settling { set_id, amount_msat } => {
                let Decided { parts, keys } = decided.next().unwrap_or_default();
                if leads {
                    tracing::info!(
                        payment_hash = %hash, circuit_key = ?keys, parts, %set_id, amount_msat = amount_msat.0,
                        term, index, "payment settles: the decision is in the log"
                    );
                } else {
                    tracing::debug!(
                        payment_hash = %hash, circuit_key = ?keys, parts, %set_id, amount_msat = amount_msat.0,
                        term, index, "payment settles"
                    );
                }
            }
            EventKind::Partial { received_msat } if leads => tracing::warn!(
                payment_hash = %hash, received_msat = received_msat.0, term, index,
                "payment partial: of its decided HTLCs not all brought their money"
            ),
            EventKind::HtlcJoined { key, amount_msat } => tracing::debug!(
                payment_hash = %hash, circuit_key = %key, amount_msat = amount_msat.0, term, index,
                "HTLC joins a set"
            ),
            EventKind::HtlcFinal { key, state } => tracing::debug!(
                payment_hash = %hash, circuit_key = %key, ?state, term, index, "HTLC is final"
            ),
            EventKind::SetFailed { reason, amount_msat } => tracing::debug!(
                payment_hash = %hash, ?reason, amount_msat = amount_msat.0, term, index, "set failed"
            ),
            EventKind::Added
            | EventKind::Accepted { .. }
            | EventKind::Settled { .. }
            | EventKind::Partial { .. }
            | EventKind::Canceled
            | EventKind::Voided
            | EventKind::Expired => {
                tracing::debug!(payment_hash = %hash, change = ?kind, term, index, "invoice changed");
            }
        }
    }
}

/// Tells the operator. Every replica does, and again when it re-applies the entry after a restart.
pub(super) fn raise(at: LogId, alarm: Alarm) {
    let (kind, key) = match alarm {
        Alarm::SettledWithoutDecision(key) => ("settled_without_decision", key),
        Alarm::DecidedPartLost(key) => ("decided_part_lost", key),
        Alarm::Unconfirmed(key) => ("unconfirmed", key),
        Alarm::ContradictingFinal(key) => ("contradicting_final", key),
    };
    metrics::counter!("mux_alarms_total", "alarm" => kind).increment(1);
    let (term, index) = (at.leader_id.term, at.index);
    tracing::error!(circuit_key = %key, alarm = kind, term, index, "ALARM: {}", meaning(alarm));
}

fn meaning(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::SettledWithoutDecision(_) => "LND settled an HTLC that the cluster never decided to settle",
        Alarm::DecidedPartLost(_) => "the money of a decided HTLC did not arrive",
        Alarm::Unconfirmed(_) => {
            "nobody can tell how a decided HTLC ended: look at the node, then use `muxcli htlc resolve`"
        }
        Alarm::ContradictingFinal(_) => "LND tells two different ends of one HTLC; the first one stands",
    }
}

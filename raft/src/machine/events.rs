//! The event sequence: gap-free, over every change of an invoice, the only thing subscribers need.

use super::apply::Step;
use super::model::{Event, EventKind};
use super::state::State;
use crate::types::PaymentHash;

impl State {
    /// Appends an event. The invoice must already be in the state that the event announces. An HTLC whose
    /// invoice is unknown leaves none.
    pub(super) fn emit(&mut self, step: &mut Step, hash: PaymentHash, kind: EventKind) {
        let Some(state) = self.known_invoice(&hash).map(|invoice| invoice.state) else { return };
        self.core.last_event = self.core.last_event.saturating_add(1);
        let event = Event { sequence: self.core.last_event, time_ms: self.core.time_ms, hash, state, kind };
        step.emitted.push(event.clone());
        self.core.events.push_back(event);
        step.events = true;
    }
}

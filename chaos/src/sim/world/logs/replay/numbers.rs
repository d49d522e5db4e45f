use mux_raft::archive::MemoryArchive;
use mux_raft::machine::State;
use mux_raft::machine::archive::ArchiveLookup as _;
use mux_raft::machine::model::{Event, EventKind};

/// The last number of each kind. They are what applications page and subscribe by: whoever has seen one has seen all below it.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    event: u64,
    add: u64,
    decision: u64,
    settle: u64,
}

impl Numbers {
    /// Events are numbered without a gap, and invoices in the order in which they were added, decided and settled.
    pub(super) fn look(
        &mut self,
        state: &State,
        archive: &MemoryArchive,
        event: &Event,
    ) -> Result<(), String> {
        next(&mut self.event, "event", event.sequence, event)?;
        let number = match event.kind {
            EventKind::Added => &mut self.add,
            EventKind::Settling { .. } => &mut self.decision,
            EventKind::Settled { .. } | EventKind::Partial { .. } => &mut self.settle,
            _ => return Ok(()),
        };
        let archived = || archive.invoice(state.archive_tip(), &event.hash).ok().flatten();
        let invoice = state.invoice(&event.hash).cloned().or_else(|| Some(archived()?.invoice));
        let invoice = invoice.ok_or_else(|| format!("no invoice for {event:?}"))?;
        match event.kind {
            EventKind::Added => next(number, "add_index", invoice.add_index, event),
            EventKind::Settling { .. } => next(number, "decision_index", invoice.decision_index, event),
            _ => next(number, "settle_index", invoice.settle_index, event),
        }
    }
}

fn next(last: &mut u64, what: &str, number: u64, event: &Event) -> Result<(), String> {
    let before = std::mem::replace(last, number);
    if number == before.saturating_add(1) {
        return Ok(());
    }
    Err(format!("{what} {number} comes after {before}: {event:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mux_raft::machine::command::NewInvoice;
    use mux_raft::machine::model::{InvoiceKind, InvoiceTerms};
    use mux_raft::machine::{Applied, Command, Envelope, LogPosition};
    use mux_raft::types::{Msat, PaymentHash, PaymentSecret};

    fn add(state: &mut State, number: u8) -> Applied {
        let new = NewInvoice {
            hash: PaymentHash([number; 32]),
            secret: PaymentSecret([number; 32]),
            terms: InvoiceTerms {
                kind: InvoiceKind::Stored,
                amount_msat: Msat(1_000),
                expires_at_ms: 60_000,
                min_final_cltv: 80,
                key_epoch: 0,
            },
            payment_request: String::new(),
            description: String::new(),
            description_hash: None,
        };
        let at = LogPosition { term: 1, index: u64::from(number) };
        let command = Command::AddInvoice(Box::new(new));
        let envelope = Envelope { format: command.level(), time_ms: 1_000, request_id: None, command };
        state.apply(at, Some(&envelope), &MemoryArchive::default()).unwrap()
    }

    #[test]
    fn a_gap_in_the_numbers_is_noticed() {
        let (mut state, archive) = (State::default(), MemoryArchive::default());
        let events: Vec<Event> = (1..=3).flat_map(|number| add(&mut state, number).changes).collect();
        let look = |which: &[usize]| {
            let mut numbers = Numbers::default();
            which.iter().try_for_each(|at| numbers.look(&state, &archive, &events[*at]))
        };
        assert_eq!(look(&[0, 1, 2]), Ok(()));
        assert!(look(&[0, 2]).unwrap_err().starts_with("event 3 comes after 1"));
        let mut numbers = Numbers { event: 1, ..Numbers::default() };
        let told = numbers.look(&state, &archive, &events[1]).unwrap_err();
        assert!(told.starts_with("add_index 2 comes after 0"), "{told}");
    }
}

//! Reading across memory and archive: what a reader of the state sees does not depend on where a record is.

use super::InvoiceOrder;
use crate::consensus::StateCell;
use crate::machine::State;
use crate::machine::archive::{ArchiveTip, ArchiveUnreadable, ArchivedInvoice};
use crate::machine::model::{Event, Htlc, Invoice, InvoiceState};
use crate::types::{BlockHeight, CircuitKey, PaymentHash};

/// An invoice with what is known of the HTLCs of its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundInvoice {
    /// The invoice.
    pub invoice: Invoice,
    /// The HTLCs of its set, by key.
    pub htlcs: Vec<Htlc>,
    /// See [`State::settle_deadline_height`]; only of a set that is accepted and not decided.
    pub settle_deadline_height: Option<BlockHeight>,
}

impl FoundInvoice {
    fn in_memory(state: &State, invoice: &Invoice) -> Self {
        let keys = invoice.set.iter().flat_map(|set| &set.parts);
        let htlcs = keys.filter_map(|key| state.htlc(key)).cloned().collect();
        let accepted = invoice.state == InvoiceState::Accepted;
        let deadline = if accepted { state.settle_deadline_height(&invoice.hash) } else { None };
        Self { invoice: invoice.clone(), htlcs, settle_deadline_height: deadline }
    }

    fn archived(archived: ArchivedInvoice) -> Self {
        Self { invoice: archived.invoice, htlcs: archived.htlcs, settle_deadline_height: None }
    }
}

/// Which invoices to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvoicePage {
    /// By which number.
    pub order: InvoiceOrder,
    /// From this number on, inclusive.
    pub first: u64,
    /// To this number, inclusive.
    pub last: u64,
    /// Descending.
    pub newest_first: bool,
    /// At most so many.
    pub limit: usize,
}

impl StateCell {
    /// An invoice, wherever it is. Blocks for as long as the archive's disk takes.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn find_invoice(&self, hash: &PaymentHash) -> Result<Option<FoundInvoice>, ArchiveUnreadable> {
        let (found, tip) = self.read(|state| {
            let invoice = state.invoice(hash);
            (invoice.map(|invoice| FoundInvoice::in_memory(state, invoice)), *state.archive_tip())
        });
        if found.is_some() {
            return Ok(found);
        }
        let archived = self.archive().invoice(&tip, hash)?;
        Ok(archived.map(FoundInvoice::archived))
    }

    /// An HTLC, wherever it is. Blocks for as long as the archive's disk takes.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn find_htlc(&self, key: &CircuitKey) -> Result<Option<Htlc>, ArchiveUnreadable> {
        let (found, tip) = self.read(|state| (state.htlc(key).cloned(), *state.archive_tip()));
        if found.is_some() {
            return Ok(found);
        }
        let archived = self.archive().invoice_of(&tip, key)?;
        Ok(archived.and_then(|archived| archived.htlcs.into_iter().find(|htlc| htlc.key == *key)))
    }

    /// Invoices in the order of one of their numbers, in memory and archived ones alike. Blocks.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn list_invoices(&self, page: InvoicePage) -> Result<Vec<FoundInvoice>, ArchiveUnreadable> {
        let (mut found, tip) = self.read(|state| (in_memory(state, page), *state.archive_tip()));
        let archived = self.archive().invoices(
            &tip,
            page.order,
            page.first..=page.last,
            page.newest_first,
            page.limit,
        )?;
        found.extend(archived.into_iter().map(FoundInvoice::archived));
        found.sort_by_key(|found| number_of(&found.invoice, page.order));
        if page.newest_first {
            found.reverse();
        }
        found.truncate(page.limit);
        Ok(found)
    }

    /// Events after a sequence number, oldest first, in memory and archived ones alike. Blocks.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn list_events(&self, sequence: u64, limit: usize) -> Result<Vec<Event>, ArchiveUnreadable> {
        let (found, first, tip): (Vec<Event>, u64, ArchiveTip) = self.read(|state| {
            let events = state.events_after(sequence).take(limit).cloned().collect();
            (events, state.first_event_in_memory(), *state.archive_tip())
        });
        if sequence.saturating_add(1) >= first {
            return Ok(found);
        }
        let mut events = self.archive().events_after(&tip, sequence, limit)?;
        events.extend(found);
        events.truncate(limit);
        Ok(events)
    }
}

fn number_of(invoice: &Invoice, order: InvoiceOrder) -> u64 {
    match order {
        InvoiceOrder::Added => invoice.add_index,
        InvoiceOrder::Decided => invoice.decision_index,
        InvoiceOrder::Settled => invoice.settle_index,
    }
}

fn in_memory(state: &State, page: InvoicePage) -> Vec<FoundInvoice> {
    let before = page.first.saturating_sub(1);
    match page.order {
        InvoiceOrder::Added => pick(state, page, state.invoices_after(before)),
        InvoiceOrder::Decided => pick(state, page, state.decided_from(page.first)),
        InvoiceOrder::Settled => pick(state, page, state.settled_after(before)),
    }
}

fn pick<'state>(
    state: &State,
    page: InvoicePage,
    invoices: impl DoubleEndedIterator<Item = &'state Invoice>,
) -> Vec<FoundInvoice> {
    let found = |invoice| FoundInvoice::in_memory(state, invoice);
    if page.newest_first {
        let invoices = invoices.rev().skip_while(|invoice| number_of(invoice, page.order) > page.last);
        invoices.take(page.limit).map(found).collect()
    } else {
        let invoices = invoices.take_while(|invoice| number_of(invoice, page.order) <= page.last);
        invoices.take(page.limit).map(found).collect()
    }
}

//! A state and its archive as a reader sees them together: what is finished may be in either.

#![allow(unreachable_pub, clippy::unwrap_used)]

use mux_raft::archive::{Archive as _, InvoiceOrder, MemoryArchive};
use mux_raft::machine::State;
use mux_raft::machine::archive::{ArchiveLookup as _, ArchivedInvoice};
use mux_raft::machine::model::*;
use mux_raft::types::*;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// As of one entry: the tip of the state bounds what is seen of the archive, which goes on.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub state: State,
    pub archive: Arc<MemoryArchive>,
}

impl Deref for Seen {
    type Target = State;

    /// For what does not depend on where a record is; the readers below shadow the others.
    fn deref(&self) -> &State {
        &self.state
    }
}

impl Seen {
    pub fn invoice(&self, hash: &PaymentHash) -> Option<Invoice> {
        let archived = || self.archive.invoice(self.state.archive_tip(), hash).unwrap();
        let known = self.state.invoice(hash).cloned();
        assert!(known.is_none() || archived().is_none(), "in memory and in the archive");
        known.or_else(|| archived().map(|archived| archived.invoice))
    }

    pub fn htlc(&self, key: &CircuitKey) -> Option<Htlc> {
        let archived = || self.archive.invoice_of(self.state.archive_tip(), key).unwrap();
        let known = self.state.htlc(key).cloned();
        known.or_else(|| archived()?.htlcs.into_iter().find(|htlc| htlc.key == *key))
    }

    pub fn verdict(&self, key: &CircuitKey) -> Option<Verdict> {
        self.htlc(key).and_then(|htlc| htlc.verdict)
    }

    fn archived(&self, order: InvoiceOrder) -> Vec<ArchivedInvoice> {
        self.archive.invoices(self.state.archive_tip(), order, 1..=u64::MAX, false, usize::MAX).unwrap()
    }

    /// By one of their numbers, in that order.
    pub fn invoices(&self, order: InvoiceOrder) -> Vec<Invoice> {
        let (known, number): (Vec<&Invoice>, fn(&Invoice) -> u64) = match order {
            InvoiceOrder::Added => (self.state.invoices_after(0).collect(), |invoice| invoice.add_index),
            InvoiceOrder::Decided => (self.state.decided_from(1).collect(), |invoice| invoice.decision_index),
            InvoiceOrder::Settled => (self.state.settled_after(0).collect(), |invoice| invoice.settle_index),
        };
        let archived = self.archived(order).into_iter().map(|archived| archived.invoice);
        let mut invoices: Vec<Invoice> = archived.chain(known.into_iter().cloned()).collect();
        invoices.sort_by_key(number);
        invoices
    }

    /// All that are known, by key.
    pub fn htlcs(&self) -> BTreeMap<CircuitKey, Htlc> {
        let fronts = self.state.front_nodes().map(|front| front.node);
        let known = fronts.flat_map(|node| self.state.htlcs_of(&node).cloned().collect::<Vec<_>>());
        let archived = self.archived(InvoiceOrder::Added).into_iter().flat_map(|archived| archived.htlcs);
        let mut htlcs = BTreeMap::new();
        for htlc in archived.chain(known) {
            assert!(htlcs.insert(htlc.key, htlc).is_none(), "in memory and in the archive");
        }
        htlcs
    }

    /// After a sequence number.
    pub fn events_after(&self, sequence: u64) -> Vec<Event> {
        let mut events = self.archive.events_after(self.state.archive_tip(), sequence, usize::MAX).unwrap();
        events.extend(self.state.events_after(sequence).cloned());
        events
    }
}

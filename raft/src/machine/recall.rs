//! What an entry needs from the archive, read before the entry changes anything.
//!
//! Finished invoices and their HTLCs never change, so they are only looked at: an entry that names one gets the
//! answer it would have got while the record was in memory.

use super::archive::{ArchiveLookup, ArchiveUnreadable, ArchivedInvoice};
use super::command::{Command, Envelope};
use super::level;
use super::model::{Htlc, Invoice};
use super::state::State;
use crate::types::{CircuitKey, NodePubkey, PaymentHash};
use std::collections::BTreeMap;

/// Archived records that the entry being applied names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recalled {
    invoices: BTreeMap<PaymentHash, Invoice>,
    htlcs: BTreeMap<CircuitKey, Htlc>,
}

impl Recalled {
    pub(super) fn has_htlc(&self, key: &CircuitKey) -> bool {
        self.htlcs.contains_key(key)
    }

    fn take(&mut self, archived: Option<ArchivedInvoice>) {
        let Some(ArchivedInvoice { invoice, htlcs }) = archived else { return };
        self.htlcs.extend(htlcs.into_iter().map(|htlc| (htlc.key, htlc)));
        self.invoices.insert(invoice.hash, invoice);
    }
}

impl State {
    /// An invoice in memory or, if the entry being applied names it, in the archive.
    pub(super) fn known_invoice(&self, hash: &PaymentHash) -> Option<&Invoice> {
        self.core.invoices.get(hash).or_else(|| self.recalled.invoices.get(hash))
    }

    /// An HTLC in memory or, if the entry being applied names it, in the archive.
    pub(super) fn known_htlc(&self, key: &CircuitKey) -> Option<&Htlc> {
        self.core.htlcs.get(key).or_else(|| self.recalled.htlcs.get(key))
    }

    /// Looks up everything that the entry names and that is not in memory.
    pub(super) fn recall(
        &self,
        envelope: &Envelope,
        archive: &dyn ArchiveLookup,
    ) -> Result<Recalled, ArchiveUnreadable> {
        let mut recall = Recall { state: self, archive, recalled: Recalled::default() };
        if self.feature_level() < level::ARCHIVE {
            return Ok(recall.recalled);
        }
        match &envelope.command {
            Command::OfferHtlcs { node, offers, .. } => {
                for offer in offers {
                    recall.htlc(*node, offer.chan_id, offer.htlc_id)?;
                    recall.invoice(&offer.hash)?;
                }
            }
            Command::HtlcFinals { node, finals } => {
                for end in finals {
                    recall.htlc(*node, end.chan_id, end.htlc_id)?;
                }
            }
            Command::ResolveHtlc { key, .. } => recall.htlc(key.node, key.chan_id, key.htlc_id)?,
            Command::AddInvoice(invoice) => recall.invoice(&invoice.hash)?,
            Command::SettleInvoice { hash, .. } | Command::CancelInvoice { hash, .. } => {
                recall.invoice(hash)?;
            }
            Command::Tick
            | Command::Configure(_)
            | Command::PutFrontNode { .. }
            | Command::AssignLink { .. }
            | Command::LinkUp { .. }
            | Command::LinkReport { .. }
            | Command::LinkDown { .. }
            | Command::RaiseFeatureLevel { .. }
            | Command::SetRetention { .. }
            | Command::AcceptRestoration
            | Command::EnrolStore { .. }
            | Command::NoteLogs { .. }
            | Command::PutFrontNodeAccess { .. }
            | Command::SetFrontNodeDisabled { .. }
            | Command::RemoveFrontNode { .. }
            | Command::RetireReplica { .. } => {}
        }
        Ok(recall.recalled)
    }
}

struct Recall<'state> {
    state: &'state State,
    archive: &'state dyn ArchiveLookup,
    recalled: Recalled,
}

impl Recall<'_> {
    fn invoice(&mut self, hash: &PaymentHash) -> Result<(), ArchiveUnreadable> {
        if self.state.core.invoices.contains_key(hash) || self.recalled.invoices.contains_key(hash) {
            return Ok(());
        }
        let archived = self.archive.invoice(&self.state.more.archive, hash)?;
        self.recalled.take(archived);
        Ok(())
    }

    /// An HTLC in memory may have tried to pay an invoice that is archived: its events name that one's state.
    fn htlc(&mut self, node: NodePubkey, chan_id: u64, htlc_id: u64) -> Result<(), ArchiveUnreadable> {
        let key = CircuitKey { node, chan_id, htlc_id };
        if let Some(htlc) = self.state.core.htlcs.get(&key) {
            let hash = htlc.hash;
            return self.invoice(&hash);
        }
        if !self.recalled.has_htlc(&key) {
            let archived = self.archive.invoice_of(&self.state.more.archive, &key)?;
            self.recalled.take(archived);
        }
        Ok(())
    }
}

//! Invoices come into being and are cancelled.
//!
//! A hash is used once. A stateless invoice is created by its first HTLC; cancelled before, it leaves a
//! *tombstone*: a CANCELED record without a number, so that no later HTLC can pay it.

use super::apply::Step;
use super::command::{CancelScope, HtlcOffer, NewInvoice};
use super::model::{DetailsCause, EventKind, Invoice, InvoiceKind, InvoiceState, InvoiceTerms};
use super::reply::{Rejection, Reply};
use super::sets::SetFailure;
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{Msat, PaymentHash, PaymentSecret, SetId};

impl State {
    pub(super) fn add_invoice(&mut self, step: &mut Step, new: &NewInvoice) -> Reply {
        if self.known_invoice(&new.hash).is_some() {
            return Reply::Rejected(Rejection::InvoiceExists(new.hash));
        }
        if new.terms.kind == InvoiceKind::Stateless {
            return invalid("a stateless invoice is not stored");
        }
        if self.core.time_ms >= new.terms.expires_at_ms {
            return invalid("the invoice is expired already");
        }
        let invoice = Invoice {
            payment_request: new.payment_request.clone(),
            description: new.description.clone(),
            description_hash: new.description_hash,
            ..self.blank_invoice(new.hash, new.secret.clone(), new.terms)
        };
        Reply::InvoiceAdded { add_index: self.number_and_insert(step, invoice) }
    }

    /// The stateless invoice that this HTLC is the first to pay.
    pub(super) fn create_from_offer(&mut self, step: &mut Step, offer: &HtlcOffer) {
        let invoice = self.blank_invoice(offer.hash, offer.secret.clone(), offer.terms);
        self.number_and_insert(step, invoice);
    }

    fn number_and_insert(&mut self, step: &mut Step, mut invoice: Invoice) -> u64 {
        let (hash, add_index) = (invoice.hash, self.core.last_add_index.saturating_add(1));
        self.core.last_add_index = add_index;
        invoice.add_index = add_index;
        self.insert_invoice(invoice);
        self.emit(step, hash, EventKind::Added);
        add_index
    }

    fn blank_invoice(&self, hash: PaymentHash, secret: PaymentSecret, terms: InvoiceTerms) -> Invoice {
        Invoice {
            hash,
            secret,
            terms,
            state: InvoiceState::Open,
            payment_request: String::new(),
            description: String::new(),
            description_hash: None,
            add_index: 0,
            decision_index: 0,
            settle_index: 0,
            created_at_ms: self.core.time_ms,
            decided_at_ms: 0,
            finalized_at_ms: 0,
            attempt: 0,
            set: None,
            received_msat: Msat::ZERO,
            preimage: None,
        }
    }

    pub(super) fn cancel_invoice(
        &mut self,
        step: &mut Step,
        hash: PaymentHash,
        scope: &CancelScope,
    ) -> Reply {
        if self.index.sets.contains(&hash) && self.is_reconciling() {
            return invalid(
                "HTLCs are in doubt after a restoration: cancel when LND has said how they ended",
            );
        }
        match (scope, self.known_invoice(&hash)) {
            (CancelScope::Unseen { terms, secret }, None) => self.bury(step, hash, *terms, secret),
            (_, None) => Reply::Rejected(Rejection::UnknownInvoice(hash)),
            (CancelScope::Set(set_id), Some(invoice)) => {
                if let Some(rejection) = set_refusal(invoice, *set_id) {
                    return Reply::Rejected(rejection);
                }
                self.fail_set(step, hash, SetFailure::Details(DetailsCause::Canceled));
                Reply::Done
            }
            (CancelScope::Invoice | CancelScope::Unseen { .. }, Some(invoice)) => match invoice.state {
                InvoiceState::Canceled => Reply::Done,
                InvoiceState::Settling if planted(Mutant::CancelAfterDecision) => {
                    self.cancel_undecided(step, hash);
                    Reply::Done
                }
                InvoiceState::Open | InvoiceState::Accepted => {
                    self.cancel_undecided(step, hash);
                    Reply::Done
                }
                state @ (InvoiceState::Settling
                | InvoiceState::Settled
                | InvoiceState::Partial
                | InvoiceState::Expired) => Reply::Rejected(Rejection::WrongState(state)),
            },
        }
    }

    fn cancel_undecided(&mut self, step: &mut Step, hash: PaymentHash) {
        let time_ms = self.core.time_ms;
        if self.core.invoices.get(&hash).is_some_and(|invoice| invoice.set.is_some()) {
            return self.fail_set(step, hash, SetFailure::Canceled);
        }
        self.change_invoice(&hash, |invoice| {
            invoice.state = InvoiceState::Canceled;
            invoice.finalized_at_ms = time_ms;
        });
        self.emit(step, hash, EventKind::Canceled);
    }

    /// Leaves a tombstone for a stateless invoice that nobody has paid.
    fn bury(
        &mut self,
        step: &mut Step,
        hash: PaymentHash,
        terms: InvoiceTerms,
        secret: &PaymentSecret,
    ) -> Reply {
        if terms.kind != InvoiceKind::Stateless {
            return Reply::Rejected(Rejection::UnknownInvoice(hash));
        }
        if self.core.time_ms >= terms.expires_at_ms {
            return Reply::Rejected(Rejection::WrongState(InvoiceState::Expired));
        }
        let mut invoice = self.blank_invoice(hash, secret.clone(), terms);
        invoice.state = InvoiceState::Canceled;
        invoice.finalized_at_ms = self.core.time_ms;
        self.insert_invoice(invoice);
        self.emit(step, hash, EventKind::Canceled);
        Reply::Done
    }
}

/// Why the set of an invoice cannot be cancelled. A set that is still collected has no id.
fn set_refusal(invoice: &Invoice, set_id: Option<SetId>) -> Option<Rejection> {
    let unknown = Rejection::UnknownSet(invoice.hash);
    match (&invoice.set, invoice.state) {
        (_, InvoiceState::Canceled | InvoiceState::Expired) => Some(Rejection::WrongState(invoice.state)),
        (None, _) => Some(unknown),
        (Some(set), _) if set_id.is_some() && set_id != set.id => Some(unknown),
        (Some(_), InvoiceState::Open | InvoiceState::Accepted) => None,
        (Some(_), InvoiceState::Settling | InvoiceState::Settled | InvoiceState::Partial) => {
            Some(Rejection::WrongState(invoice.state))
        }
    }
}

fn invalid(why: &str) -> Reply {
    Reply::Rejected(Rejection::Invalid(why.to_owned()))
}

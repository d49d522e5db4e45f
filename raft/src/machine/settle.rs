//! The decision to settle: by itself when a gate opens, or because an application asks.

use super::apply::Step;
use super::model::{EventKind, Invoice, InvoiceKind, InvoiceState, Verdict};
use super::reply::{Rejection, Reply, SettleReply};
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{PaymentHash, Preimage, SetId};

impl State {
    /// Takes the decision: every part gets SETTLE at once. The caller found the gate open.
    pub(super) fn decide(&mut self, step: &mut Step, hash: PaymentHash) -> u64 {
        let decision_index = self.core.last_decision_index.saturating_add(1);
        self.core.last_decision_index = decision_index;
        let (time_ms, log_index) = (self.core.time_ms, self.core.applied.index);
        let preimage = self.core.intents.remove(&hash);
        let set = self.change_invoice(&hash, |invoice| {
            let early = planted(Mutant::SettledUnconfirmed);
            invoice.state = if early { InvoiceState::Settled } else { InvoiceState::Settling };
            invoice.decision_index = decision_index;
            invoice.decided_at_ms = time_ms;
            invoice.preimage = preimage;
            invoice.set.clone()
        });
        let Some(set) = set.flatten() else { return decision_index };
        let left_out = usize::from(planted(Mutant::PartOfSetSettles) && set.parts.len() > 1);
        for key in set.parts.iter().skip(left_out) {
            self.change_htlc(key, |htlc| {
                htlc.verdict = Some(Verdict::Settle);
                htlc.decided_at_index = log_index;
            });
            step.nodes.insert(key.node);
        }
        if let Some(set_id) = set.id {
            self.emit(step, hash, EventKind::Settling { set_id, amount_msat: set.sum_msat });
        }
        decision_index
    }

    /// A decision that only LND told of (see `restoring`) came without the preimage of a hold invoice.
    fn learn_preimage(&mut self, step: &mut Step, hash: PaymentHash, preimage: Option<&Preimage>) {
        let parts = self.change_invoice(&hash, |invoice| {
            let missing = invoice.terms.kind == InvoiceKind::Hold && invoice.preimage.is_none();
            if !missing {
                return None;
            }
            invoice.preimage = preimage.cloned();
            invoice.set.as_ref().map(|set| set.parts.clone())
        });
        step.nodes.extend(parts.flatten().unwrap_or_default().iter().map(|key| key.node));
    }

    /// An application's word. `keep_intent`: with the gate closed, settle as soon as it opens.
    pub(super) fn settle_invoice(
        &mut self,
        step: &mut Step,
        hash: PaymentHash,
        set_id: Option<SetId>,
        (preimage, keep_intent): (Option<&Preimage>, bool),
    ) -> Reply {
        let Some(invoice) = self.known_invoice(&hash) else {
            return Reply::Rejected(Rejection::UnknownInvoice(hash));
        };
        if let Some(rejection) = refusal(invoice, set_id, preimage) {
            return Reply::Rejected(rejection);
        }
        if invoice.state.is_decided() {
            let decision_index = invoice.decision_index;
            self.learn_preimage(step, hash, preimage);
            return Reply::Settle(SettleReply::Decided { decision_index });
        }
        let open = self.is_gate_open(invoice);
        if (open || keep_intent)
            && let Some(preimage) = preimage
        {
            self.core.intents.insert(hash, preimage.clone());
        }
        if open {
            return Reply::Settle(SettleReply::Decided { decision_index: self.decide(step, hash) });
        }
        if keep_intent {
            self.change_invoice(&hash, |invoice| {
                if let Some(set) = invoice.set.as_mut() {
                    set.settle_intent = true;
                }
            });
        }
        Reply::Settle(SettleReply::GateClosed)
    }
}

/// Why an invoice cannot be settled whatever its gate says.
fn refusal(invoice: &Invoice, set_id: Option<SetId>, preimage: Option<&Preimage>) -> Option<Rejection> {
    let wrong_preimage = |why: &str| Some(Rejection::WrongPreimage(why.to_owned()));
    match (invoice.terms.kind, preimage) {
        (InvoiceKind::Hold, None) => return wrong_preimage("a hold invoice is settled with its preimage"),
        (InvoiceKind::Hold, Some(preimage)) if preimage.payment_hash() != invoice.hash => {
            return wrong_preimage("the preimage does not belong to the payment hash");
        }
        (InvoiceKind::Hold, Some(_)) => {}
        (InvoiceKind::Stored | InvoiceKind::Stateless, Some(_)) => {
            return wrong_preimage("only hold invoices are settled with a preimage");
        }
        (InvoiceKind::Stored | InvoiceKind::Stateless, None) => {}
    }
    let known_id = invoice.set.as_ref().and_then(|set| set.id);
    let other_set = set_id.is_some() && set_id != known_id;
    match invoice.state {
        InvoiceState::Canceled | InvoiceState::Expired => Some(Rejection::WrongState(invoice.state)),
        _ if other_set => Some(Rejection::UnknownSet(invoice.hash)),
        InvoiceState::Open => Some(Rejection::WrongState(invoice.state)),
        InvoiceState::Accepted | InvoiceState::Settling | InvoiceState::Settled | InvoiceState::Partial => {
            None
        }
    }
}

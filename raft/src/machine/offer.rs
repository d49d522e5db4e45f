//! `OfferHtlcs`: an HTLC gets its recorded verdict, joins a set, or is failed.
//!
//! The recorded verdict comes before everything else: no session, policy or setting applies to a key that
//! has one. A key is counted once, however often LND offers it.

use super::apply::Step;
use super::command::HtlcOffer;
use super::model::{
    ACCEPT_SLACK_BLOCKS, DetailsCause, FailReason, FinalState, FrontNode, Htlc, Invoice, InvoiceKind,
    InvoiceState, LND_INTERCEPT_DELTA, MIN_FINAL_SLACK_BLOCKS, TemporaryCause, Verdict,
};
use super::reply::{OfferReply, Rejection, Reply};
use super::sets::SetFailure;
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{BlockHeight, CircuitKey, Msat, NodePubkey, SessionId};

/// A refusal: the reason follows once the height is known.
enum Refusal {
    Details(DetailsCause),
    Temporary(TemporaryCause),
}

impl State {
    pub(super) fn offer_htlcs(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        session: SessionId,
        offers: &[HtlcOffer],
    ) -> Reply {
        let Some(front) = self.core.front_nodes.get(&node) else {
            return Reply::Rejected(Rejection::UnknownFrontNode(node));
        };
        let current = front.session.as_ref().is_some_and(|known| known.id == session);
        let key_of = |offer: &HtlcOffer| CircuitKey { node, chan_id: offer.chan_id, htlc_id: offer.htlc_id };
        if current {
            for offer in offers {
                let key = key_of(offer);
                if self.core.htlcs.contains_key(&key) {
                    self.offer_again(step, key, session, is_on_chain(offer));
                } else if !self.recalled.has_htlc(&key) {
                    self.offer_new(step, key, session, offer);
                }
            }
            self.decide_pending(step, Some(node));
        }
        let reply = |offer: &HtlcOffer| match self.known_htlc(&key_of(offer)).and_then(|htlc| htlc.verdict) {
            Some(verdict) => OfferReply::Decided(verdict),
            None if current => OfferReply::Held,
            None => OfferReply::Stale,
        };
        Reply::Offers(offers.iter().map(reply).collect())
    }

    /// A key that is known: whatever the offer says, the record stands. It is live in this session.
    fn offer_again(&mut self, step: &mut Step, key: CircuitKey, session: SessionId, on_chain: bool) {
        let undecided = self.change_htlc(&key, |htlc| {
            htlc.session = session;
            htlc.on_chain |= on_chain;
            if !htlc.final_state.is_final() {
                htlc.gone = false;
            }
            htlc.verdict.is_none().then_some(htlc.hash)
        });
        if let Some(hash) = undecided.flatten()
            && on_chain
            && !self.is_set_in_doubt(&hash)
        {
            self.fail_set(step, hash, SetFailure::OnChain(key));
        }
        step.nodes.insert(key.node);
    }

    fn offer_new(&mut self, step: &mut Step, key: CircuitKey, session: SessionId, offer: &HtlcOffer) {
        let mut htlc = Htlc {
            key,
            hash: offer.hash,
            session,
            outgoing_amount_msat: offer.outgoing_amount_msat,
            incoming_amount_msat: offer.incoming_amount_msat,
            incoming_expiry: offer.incoming_expiry,
            gone: false,
            on_chain: is_on_chain(offer),
            verdict: None,
            final_state: FinalState::Open,
            decided_at_index: 0,
        };
        if self.join_proved_set(step, htlc.clone(), offer) {
            return;
        }
        let Err(refusal) = self.check_new(step, key, offer) else {
            return self.join_set(step, htlc, offer.total_msat);
        };
        let height = self.height_for(&key.node).unwrap_or(0);
        htlc.verdict = Some(Verdict::Fail(match refusal {
            Refusal::Details(cause) => FailReason::IncorrectDetails { height, cause },
            Refusal::Temporary(cause) => FailReason::Temporary { cause },
        }));
        htlc.decided_at_index = self.core.applied.index;
        self.insert_htlc(htlc);
        step.nodes.insert(key.node);
    }

    /// Whether a new HTLC may join. Creates the stateless invoice that it is the first to pay.
    fn check_new(&mut self, step: &mut Step, key: CircuitKey, offer: &HtlcOffer) -> Result<(), Refusal> {
        if is_on_chain(offer) {
            return Err(Refusal::Details(DetailsCause::OnChain));
        }
        // A part that came after a backup: it may have to be settled, however little time is left.
        let in_doubt = self.is_set_in_doubt(&offer.hash);
        if !in_doubt {
            let front = self.core.front_nodes.get(&key.node);
            let height = front.and_then(|front: &FrontNode| self.accept_height(front));
            let height = height.ok_or(Refusal::Temporary(TemporaryCause::NoHeight))?;
            if !has_enough_blocks(offer, height, self.core.settings.margin_blocks) {
                return Err(Refusal::Details(DetailsCause::TooSoon));
            }
        }
        if self.known_invoice(&offer.hash).is_none() {
            self.create_stateless(step, offer)?;
        }
        let unknown = Refusal::Details(DetailsCause::UnknownInvoice);
        let invoice = self.known_invoice(&offer.hash).ok_or(unknown)?;
        check_secret(invoice, offer)?;
        if !in_doubt || invoice.state != InvoiceState::Open {
            self.check_state(invoice)?;
        }
        self.check_amounts(invoice, offer)?;
        let held = self.index.held.get(&(key.node, key.chan_id)).copied().unwrap_or(0);
        if held >= self.core.settings.held_per_channel_max {
            return Err(Refusal::Temporary(TemporaryCause::ChannelFull));
        }
        Ok(())
    }

    fn create_stateless(&mut self, step: &mut Step, offer: &HtlcOffer) -> Result<(), Refusal> {
        match offer.terms.kind {
            InvoiceKind::Stored | InvoiceKind::Hold => Err(Refusal::Details(DetailsCause::UnknownInvoice)),
            InvoiceKind::Stateless if self.core.time_ms >= offer.terms.expires_at_ms => {
                Err(Refusal::Details(DetailsCause::Expired))
            }
            InvoiceKind::Stateless => {
                self.create_from_offer(step, offer);
                Ok(())
            }
        }
    }

    fn check_state(&self, invoice: &Invoice) -> Result<(), Refusal> {
        match invoice.state {
            InvoiceState::Open if self.core.time_ms < invoice.terms.expires_at_ms => Ok(()),
            InvoiceState::Open | InvoiceState::Expired => Err(Refusal::Details(DetailsCause::Expired)),
            InvoiceState::Canceled => Err(Refusal::Details(DetailsCause::Canceled)),
            InvoiceState::Accepted
            | InvoiceState::Settling
            | InvoiceState::Settled
            | InvoiceState::Partial => Err(Refusal::Details(DetailsCause::AlreadyPaid)),
        }
    }

    /// base ≤ total ≤ 2 × base, the same total in every part, and a sum of at most 2 × base.
    fn check_amounts(&self, invoice: &Invoice, offer: &HtlcOffer) -> Result<(), Refusal> {
        let wrong_total = || Refusal::Details(DetailsCause::WrongTotal);
        let too_much = || Refusal::Details(DetailsCause::TooMuch);
        let total_msat = offer.total_msat;
        let backed = offer.incoming_amount_msat >= offer.outgoing_amount_msat;
        if offer.outgoing_amount_msat == Msat::ZERO || total_msat == Msat::ZERO || !backed {
            return Err(wrong_total());
        }
        let chosen_by_payer = invoice.terms.amount_msat == Msat::ZERO;
        let base_msat = if chosen_by_payer { total_msat } else { invoice.terms.amount_msat };
        // Twice an amount that does not fit is above every sum that does.
        let most_msat = base_msat.checked_mul(2).unwrap_or(Msat(u64::MAX));
        if total_msat < base_msat || total_msat > most_msat {
            return Err(wrong_total());
        }
        let set = invoice.set.as_ref();
        if set.is_some_and(|set| set.total_msat != total_msat) {
            return Err(wrong_total());
        }
        let sum_msat = set.map_or(Msat::ZERO, |set| set.sum_msat);
        let sum_msat = sum_msat.checked_add(offer.outgoing_amount_msat).ok_or_else(too_much)?;
        let parts = set.map_or(0, |set| set.parts.len());
        let parts_max = usize::try_from(self.core.settings.parts_per_set_max).unwrap_or(usize::MAX);
        if sum_msat > most_msat || parts >= parts_max {
            return Err(too_much());
        }
        Ok(())
    }
}

/// LND offers it from the chain, where only SETTLE works.
fn is_on_chain(offer: &HtlcOffer) -> bool {
    offer.on_chain || offer.auto_fail_height >= offer.incoming_expiry
}

/// Time enough to complete the set, decide, and have the settle final before LND's own deadline.
fn has_enough_blocks(offer: &HtlcOffer, height: BlockHeight, margin_blocks: BlockHeight) -> bool {
    let incoming_min = height
        .saturating_add(LND_INTERCEPT_DELTA)
        .saturating_add(margin_blocks)
        .saturating_add(ACCEPT_SLACK_BLOCKS);
    let outgoing_min = height
        .saturating_add(BlockHeight::from(offer.terms.min_final_cltv))
        .saturating_sub(MIN_FINAL_SLACK_BLOCKS);
    let outgoing_min = outgoing_min.saturating_add(if planted(Mutant::RefusesInTime) { 6 } else { 0 });
    offer.incoming_expiry >= incoming_min && offer.outgoing_expiry >= outgoing_min
}

/// The secret must be the invoice's; what a stateless one says about its invoice is all there is.
fn check_secret(invoice: &Invoice, offer: &HtlcOffer) -> Result<(), Refusal> {
    let same_terms = match invoice.terms.kind {
        InvoiceKind::Stateless => invoice.terms == offer.terms,
        InvoiceKind::Stored | InvoiceKind::Hold => true,
    };
    if invoice.secret == offer.secret && same_terms {
        Ok(())
    } else {
        Err(Refusal::Details(DetailsCause::WrongSecret))
    }
}

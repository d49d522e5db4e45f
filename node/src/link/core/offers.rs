//! HTLCs from LND's offer to our answer.

use super::super::screener::{ScreenContext, Screened};
use super::super::spans;
use super::htlcs::is_on_chain;
use super::session::is_channel_known;
use super::stream::{Offered, Stage};
use super::vetting::{Vetting, is_doubtful};
use super::{Action, Answer, HtlcId, LinkCore, MonoMs, Output, Pending, REJECTED_RETRY_MS};
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::machine::archive::ArchivedInvoice;
use mux_raft::machine::command::{HtlcOffer, OFFERS_PER_ENTRY_MAX};
use mux_raft::machine::model::{FailReason, Htlc, InvoiceKind, TemporaryCause, Verdict};
use mux_raft::machine::reply::OfferReply;
use mux_raft::machine::{Command, Reply, State};
use mux_raft::mutant::{Mutant, planted};
use mux_raft::types::{Msat, PaymentHash};
use std::sync::Arc;
use tracing::Span;

/// Batches of offers under way at the same time. They are idempotent and independent of each other; what
/// has an order (session before offers, offers before finals) waits for each other explicitly.
const OFFER_BATCHES_MAX: usize = 4;

/// Between two looks at an HTLC that the log has forgotten.
const LOOK_AGAIN_MS: MonoMs = 1_000;

/// Offers under way at the same time.
pub(super) const OFFERS_UNDER_WAY_MAX: usize = OFFER_BATCHES_MAX * OFFERS_PER_ENTRY_MAX;

impl LinkCore {
    /// LND offers an HTLC, for the first time or again.
    pub(crate) fn intercepted(
        &mut self,
        request: Arc<ForwardHtlcInterceptRequest>,
        state: &State,
        now: MonoMs,
    ) {
        let Some(key) = request.incoming_circuit_key else {
            tracing::error!(front_node = %self.config.node.short(), "LND offered an HTLC without a key");
            return;
        };
        let htlc = HtlcId { chan_id: key.chan_id, htlc_id: key.htlc_id };
        let on_chain = is_on_chain(&request);
        let hash = PaymentHash::try_from(&*request.payment_hash).ok();
        let ours = self.screener.may_be_ours(request.outgoing_requested_chan_id);
        let Some(hash) = hash.filter(|_| ours) else {
            let known = self.stream.as_ref().is_some_and(|stream| stream.up.is_some());
            if planted(Mutant::ForwardsWait) && !known {
                return;
            }
            // On chain, RESUME would end the stream; LND does without an answer.
            if !on_chain {
                self.outputs.push_back(Output::Send(Answer {
                    htlc,
                    request,
                    action: Action::Resume,
                    waited_ms: 0,
                    at: state.applied(),
                    span: Span::none(),
                }));
            }
            return;
        };
        let circuit = self.key(htlc);
        let Some(stream) = &mut self.stream else { return };
        let proposed = stream.offers.get(&htlc).is_some_and(|before| before.proposed);
        let offer = Offered {
            request,
            hash,
            on_chain,
            since: now,
            stage: Stage::Waiting,
            proposed,
            proposal: None,
            vetting: Vetting::Open,
            retry_at: 0,
            span: spans::htlc(&self.config.node, &circuit, &hash),
        };
        stream.offers.insert(htlc, offer);
        self.advance(htlc, state, now);
        self.pump(state, now);
    }

    pub(super) fn advance_all(&mut self, state: &State, now: MonoMs) {
        let htlcs: Vec<_> = self.stream.iter().flat_map(|stream| stream.offers.keys()).copied().collect();
        for htlc in htlcs {
            self.advance(htlc, state, now);
        }
    }

    /// Compares one outstanding HTLC with the state and does what can be done about it.
    fn advance(&mut self, htlc: HtlcId, state: &State, now: MonoMs) {
        let key = self.key(htlc);
        let Some(offer) = self.stream.as_ref().and_then(|stream| stream.offers.get(&htlc)) else { return };
        match state.htlc(&key) {
            Some(known) if known.hash != offer.hash => {
                tracing::error!(
                    circuit_key = %key, payment_hash = %offer.hash, known_payment_hash = %known.hash,
                    "another hash under a known key"
                );
                self.forget(htlc);
            }
            Some(known) => self.advance_known(htlc, known, state, now),
            None => self.advance_unknown(htlc, state, now),
        }
    }

    fn advance_known(&mut self, htlc: HtlcId, known: &Htlc, state: &State, now: MonoMs) {
        let Some(stream) = &mut self.stream else { return };
        let Some(offer) = stream.offers.get_mut(&htlc) else { return };
        let verdict = if planted(Mutant::SettleUndecided) { Some(Verdict::Settle) } else { known.verdict };
        match verdict {
            Some(Verdict::Settle) if stream.barrier_passed || stream.degraded => {
                let Some(invoice) = state.invoice(&known.hash) else {
                    if std::mem::replace(&mut offer.stage, Stage::Held) != Stage::Held {
                        tracing::error!(
                            circuit_key = %known.key, payment_hash = %known.hash,
                            "no invoice for a decided HTLC"
                        );
                    }
                    return;
                };
                if invoice.terms.kind == InvoiceKind::Hold && invoice.preimage.is_none() {
                    // Decided by LND's word after a restoration: the application has to give it again.
                    if std::mem::replace(&mut offer.stage, Stage::Held) != Stage::Held {
                        tracing::error!(
                            circuit_key = %known.key, payment_hash = %known.hash,
                            "CRITICAL: a decided hold invoice without its preimage; settle it again with its preimage"
                        );
                    }
                    return;
                }
                let action = Action::Settle {
                    hash: known.hash,
                    secret: invoice.secret.clone(),
                    preimage: invoice.preimage.clone(),
                };
                self.answer(htlc, action, state, now);
            }
            Some(Verdict::Fail(reason)) if stream.barrier_passed && !offer.on_chain => {
                self.answer(htlc, Action::Fail(reason), state, now);
            }
            Some(Verdict::Settle | Verdict::Fail(_)) => {}
            None if stream.up.is_some() => {
                let fresh = matches!(offer.stage, Stage::Waiting | Stage::Rejected { .. });
                if let Some(proposal) = recorded_offer(known, &offer.request, state).filter(|_| fresh) {
                    offer.proposal = Some(Box::new(proposal));
                    stream.enqueue(htlc);
                } else if offer.stage == Stage::Waiting {
                    self.screen(htlc, state, now);
                }
            }
            None => {}
        }
    }

    fn advance_unknown(&mut self, htlc: HtlcId, state: &State, now: MonoMs) {
        let Some(stream) = &mut self.stream else { return };
        let up = stream.up.is_some_and(|up| state.applied().index >= up.index);
        let Some(offer) = stream.offers.get_mut(&htlc) else { return };
        if planted(Mutant::FailsWithoutQuorum) && !self.quorum && !offer.on_chain {
            let reason = FailReason::Temporary { cause: TemporaryCause::GateClosed };
            return self.answer(htlc, Action::Fail(reason), state, now);
        }
        if !up && !planted(Mutant::ReplayUnbarred) {
            return;
        }
        match &offer.stage {
            Stage::Waiting => self.screen(htlc, state, now),
            // It was known: if its invoice was finished, its verdict is in the archive.
            Stage::Held if now >= offer.retry_at => {
                offer.retry_at = now.saturating_add(LOOK_AGAIN_MS);
                self.screen(htlc, state, now);
            }
            Stage::Rejected { failure, cause } if self.quorum && !offer.on_chain && !offer.proposed => {
                let action = Action::Reject { failure: failure.clone(), cause };
                self.answer(htlc, action, state, now);
            }
            Stage::Rejected { .. }
            | Stage::Screening(_)
            | Stage::Queued
            | Stage::Proposed(_)
            | Stage::Held => {}
        }
    }

    fn screen(&mut self, htlc: HtlcId, state: &State, now: MonoMs) {
        let number = self.fresh_id();
        let Some(offer) = self.stream.as_mut().and_then(|stream| stream.offers.get_mut(&htlc)) else {
            return;
        };
        let front = state.front_node(&self.config.node);
        let policy = front.and_then(|front| front.policy_of(offer.request.outgoing_requested_chan_id));
        let Some(policy) = policy else {
            // In the range of virtual scids, but never announced by this cluster for this node.
            self.not_ours(htlc, state, now);
            return;
        };
        let context = ScreenContext { policy: *policy, height: state.height_for(&self.config.node) };
        offer.stage = Stage::Screening(number);
        let (request, span) = (Arc::clone(&offer.request), offer.span.clone());
        self.outputs.push_back(Output::Screen { number, htlc, request, context, span });
    }

    /// The stateless checks of these are done. What was checked together is proposed together.
    pub(crate) fn screened(&mut self, done: Vec<(u64, HtlcId, Screened)>, state: &State, now: MonoMs) {
        for (number, htlc, result) in done {
            self.judge(number, htlc, result, state, now);
        }
        self.pump(state, now);
    }

    fn judge(&mut self, number: u64, htlc: HtlcId, result: Screened, state: &State, now: MonoMs) {
        let Some(stream) = &mut self.stream else { return };
        let Some(offer) = stream.offers.get_mut(&htlc) else { return };
        if offer.stage != Stage::Screening(number) {
            return;
        }
        match result {
            Screened::Foreign => self.not_ours(htlc, state, now),
            Screened::Reject { failure, cause } => {
                offer.stage = Stage::Rejected { failure, cause };
                self.advance(htlc, state, now);
            }
            Screened::Archived(archived) => self.answer_archived(htlc, &archived, state, now),
            Screened::Offer(proposal) => {
                offer.proposal = Some(Box::new(HtlcOffer { on_chain: offer.on_chain, ..*proposal }));
                stream.enqueue(htlc);
            }
        }
    }

    /// It paid an invoice that is finished: only LND's record of it can be behind.
    fn answer_archived(&mut self, htlc: HtlcId, archived: &ArchivedInvoice, state: &State, now: MonoMs) {
        let key = self.key(htlc);
        let known = archived.htlcs.iter().find(|known| known.key == key);
        let Some(stream) = &self.stream else { return };
        let Some(offer) = stream.offers.get(&htlc) else { return };
        let invoice = &archived.invoice;
        if invoice.hash != offer.hash {
            tracing::error!(
                circuit_key = %key, payment_hash = %offer.hash, known_payment_hash = %invoice.hash,
                "another hash under a known key"
            );
            return self.forget(htlc);
        }
        match known.and_then(|known| known.verdict) {
            Some(Verdict::Settle) => {
                let (secret, preimage) = (invoice.secret.clone(), invoice.preimage.clone());
                self.answer(htlc, Action::Settle { hash: invoice.hash, secret, preimage }, state, now);
            }
            // Only winning sets are archived; whatever else it were, nothing is safe to say.
            Some(Verdict::Fail(_)) | None => {
                tracing::error!(circuit_key = %key, "an archived HTLC without a decision to settle");
            }
        }
    }

    fn not_ours(&mut self, htlc: HtlcId, state: &State, now: MonoMs) {
        let known = state.htlc(&self.key(htlc)).is_some();
        let Some(stream) = &mut self.stream else { return };
        let Some(offer) = stream.offers.get_mut(&htlc) else { return };
        if known || offer.proposed {
            // The log has, or may get, an opinion on it: wait for that.
            offer.stage = Stage::Held;
        } else if offer.on_chain {
            // RESUME would end the stream.
            self.forget(htlc);
        } else {
            self.answer(htlc, Action::Resume, state, now);
        }
    }

    /// Answers, once.
    fn answer(&mut self, htlc: HtlcId, action: Action, state: &State, now: MonoMs) {
        let Some(offer) = self.stream.as_mut().and_then(|stream| stream.offers.remove(&htlc)) else { return };
        let waited_ms = now.saturating_sub(offer.since);
        let Offered { request, span, .. } = offer;
        let at = state.applied();
        self.outputs.push_back(Output::Send(Answer { htlc, request, action, waited_ms, at, span }));
    }

    /// Not outstanding any more: nothing is answered to it, unless LND offers it again.
    pub(super) fn forget(&mut self, htlc: HtlcId) {
        if let Some(stream) = &mut self.stream {
            stream.offers.remove(&htlc);
        }
    }

    pub(super) fn pump_offers(&mut self, state: &State, now: MonoMs) {
        while self.offer_batches() < OFFER_BATCHES_MAX {
            if !self.may_offer(state) {
                return;
            }
            let id = self.fresh_id();
            let (reported, active) = (self.reported_inactive(state), self.active_channels.as_ref());
            let Some(stream) = &mut self.stream else { return };
            let Some(up) = stream.up else { return };
            let (mut batch, mut spans) = (Vec::new(), Vec::new());
            let (mut later, mut unvetted) = (Vec::new(), Vec::new());
            while batch.len() < OFFERS_PER_ENTRY_MAX {
                let Some(htlc) = stream.queue.pop_front() else { break };
                let Some(offer) = stream.offers.get_mut(&htlc) else { continue };
                if offer.stage != Stage::Queued {
                    continue;
                }
                let Some(proposal) = offer.proposal.as_deref() else { continue };
                // The gate must not take an inactive channel for an active one: the report goes first.
                if now < offer.retry_at || !is_channel_known(active, reported, htlc.chan_id) {
                    later.push(htlc);
                    continue;
                }
                if is_doubtful(active, htlc.chan_id) && !offer.on_chain && offer.vetting != Vetting::Passed {
                    later.push(htlc);
                    unvetted.extend((offer.vetting == Vetting::Open).then_some(htlc));
                    continue;
                }
                batch.push((htlc, proposal.clone()));
                if !offer.span.is_disabled() {
                    spans.push(offer.span.clone());
                }
                offer.stage = Stage::Proposed(id);
                offer.proposed = true;
            }
            for htlc in later.into_iter().rev() {
                stream.queue.push_front(htlc);
            }
            let number = stream.number;
            self.look_up(unvetted);
            if batch.is_empty() {
                return;
            }
            let (htlcs, offers) = batch.into_iter().unzip();
            let pending = Pending::Offers { stream: number, htlcs };
            let command = Command::OfferHtlcs { node: self.config.node, session: up.session, offers };
            self.propose_as((id, spans), pending, command);
        }
    }

    fn offer_batches(&self) -> usize {
        self.proposals.values().filter(|pending| matches!(pending, Pending::Offers { .. })).count()
    }

    /// The proposal `id` of the stream `number` was committed.
    pub(super) fn offers_done(
        &mut self,
        (id, number): (u64, u64),
        htlcs: &[HtlcId],
        reply: &Reply,
        state: &State,
        now: MonoMs,
    ) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else { return };
        let Reply::Offers(replies) = reply else {
            tracing::warn!(front_node = %self.config.node.short(), ?reply, "offers were not taken");
            self.offers_lost((id, number), htlcs, false, now.saturating_add(REJECTED_RETRY_MS));
            return;
        };
        for (htlc, reply) in htlcs.iter().zip(replies) {
            let Some(offer) = stream.offers.get_mut(htlc) else { continue };
            if offer.stage != Stage::Proposed(id) {
                continue;
            }
            match reply {
                OfferReply::Held | OfferReply::Decided(_) => offer.stage = Stage::Held,
                OfferReply::Stale => {
                    offer.retry_at = now.saturating_add(super::RETRY_MS);
                    stream.enqueue(*htlc);
                }
            }
        }
        for htlc in htlcs {
            self.advance(*htlc, state, now);
        }
    }

    /// They are proposed again, until there is a verdict or the stream ends.
    pub(super) fn offers_lost(
        &mut self,
        (id, number): (u64, u64),
        htlcs: &[HtlcId],
        maybe: bool,
        retry_at: MonoMs,
    ) {
        if maybe {
            self.finals.may_be_offered_late(htlcs);
        }
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.number == number) else { return };
        for htlc in htlcs.iter().rev() {
            let Some(offer) = stream.offers.get_mut(htlc) else { continue };
            if offer.stage == Stage::Proposed(id) {
                offer.stage = Stage::Queued;
                offer.retry_at = retry_at;
                stream.queue.push_front(*htlc);
            }
        }
    }

    /// Whether this HTLC is part of a proposal under way.
    pub(super) fn is_being_offered(&self, htlc: HtlcId) -> bool {
        self.proposals
            .values()
            .any(|pending| matches!(pending, Pending::Offers { htlcs, .. } if htlcs.contains(&htlc)))
    }
}

/// A known HTLC as it is offered again: from the record, so that no check applies to it.
fn recorded_offer(known: &Htlc, request: &ForwardHtlcInterceptRequest, state: &State) -> Option<HtlcOffer> {
    let invoice = state.invoice(&known.hash)?;
    let set = invoice.set.as_ref().filter(|set| set.parts.contains(&known.key))?;
    Some(HtlcOffer {
        chan_id: known.key.chan_id,
        htlc_id: known.key.htlc_id,
        hash: known.hash,
        secret: invoice.secret.clone(),
        terms: invoice.terms,
        total_msat: set.total_msat,
        outgoing_amount_msat: Msat(request.outgoing_amount_msat),
        incoming_amount_msat: Msat(request.incoming_amount_msat),
        outgoing_expiry: request.outgoing_expiry,
        incoming_expiry: request.incoming_expiry,
        auto_fail_height: u32::try_from(request.auto_fail_height).unwrap_or(0),
        on_chain: is_on_chain(request),
    })
}

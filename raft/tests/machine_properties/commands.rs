//! What each command does, in the naive model.

use super::{Bill, Cause, Is, Link, Node, Part, Reference, details, temporary};
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::types::*;

impl Reference {
    pub(super) fn command(&mut self, command: &Command) {
        match command {
            // A higher level changes where records are kept, not what is decided.
            Command::Tick
            | Command::RaiseFeatureLevel { .. }
            | Command::SetRetention { .. }
            | Command::EnrolStore { .. }
            | Command::NoteLogs { .. }
            | Command::AcceptRestoration
            // Not among what is tried at random.
            | Command::PutFrontNodeAccess { .. }
            | Command::SetFrontNodeDisabled { .. }
            | Command::RemoveFrontNode { .. }
            | Command::RetireReplica { .. } => {}
            Command::Configure(settings) => self.settings = settings.clone(),
            Command::PutFrontNode { node, .. } => self.nodes.push(Node {
                node: *node,
                assigned: None,
                sessions_given: 0,
                session: None,
                former: vec![],
                tip: None,
            }),
            Command::AssignLink { node, replica } => {
                self.nodes.iter_mut().find(|known| known.node == *node).unwrap().assigned = *replica;
            }
            Command::LinkUp { node, replica, stream } => self.up(node, *replica, *stream),
            Command::LinkReport { node, session, tip, inactive_channels } => {
                let (term, time_ms) = (self.term, self.time_ms);
                let node = self.nodes.iter_mut().find(|known| known.node == *node).unwrap();
                let Some(link) = node.session.as_mut().filter(|link| link.id == *session) else { return };
                (link.term, link.heard_ms, link.inactive) = (term, time_ms, inactive_channels.clone());
                if let Some(ChainTip { height, hash, synced }) = *tip {
                    node.tip = Some(Tip { height, hash, synced, confirmed_at_ms: time_ms });
                }
            }
            Command::LinkDown { node, session } => {
                let node = self.nodes.iter_mut().find(|known| known.node == *node).unwrap();
                if node.session.as_ref().is_some_and(|link| link.id == *session) {
                    node.session = None;
                }
            }
            Command::OfferHtlcs { node, session, offers } => {
                let known = self.nodes.iter().find(|known| known.node == *node).unwrap();
                if known.session.as_ref().is_some_and(|link| link.id == *session) {
                    for offer in offers {
                        self.offer(*node, *session, offer);
                    }
                    self.try_all(Some(*node));
                }
            }
            Command::HtlcFinals { node, finals } => {
                for end in finals {
                    let key = CircuitKey { node: *node, chan_id: end.chan_id, htlc_id: end.htlc_id };
                    self.end(key, end.outcome);
                }
            }
            Command::ResolveHtlc { key, settled } => self.resolve(key, *settled),
            Command::AddInvoice(new) => {
                let usable =
                    new.terms.kind != InvoiceKind::Stateless && self.time_ms < new.terms.expires_at_ms;
                if usable && self.bill(&new.hash).is_none() {
                    self.bills.push(Bill::new(new.hash, &new.secret, new.terms));
                }
            }
            Command::SettleInvoice { hash, set_id: _, preimage, keep_intent } => {
                self.settle(hash, preimage.as_ref(), *keep_intent);
            }
            Command::CancelInvoice { hash, scope } => self.cancel(hash, scope),
        }
    }

    fn up(&mut self, node: &NodePubkey, replica: ReplicaId, stream: RequestId) {
        let (term, time_ms) = (self.term, self.time_ms);
        let node = self.nodes.iter_mut().find(|known| known.node == *node).unwrap();
        if node.assigned != Some(replica) {
            return;
        }
        if let Some(link) = &mut node.session {
            if link.stream == stream && link.owner == replica {
                (link.term, link.heard_ms) = (term, time_ms);
                return;
            }
            let live = link.term == term && time_ms - link.heard_ms <= 3_000;
            if live && node.former.contains(&stream) {
                return;
            }
        }
        node.former.push(stream);
        node.sessions_given += 1;
        let id = node.sessions_given;
        node.session = Some(Link { id, owner: replica, stream, term, heard_ms: time_ms, inactive: vec![] });
    }

    fn offer(&mut self, node: NodePubkey, session: u64, offer: &HtlcOffer) {
        let key = CircuitKey { node, chan_id: offer.chan_id, htlc_id: offer.htlc_id };
        let on_chain = offer.on_chain;
        if let Some(part) = self.parts.iter_mut().find(|part| part.key == key) {
            part.session = session;
            part.on_chain |= on_chain;
            part.gone = part.end.is_some();
            if part.verdict.is_none() && on_chain {
                let hash = part.hash;
                self.fail(&hash, |height, part| {
                    details(height, if part == key { Cause::OnChain } else { Cause::SetOnChain })
                });
            }
            return;
        }
        let verdict = self.judge(node, offer).err().map(Verdict::Fail);
        let time_ms = self.time_ms;
        let first = self.set(&offer.hash).is_empty();
        if verdict.is_none() {
            let bill = self.bill(&offer.hash).unwrap();
            if first {
                bill.attempt += 1;
                bill.total = u128::from(offer.total_msat.0);
                bill.started_ms = time_ms;
            }
        }
        self.parts.push(Part {
            key,
            hash: offer.hash,
            amount: u128::from(offer.outgoing_amount_msat.0),
            expiry: offer.incoming_expiry,
            session,
            gone: false,
            on_chain,
            verdict,
            end: None,
            unconfirmed: false,
        });
        if verdict.is_none() {
            self.accept_if_full(&offer.hash);
        }
    }

    fn judge(&mut self, key: NodePubkey, offer: &HtlcOffer) -> Result<(), FailReason> {
        let seen = self.height(&key).unwrap_or(0);
        let fail = |cause| Err(details(seen, cause));
        if offer.on_chain {
            return fail(Cause::OnChain);
        }
        let node = self.nodes.iter().find(|node| node.node == key).unwrap();
        if self.is_flagged(node) || !(self.is_fresh(node) || self.median().is_some()) {
            return Err(temporary(TemporaryCause::NoHeight));
        }
        let incoming_min = seen + 22 + self.settings.margin_blocks + 6;
        let outgoing_min = seen + u32::from(offer.terms.min_final_cltv) - 3;
        if offer.incoming_expiry < incoming_min || offer.outgoing_expiry < outgoing_min {
            return fail(Cause::TooSoon);
        }
        let time_ms = self.time_ms;
        if self.bill(&offer.hash).is_none() {
            if offer.terms.kind != InvoiceKind::Stateless {
                return fail(Cause::UnknownInvoice);
            }
            if time_ms >= offer.terms.expires_at_ms {
                return fail(Cause::Expired);
            }
            self.bills.push(Bill::new(offer.hash, &offer.secret, offer.terms));
        }
        let sum = self.sum(&offer.hash);
        let parts = self.set(&offer.hash).len();
        let settings = self.settings.clone();
        let bill = self.bill(&offer.hash).unwrap();
        if bill.secret != offer.secret || bill.terms != offer.terms {
            return fail(Cause::WrongSecret);
        }
        match bill.state {
            Is::Open => {}
            Is::Expired => return fail(Cause::Expired),
            Is::Canceled => return fail(Cause::Canceled),
            _ => return fail(Cause::AlreadyPaid),
        }
        let (amount, total) = (u128::from(offer.outgoing_amount_msat.0), u128::from(offer.total_msat.0));
        let asked = u128::from(bill.terms.amount_msat.0);
        let base = if asked == 0 { total } else { asked };
        let deviates = parts > 0 && total != bill.total;
        if amount == 0 || total == 0 || total < base || total > 2 * base || deviates {
            return fail(Cause::WrongTotal);
        }
        if sum + amount > 2 * base || parts >= settings.parts_per_set_max as usize {
            return fail(Cause::TooMuch);
        }
        let on_channel = |part: &&Part| {
            part.verdict.is_none() && part.key.node == key && part.key.chan_id == offer.chan_id
        };
        if self.parts.iter().filter(on_channel).count() >= settings.held_per_channel_max as usize {
            return Err(temporary(TemporaryCause::ChannelFull));
        }
        Ok(())
    }

    fn end(&mut self, key: CircuitKey, outcome: FinalOutcome) {
        let Some(part) = self.parts.iter_mut().find(|part| part.key == key) else { return };
        let hash = part.hash;
        match (part.verdict, outcome) {
            (Some(Verdict::Settle), FinalOutcome::FailedByLnd) => part.gone = true,
            (Some(Verdict::Settle), FinalOutcome::Unconfirmed) => {
                part.gone |= part.end.is_none();
                part.unconfirmed |= part.end.is_none();
            }
            (Some(Verdict::Settle), FinalOutcome::Settled) => self.finish(&key, true),
            (Some(Verdict::Settle), FinalOutcome::Failed) => self.finish(&key, false),
            (Some(Verdict::Fail(_)), FinalOutcome::Settled) => (part.gone, part.end) = (true, Some(true)),
            (Some(Verdict::Fail(_)), FinalOutcome::Failed) => {
                if part.end != Some(true) {
                    (part.gone, part.end) = (true, Some(false));
                }
            }
            (Some(Verdict::Fail(_)), FinalOutcome::FailedByLnd | FinalOutcome::Unconfirmed) => {
                part.gone = true;
            }
            (None, _) => {
                part.gone = true;
                part.verdict = Some(Verdict::Fail(temporary(TemporaryCause::FailedByLnd)));
                match outcome {
                    FinalOutcome::Settled => part.end = Some(true),
                    FinalOutcome::Failed => part.end = Some(false),
                    FinalOutcome::Unconfirmed => part.unconfirmed = true,
                    FinalOutcome::FailedByLnd => {}
                }
                let bill = self.bill(&hash).unwrap();
                bill.state = Is::Open;
                bill.intent = false;
                if !self.set(&hash).is_empty() {
                    self.accept_if_full(&hash);
                }
            }
        }
    }

    fn finish(&mut self, key: &CircuitKey, settled: bool) {
        let part = self.parts.iter_mut().find(|part| part.key == *key).unwrap();
        if part.end.is_some() {
            return;
        }
        part.end = Some(settled);
        part.gone = true;
        let hash = part.hash;
        let won = |part: &&Part| part.hash == hash && part.verdict == Some(Verdict::Settle);
        let ends: Vec<_> = self.parts.iter().filter(won).map(|part| (part.end, part.amount)).collect();
        let bill = self.bill(&hash).unwrap();
        bill.received = ends.iter().filter(|(end, _)| *end == Some(true)).map(|(_, amount)| amount).sum();
        if ends.iter().all(|(end, _)| end.is_some()) {
            let whole = ends.iter().all(|(end, _)| *end == Some(true));
            bill.state = if whole { Is::Settled } else { Is::Partial };
        }
    }

    fn resolve(&mut self, key: &CircuitKey, settled: bool) {
        let lowest = self.lowest(&key.node);
        let Some(part) = self.parts.iter_mut().find(|part| part.key == *key) else { return };
        let over = lowest.is_some_and(|height| height > part.expiry + 144);
        if part.end.is_some() || !(part.unconfirmed || over) {
            return;
        }
        match part.verdict {
            Some(Verdict::Settle) => self.finish(key, settled),
            _ => part.end = Some(settled),
        }
    }

    fn settle(&mut self, hash: &PaymentHash, preimage: Option<&Preimage>, keep_intent: bool) {
        let Some(bill) = self.bill(hash) else { return };
        let hold = bill.terms.kind == InvoiceKind::Hold;
        let allowed = preimage.map(Preimage::payment_hash) == hold.then_some(*hash);
        if !allowed || bill.state != Is::Accepted {
            return;
        }
        if self.gate(hash) {
            self.decide(hash);
        } else if keep_intent {
            self.bill(hash).unwrap().intent = true;
        }
    }

    fn cancel(&mut self, hash: &PaymentHash, scope: &CancelScope) {
        let (time_ms, has_set) = (self.time_ms, !self.set(hash).is_empty());
        match (scope, self.bill(hash)) {
            (CancelScope::Unseen { terms, secret }, None) => {
                if terms.kind == InvoiceKind::Stateless && time_ms < terms.expires_at_ms {
                    let mut bill = Bill::new(*hash, secret, *terms);
                    (bill.state, bill.tombstone) = (Is::Canceled, true);
                    self.bills.push(bill);
                }
            }
            (_, None) => {}
            (CancelScope::Set(_), Some(_)) => {
                if has_set {
                    self.fail(hash, |height, _| details(height, Cause::Canceled));
                }
            }
            (_, Some(bill)) => {
                if matches!(bill.state, Is::Open | Is::Accepted) {
                    self.fail(hash, |height, _| details(height, Cause::Canceled));
                    self.bill(hash).unwrap().state = Is::Canceled;
                }
            }
        }
    }
}

//! A state machine with a log, and short names for what tests do to it.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, unreachable_pub)]

use mux_raft::archive::{Archive, MemoryArchive};
use mux_raft::machine::archive::ArchiveLookup as _;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::machine::reply::*;
use mux_raft::machine::{FatalApply, LogPosition, State};
use mux_raft::types::*;
use std::sync::Arc;

pub const NOW: LogTimeMs = 1_700_000_000_000;
pub const HEIGHT: BlockHeight = 800_000;
pub const EXPIRY: BlockHeight = HEIGHT + 160;

pub fn node(number: u8) -> NodePubkey {
    NodePubkey([number; 33])
}

pub fn preimage(number: u8) -> Preimage {
    let mut bytes = [0x5c; 32];
    bytes[0] = number;
    Preimage(bytes)
}

pub fn hash(number: u8) -> PaymentHash {
    preimage(number).payment_hash()
}

pub fn secret(number: u8) -> PaymentSecret {
    PaymentSecret([number; 32])
}

pub fn key(node_number: u8, htlc_id: u64) -> CircuitKey {
    CircuitKey { node: node(node_number), chan_id: 7, htlc_id }
}

pub fn terms(kind: InvoiceKind, amount_msat: u64) -> InvoiceTerms {
    InvoiceTerms {
        kind,
        amount_msat: Msat(amount_msat),
        expires_at_ms: NOW + 3_600_000,
        min_final_cltv: 80,
        key_epoch: 0,
    }
}

/// A stateless invoice's only part of 1000 msat.
pub fn offer(invoice: u8, htlc_id: u64) -> HtlcOffer {
    part(invoice, htlc_id, 1000, 1000)
}

pub fn part(invoice: u8, htlc_id: u64, amount_msat: u64, total_msat: u64) -> HtlcOffer {
    HtlcOffer {
        chan_id: 7,
        htlc_id,
        hash: hash(invoice),
        secret: secret(invoice),
        terms: terms(InvoiceKind::Stateless, 1000),
        total_msat: Msat(total_msat),
        outgoing_amount_msat: Msat(amount_msat),
        incoming_amount_msat: Msat(amount_msat),
        outgoing_expiry: EXPIRY - 80,
        incoming_expiry: EXPIRY,
        auto_fail_height: EXPIRY - 19,
        on_chain: false,
    }
}

pub fn of_kind(kind: InvoiceKind, mut offer: HtlcOffer) -> HtlcOffer {
    offer.terms.kind = kind;
    offer
}

pub fn on_chain(mut offer: HtlcOffer) -> HtlcOffer {
    offer.on_chain = true;
    offer.auto_fail_height = offer.incoming_expiry;
    offer
}

pub fn details(verdict: Verdict) -> DetailsCause {
    match verdict {
        Verdict::Fail(FailReason::IncorrectDetails { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

pub fn temporary(verdict: Verdict) -> TemporaryCause {
    match verdict {
        Verdict::Fail(FailReason::Temporary { cause }) => cause,
        other => panic!("{other:?}"),
    }
}

/// The machine, its term and clock, and every entry applied.
#[derive(Clone)]
pub struct World {
    pub state: State,
    pub term: u64,
    pub time_ms: LogTimeMs,
    pub log: Vec<(LogPosition, Option<Envelope>)>,
    pub alarms: Vec<Alarm>,
    pub archive: Arc<MemoryArchive>,
}

impl World {
    /// Front nodes 1..=nodes, each with a live session 1 and a tip at [`HEIGHT`]; application mode.
    pub fn new(nodes: u8) -> Self {
        let state = State::default();
        let mut world = Self {
            state,
            term: 1,
            time_ms: NOW,
            log: Vec::new(),
            alarms: Vec::new(),
            archive: Arc::default(),
        };
        world.run(Command::Configure(Settings { auto_settle: false, ..Settings::default() }));
        for number in 1..=nodes {
            world.add_node(number);
        }
        world
    }

    pub fn auto(nodes: u8) -> Self {
        let mut world = Self::new(nodes);
        world.run(Command::Configure(Settings::default()));
        world
    }

    pub fn add_node(&mut self, number: u8) {
        let policy =
            FrontNodePolicy { scid: u64::from(number), fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
        self.run(Command::PutFrontNode { node: node(number), alias: format!("n{number}"), policy });
        self.assign(number, 1);
        self.up(number, 1, number);
        self.report(number, HEIGHT);
    }

    pub fn try_apply(&mut self, entry: Option<Envelope>) -> Result<Applied, FatalApply> {
        let index = self.state.applied().index + 1;
        let at = LogPosition { term: self.term, index };
        let applied = self.state.apply(at, entry.as_ref(), self.archive.as_ref())?;
        self.archive.append(applied.archived.clone()).unwrap();
        self.log.push((at, entry));
        self.alarms.extend(&applied.alarms);
        Ok(applied)
    }

    pub fn run_as(&mut self, request_id: Option<RequestId>, command: Command) -> Reply {
        let envelope = Envelope { format: COMMAND_FORMAT, time_ms: self.time_ms, request_id, command };
        self.try_apply(Some(envelope)).unwrap().reply.unwrap()
    }

    pub fn run(&mut self, command: Command) -> Reply {
        self.run_as(None, command)
    }

    /// Time passes second by second, with ticks but no word from any link.
    pub fn silence(&mut self, ms: LogTimeMs) {
        let end_ms = self.time_ms + ms;
        while self.time_ms < end_ms {
            self.time_ms = end_ms.min(self.time_ms + 1000);
            self.run(Command::Tick);
        }
    }

    /// Time passes in steps that leave no gap, with reports of all sessions at their last heights.
    pub fn pass(&mut self, ms: LogTimeMs) {
        let end_ms = self.time_ms + ms;
        let step_ms = if ms > 100_000 { GAP_MS } else { 1000 };
        while self.time_ms < end_ms {
            self.time_ms = end_ms.min(self.time_ms + step_ms);
            self.report_all();
            self.run(Command::Tick);
        }
    }

    pub fn report_all(&mut self) {
        let fronts: Vec<_> = self.state.front_nodes().cloned().collect();
        for front in fronts {
            let Some(session) = front.session else { continue };
            let tip =
                front.tip.map(|tip| ChainTip { height: tip.height, hash: tip.hash, synced: tip.synced });
            let inactive_channels = session.inactive_channels.into_iter().collect();
            self.run(Command::LinkReport { node: front.node, session: session.id, tip, inactive_channels });
        }
    }

    pub fn next_term(&mut self) {
        self.term += 1;
        self.try_apply(None).unwrap();
    }

    pub fn assign(&mut self, number: u8, replica: ReplicaId) {
        assert_eq!(self.run(Command::AssignLink { node: node(number), replica: Some(replica) }), Reply::Done);
    }

    pub fn up(&mut self, number: u8, replica: ReplicaId, stream: u8) -> Reply {
        self.run(Command::LinkUp { node: node(number), replica, stream: RequestId([stream; 16]) })
    }

    pub fn down(&mut self, number: u8) {
        let session = self.session(number);
        assert_eq!(self.run(Command::LinkDown { node: node(number), session }), Reply::Done);
    }

    pub fn session(&self, number: u8) -> SessionId {
        self.state.front_node(&node(number)).unwrap().last_session
    }

    pub fn report(&mut self, number: u8, height: BlockHeight) -> Reply {
        self.report_with(number, Some(height), true, &[])
    }

    pub fn report_with(
        &mut self,
        number: u8,
        height: Option<BlockHeight>,
        synced: bool,
        inactive: &[u64],
    ) -> Reply {
        let tip = height.map(|height| ChainTip { height, hash: [0; 32], synced });
        let (node, session) = (node(number), self.session(number));
        self.run(Command::LinkReport { node, session, tip, inactive_channels: inactive.to_vec() })
    }

    pub fn blocks(&mut self, height: BlockHeight) {
        for front in self.state.front_nodes().map(|front| front.node.0[0]).collect::<Vec<_>>() {
            self.report(front, height);
        }
    }

    pub fn offers_in(&mut self, number: u8, session: SessionId, offers: Vec<HtlcOffer>) -> Vec<OfferReply> {
        match self.run(Command::OfferHtlcs { node: node(number), session, offers }) {
            Reply::Offers(replies) => replies,
            other => panic!("{other:?}"),
        }
    }

    pub fn offer(&mut self, number: u8, offer: HtlcOffer) -> OfferReply {
        let session = self.session(number);
        self.offers_in(number, session, vec![offer])[0]
    }

    /// Offers and expects a verdict.
    pub fn judge(&mut self, number: u8, offer: HtlcOffer) -> Verdict {
        match self.offer(number, offer) {
            OfferReply::Decided(verdict) => verdict,
            other => panic!("{other:?}"),
        }
    }

    pub fn hold(&mut self, number: u8, offer: HtlcOffer) {
        assert_eq!(self.offer(number, offer), OfferReply::Held);
    }

    pub fn add(&mut self, invoice: u8, kind: InvoiceKind, amount_msat: u64) -> Reply {
        self.run(Command::AddInvoice(Box::new(new_invoice(invoice, kind, amount_msat))))
    }

    pub fn settle(&mut self, invoice: u8) -> Reply {
        self.settle_with(invoice, None, None, false)
    }

    pub fn settle_with(
        &mut self,
        invoice: u8,
        set_id: Option<SetId>,
        preimage: Option<Preimage>,
        keep_intent: bool,
    ) -> Reply {
        self.run(Command::SettleInvoice { hash: hash(invoice), set_id, preimage, keep_intent })
    }

    pub fn cancel(&mut self, invoice: u8, scope: CancelScope) -> Reply {
        self.run(Command::CancelInvoice { hash: hash(invoice), scope })
    }

    pub fn end(&mut self, number: u8, htlc_id: u64, outcome: FinalOutcome) -> Reply {
        let finals = vec![HtlcFinal { chan_id: 7, htlc_id, outcome }];
        self.run(Command::HtlcFinals { node: node(number), finals })
    }

    pub fn invoice(&self, invoice: u8) -> &Invoice {
        self.state.invoice(&hash(invoice)).unwrap()
    }

    /// Wherever it is.
    pub fn find(&self, invoice: u8) -> Invoice {
        let archived =
            || self.archive.invoice(self.state.archive_tip(), &hash(invoice)).unwrap().unwrap().invoice;
        self.state.invoice(&hash(invoice)).cloned().unwrap_or_else(archived)
    }

    pub fn state_of(&self, invoice: u8) -> InvoiceState {
        self.invoice(invoice).state
    }

    pub fn verdict(&self, number: u8, htlc_id: u64) -> Option<Verdict> {
        self.state.verdict(&key(number, htlc_id))
    }

    pub fn fail_of(&self, number: u8, htlc_id: u64) -> DetailsCause {
        details(self.verdict(number, htlc_id).unwrap())
    }

    pub fn last_events(&self, count: u64) -> Vec<EventKind> {
        let from = self.state.event_sequence() - count;
        self.state.events_after(from).map(|event| event.kind.clone()).collect()
    }
}

pub fn new_invoice(invoice: u8, kind: InvoiceKind, amount_msat: u64) -> NewInvoice {
    NewInvoice {
        hash: hash(invoice),
        secret: secret(invoice),
        terms: terms(kind, amount_msat),
        payment_request: "lnbc1".into(),
        description: String::new(),
        description_hash: None,
    }
}

pub fn decided(decision_index: u64) -> Reply {
    Reply::Settle(SettleReply::Decided { decision_index })
}

pub const GATE_CLOSED: Reply = Reply::Settle(SettleReply::GateClosed);

pub fn rejected(rejection: Rejection) -> Reply {
    Reply::Rejected(rejection)
}

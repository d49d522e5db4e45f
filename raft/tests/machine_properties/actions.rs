//! Random but plausible histories: front nodes with real heights and streams, payers who send parts and
//! try again, replays, reports, ends, and everything that comes late or twice.

#![allow(unreachable_pub, clippy::unwrap_used)]

use super::seen::Seen;
use super::support::*;
use mux_raft::machine::command::*;
use mux_raft::machine::model::*;
use mux_raft::types::*;
use proptest::prelude::*;

pub const NODES: u8 = 3;
pub const INVOICES: u8 = 12;

/// What happens next, in words that mean something whatever happened before.
#[derive(Clone, Debug)]
pub enum Action {
    /// Time passes; nobody reports.
    Tick(u64),
    /// Time passes; every link reports the chain's height.
    Report(u64),
    /// Blocks are found; only some nodes see them at once.
    Blocks(u32, u8),
    /// A node reports a tip that is off.
    OddTip(u8, i32, bool),
    /// A node reports its channel inactive.
    Inactive(u8),
    Offer {
        node: u8,
        invoice: u8,
        amount: u64,
        total: u64,
        chan: u64,
        blocks: u32,
        flaw: u8,
    },
    /// LND offers again what it holds.
    Replay {
        pick: usize,
        on_chain: bool,
    },
    /// An offer of an earlier session arrives late.
    LateOffer {
        pick: usize,
    },
    /// LND's word, for one HTLC.
    End {
        pick: usize,
        outcome: FinalOutcome,
    },
    Resolve {
        pick: usize,
        settled: bool,
    },
    Settle {
        invoice: u8,
        keep_intent: bool,
        right_preimage: bool,
    },
    Cancel {
        invoice: u8,
        scope: u8,
    },
    Add {
        invoice: u8,
    },
    Term,
    Reconnect(u8),
    Down(u8),
    Assign(u8, u64),
    /// An `up` of a replica that may not be the owner, for a stream that may be an old one.
    OddUp(u8, u64, u8),
    Configure(u8),
    /// The last command once more.
    Again,
    /// A replica is restored from a snapshot here.
    Snapshot,
}

pub fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..150)
}

fn action() -> impl Strategy<Value = Action> {
    let node = 1..=NODES;
    let invoice = prop_oneof![2 => 1..=4_u8, 1 => 1..=INVOICES];
    let outcome = prop_oneof![
        6 => Just(FinalOutcome::Settled),
        2 => Just(FinalOutcome::Failed),
        2 => Just(FinalOutcome::FailedByLnd),
        1 => Just(FinalOutcome::Unconfirmed),
    ];
    let time = prop_oneof![8 => 1..2000_u64, 1 => 2000..12_000_u64, 1 => 50_000..70_000_u64];
    let amount = prop_oneof![4 => Just(500_u64), 3 => Just(1000), 1 => 0..1800_u64];
    let total = prop_oneof![12 => Just(1000_u64), 1 => 900..2100_u64];
    let blocks = prop_oneof![6 => Just(160_u32), 1 => 30..60_u32];
    let flaw = prop_oneof![20 => Just(0_u8), 1 => 1..5_u8];
    let offer = (node.clone(), invoice.clone(), amount, total, 1..3_u64, blocks, flaw).prop_map(
        |(node, invoice, amount, total, chan, blocks, flaw)| Action::Offer {
            node,
            invoice,
            amount,
            total,
            chan,
            blocks,
            flaw,
        },
    );
    let pick = any::<usize>();
    let links = prop_oneof![
        2 => Just(Action::Term),
        3 => node.clone().prop_map(Action::Reconnect),
        2 => node.clone().prop_map(Action::Down),
        1 => (node.clone(), 1..3_u64).prop_map(|(node, replica)| Action::Assign(node, replica)),
        1 => (node.clone(), 1..3_u64, 0..8_u8).prop_map(|(node, replica, s)| Action::OddUp(node, replica, s)),
        1 => (node.clone(), -30..30_i32, any::<bool>()).prop_map(|(node, by, s)| Action::OddTip(node, by, s)),
        1 => node.prop_map(Action::Inactive),
    ];
    let clients = prop_oneof![
        3 => (invoice.clone(), any::<bool>(), prop::bool::weighted(0.9))
            .prop_map(|(invoice, keep_intent, right_preimage)| Action::Settle {
                invoice, keep_intent, right_preimage }),
        2 => (invoice.clone(), 0..4_u8).prop_map(|(invoice, scope)| Action::Cancel { invoice, scope }),
        1 => invoice.prop_map(|invoice| Action::Add { invoice }),
        1 => (0..4_u8).prop_map(Action::Configure),
    ];
    prop_oneof![
        2 => time.clone().prop_map(Action::Tick),
        8 => time.prop_map(Action::Report),
        2 => (1..40_u32, 0..8_u8).prop_map(|(blocks, lag)| Action::Blocks(blocks, lag)),
        14 => offer,
        4 => (pick, prop::bool::weighted(0.1)).prop_map(|(pick, on_chain)| Action::Replay { pick, on_chain }),
        1 => pick.prop_map(|pick| Action::LateOffer { pick }),
        7 => (pick, outcome).prop_map(|(pick, outcome)| Action::End { pick, outcome }),
        1 => (pick, any::<bool>()).prop_map(|(pick, settled)| Action::Resolve { pick, settled }),
        6 => links,
        5 => clients,
        1 => Just(Action::Again),
        1 => Just(Action::Snapshot),
    ]
}

/// An HTLC as its LND knows it.
struct Held {
    node: u8,
    session: SessionId,
    offer: HtlcOffer,
    /// LND will never offer it again.
    dead: bool,
}

/// What an application asks for.
fn of_invoice(action: &Action) -> Vec<Entry> {
    match *action {
        Action::Settle { invoice, keep_intent, right_preimage } => {
            let preimage = (kind_of(invoice) == InvoiceKind::Hold)
                .then(|| preimage(if right_preimage { invoice } else { 99 }));
            let hash = hash(invoice);
            vec![Some(Command::SettleInvoice { hash, set_id: None, preimage, keep_intent })]
        }
        Action::Cancel { invoice, scope } => {
            let terms = invoice_terms(invoice);
            let scope = match scope {
                0 => CancelScope::Invoice,
                1 | 2 => CancelScope::Set(None),
                _ => CancelScope::Unseen { terms, secret: secret(invoice) },
            };
            vec![Some(Command::CancelInvoice { hash: hash(invoice), scope })]
        }
        Action::Add { invoice } => {
            let new = new_invoice(invoice, kind_of(invoice), 0);
            let new = NewInvoice { terms: invoice_terms(invoice), ..new };
            vec![Some(Command::AddInvoice(Box::new(new)))]
        }
        ref other => unreachable!("not of an invoice: {other:?}"),
    }
}

/// The world outside the log: turns actions into entries.
pub struct Outside {
    pub term: u64,
    pub time_ms: u64,
    height: u32,
    next_htlc: u64,
    next_stream: u8,
    held: Vec<Held>,
    last: Option<Command>,
}

/// `None`: a new leader's first entry.
pub type Entry = Option<Command>;

impl Outside {
    pub fn new() -> (Self, Vec<Entry>) {
        let mut outside = Self {
            term: 1,
            time_ms: NOW,
            height: HEIGHT,
            next_htlc: 0,
            next_stream: 100,
            held: vec![],
            last: None,
        };
        let mut entries = outside.entries(&Action::Configure(0), &Seen::default());
        for number in 1..=NODES {
            let policy =
                FrontNodePolicy { scid: u64::from(number), fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
            let (node, replica, stream) = (node(number), 1, RequestId([number; 16]));
            entries.push(Some(Command::PutFrontNode { node, alias: String::new(), policy }));
            entries.push(Some(Command::AssignLink { node, replica: Some(replica) }));
            entries.push(Some(Command::LinkUp { node, replica, stream }));
            entries.push(Some(outside.tip(number, 1, 0, true, vec![])));
        }
        // One invoice of each stored kind is there from the start; the others may be added.
        for invoice in 1..=INVOICES / 2 {
            entries.extend(outside.entries(&Action::Add { invoice }, &Seen::default()));
        }
        (outside, entries)
    }

    fn tip(&self, number: u8, session: u64, by: i32, synced: bool, inactive_channels: Vec<u64>) -> Command {
        let height = self.height.saturating_add_signed(by);
        let tip = Some(ChainTip { height, hash: [0; 32], synced });
        Command::LinkReport { node: node(number), session, tip, inactive_channels }
    }

    fn reports(&self, state: &Seen, except: u8) -> Vec<Entry> {
        let up = state.front_nodes().filter_map(|front| Some((front.node.0[0], front.session.as_ref()?.id)));
        let told = up.filter(|(number, _)| except & (1 << number) == 0);
        told.map(|(number, session)| Some(self.tip(number, session, 0, true, vec![]))).collect()
    }

    pub fn entries(&mut self, action: &Action, state: &Seen) -> Vec<Entry> {
        let entries = self.interpret(action, state);
        if let Some(Some(command)) = entries.last() {
            self.last = Some(command.clone());
        }
        entries
    }

    fn interpret(&mut self, action: &Action, state: &Seen) -> Vec<Entry> {
        match *action {
            Action::Tick(ms) => {
                self.time_ms += ms;
                vec![Some(Command::Tick)]
            }
            Action::Report(ms) => {
                self.time_ms += ms;
                let mut entries = self.reports(state, 0);
                entries.push(Some(Command::Tick));
                entries
            }
            Action::Blocks(count, lag) => {
                self.height += count;
                self.reports(state, lag << 1)
            }
            Action::Term => {
                self.term += 1;
                vec![None]
            }
            Action::Configure(kind) => vec![Some(Command::Configure(settings(kind)))],
            Action::Again => self.last.clone().into_iter().map(Some).collect(),
            Action::Snapshot => vec![],
            Action::OddTip(..)
            | Action::Inactive(_)
            | Action::Reconnect(_)
            | Action::Down(_)
            | Action::Assign(..)
            | Action::OddUp(..) => self.of_link(action, state),
            Action::Offer { .. }
            | Action::Replay { .. }
            | Action::LateOffer { .. }
            | Action::End { .. }
            | Action::Resolve { .. } => self.of_htlc(action, state),
            Action::Settle { .. } | Action::Cancel { .. } | Action::Add { .. } => of_invoice(action),
        }
    }

    fn of_link(&mut self, action: &Action, state: &Seen) -> Vec<Entry> {
        let session = |number: u8| state.front_node(&node(number)).map_or(0, |front| front.last_session);
        let owner = |number: u8| state.front_node(&node(number)).and_then(|front| front.assigned);
        match *action {
            Action::OddTip(number, by, synced) => {
                vec![Some(self.tip(number, session(number), by, synced, vec![]))]
            }
            Action::Inactive(number) => vec![Some(self.tip(number, session(number), 0, true, vec![1]))],
            Action::Reconnect(number) => {
                self.next_stream = self.next_stream.wrapping_add(1).max(100);
                let stream = RequestId([self.next_stream; 16]);
                let Some(replica) = owner(number) else { return vec![] };
                let next = session(number) + 1;
                let up = Command::LinkUp { node: node(number), replica, stream };
                vec![Some(up), Some(self.tip(number, next, 0, true, vec![]))]
            }
            Action::Down(number) => {
                vec![Some(Command::LinkDown { node: node(number), session: session(number) })]
            }
            Action::Assign(number, replica) => {
                vec![Some(Command::AssignLink { node: node(number), replica: Some(replica) })]
            }
            Action::OddUp(number, replica, stream) => {
                let stream = RequestId([if stream < 4 { number } else { self.next_stream }; 16]);
                vec![Some(Command::LinkUp { node: node(number), replica, stream })]
            }
            ref other => unreachable!("not of a link: {other:?}"),
        }
    }

    fn of_htlc(&mut self, action: &Action, state: &Seen) -> Vec<Entry> {
        match *action {
            Action::Offer { node: number, invoice, amount, total, chan, blocks, flaw } => {
                let mut offer = self.new_offer((invoice, amount, total), chan, blocks);
                spoil(&mut offer, flaw);
                self.held.push(Held { node: number, session: 0, offer: offer.clone(), dead: false });
                vec![self.offer(state, self.held.len() - 1, offer)]
            }
            Action::Replay { pick, on_chain: from_chain } => {
                let live: Vec<_> = (0..self.held.len()).filter(|at| !self.held[*at].dead).collect();
                if live.is_empty() {
                    return vec![];
                }
                let at = live[pick % live.len()];
                let offer = self.held[at].offer.clone();
                let offer = if from_chain { on_chain(offer) } else { offer };
                vec![self.offer(state, at, offer)]
            }
            Action::LateOffer { pick } => self.picked(pick, |held| {
                let (node, session, offers) = (node(held.node), held.session, vec![held.offer.clone()]);
                Command::OfferHtlcs { node, session, offers }
            }),
            Action::End { pick, outcome } => self.end(pick, outcome, state),
            Action::Resolve { pick, settled } => self.picked(pick, |held| {
                let (chan_id, htlc_id) = (held.offer.chan_id, held.offer.htlc_id);
                Command::ResolveHtlc { key: CircuitKey { node: node(held.node), chan_id, htlc_id }, settled }
            }),
            ref other => unreachable!("not of an HTLC: {other:?}"),
        }
    }

    fn new_offer(&mut self, what: (u8, u64, u64), chan_id: u64, blocks: u32) -> HtlcOffer {
        let (invoice, amount, total) = what;
        self.next_htlc += 1;
        let incoming_expiry = self.height + blocks;
        HtlcOffer {
            chan_id,
            terms: invoice_terms(invoice),
            incoming_expiry,
            outgoing_expiry: self.height + 80,
            auto_fail_height: incoming_expiry - 19,
            ..part(invoice, self.next_htlc, amount, total)
        }
    }

    fn offer(&mut self, state: &Seen, at: usize, offer: HtlcOffer) -> Entry {
        let held = &mut self.held[at];
        let session = state.front_node(&node(held.node)).map_or(0, |front| front.last_session);
        held.session = session;
        Some(Command::OfferHtlcs { node: node(held.node), session, offers: vec![offer] })
    }

    fn picked(&self, pick: usize, command: impl FnOnce(&Held) -> Command) -> Vec<Entry> {
        match self.held.len() {
            0 => vec![],
            len => vec![Some(command(&self.held[pick % len]))],
        }
    }

    /// LND settles what it was told to settle, mostly, and never offers again what is over.
    fn end(&mut self, pick: usize, outcome: FinalOutcome, state: &Seen) -> Vec<Entry> {
        if self.held.is_empty() {
            return vec![];
        }
        let at = pick % self.held.len();
        let held = &mut self.held[at];
        let (chan_id, htlc_id) = (held.offer.chan_id, held.offer.htlc_id);
        let node = node(held.node);
        let verdict = state.verdict(&CircuitKey { node, chan_id, htlc_id });
        // Settled without a decision is rare, but it happens.
        let outcome = match (verdict, outcome) {
            (Some(Verdict::Settle), _) => outcome,
            (_, FinalOutcome::Settled) if !pick.is_multiple_of(16) => FinalOutcome::Failed,
            _ => outcome,
        };
        held.dead = true;
        let finals = vec![HtlcFinal { chan_id, htlc_id, outcome }];
        vec![Some(Command::HtlcFinals { node, finals })]
    }
}

fn spoil(offer: &mut HtlcOffer, flaw: u8) {
    match flaw {
        1 => offer.secret = secret(99),
        2 => offer.outgoing_expiry -= 40,
        3 => *offer = on_chain(offer.clone()),
        4 => offer.outgoing_amount_msat = Msat::ZERO,
        _ => {}
    }
}

fn kind_of(invoice: u8) -> InvoiceKind {
    match invoice % 6 {
        3 => InvoiceKind::Stored,
        4 => InvoiceKind::Hold,
        _ => InvoiceKind::Stateless,
    }
}

fn invoice_terms(invoice: u8) -> InvoiceTerms {
    let mut terms = terms(kind_of(invoice), if invoice % 6 == 2 { 0 } else { 1000 });
    if invoice % 6 == 5 {
        terms.expires_at_ms = NOW + 30_000;
    }
    terms
}

fn settings(kind: u8) -> Settings {
    let base = Settings { mpp_timeout_ms: 12_000, accept_timeout_ms: 6_000, ..Settings::default() };
    match kind {
        0 => base,
        1 => Settings { auto_settle: false, ..base },
        2 => Settings { parts_per_set_max: 2, held_per_channel_max: 3, ..base },
        _ => Settings { margin_blocks: 10, auto_settle: false, ..base },
    }
}

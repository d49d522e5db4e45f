//! The rules of the core, each under its name, against the real state machine.

mod answering;
mod finals;
mod sessions;
mod vetting;

use super::super::screener::{Failure, ScreenContext, Screened, Screener};
use super::{Action, Answer, CoreConfig, HtlcId, LinkCore, LookedUp, MonoMs, Output};
use mux_proto::lnrpc::failure::FailureCode;
use mux_proto::routerrpc::{CircuitKey, ForwardHtlcInterceptRequest};
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::local::LocalConsensus;
use mux_raft::machine::command::{ChainTip, HtlcOffer};
use mux_raft::machine::model::{FailReason, FrontNodePolicy, InvoiceKind, InvoiceTerms, Settings, Verdict};
use mux_raft::machine::{Command, RequestId, State};
use mux_raft::types::{Msat, NodePubkey, PaymentHash, PaymentSecret, Preimage, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ME: ReplicaId = 1;
const OTHER: ReplicaId = 2;
const NODE: NodePubkey = NodePubkey([2; 33]);
const HEIGHT: u32 = 800_000;
const EXPIRY: u32 = HEIGHT + 200;
const SCID: u64 = 9_000_000 << 40;
const UNANNOUNCED_SCID: u64 = SCID + 1;
const FOREIGN_SCID: u64 = 700_000 << 40;
const AMOUNT: u64 = 50_000;
const CHANNEL: u64 = 1_000;
const TIME: u64 = 1_700_000_000_000;

/// The number of a payment gives everything about it.
fn preimage(payment: u8) -> Preimage {
    Preimage([payment; 32])
}

fn hash(payment: u8) -> PaymentHash {
    preimage(payment).payment_hash()
}

fn htlc(index: u64) -> HtlcId {
    HtlcId { chan_id: CHANNEL, htlc_id: index }
}

fn key(index: u64) -> mux_raft::types::CircuitKey {
    mux_raft::types::CircuitKey { node: NODE, chan_id: CHANNEL, htlc_id: index }
}

/// Payments of the number 200 and more are rejected.
struct TestScreener {
    rejects_all: bool,
}

impl Screener for TestScreener {
    fn may_be_ours(&self, scid: u64) -> bool {
        scid >= SCID
    }

    fn screen(&self, request: &ForwardHtlcInterceptRequest, _: &ScreenContext) -> Screened {
        let payment = request.onion_blob[0];
        if payment >= 200 || self.rejects_all {
            return Screened::Reject { failure: Failure::Message(vec![0; 292]), cause: "test" };
        }
        let key = request.incoming_circuit_key.unwrap();
        Screened::Offer(Box::new(HtlcOffer {
            chan_id: key.chan_id,
            htlc_id: key.htlc_id,
            hash: hash(payment),
            secret: PaymentSecret([payment; 32]),
            terms: InvoiceTerms {
                kind: InvoiceKind::Stateless,
                amount_msat: Msat(AMOUNT),
                expires_at_ms: TIME + 3_600_000,
                min_final_cltv: 18,
                key_epoch: 0,
            },
            total_msat: Msat(AMOUNT),
            outgoing_amount_msat: Msat(request.outgoing_amount_msat),
            incoming_amount_msat: Msat(request.incoming_amount_msat),
            outgoing_expiry: request.outgoing_expiry,
            incoming_expiry: request.incoming_expiry,
            auto_fail_height: u32::try_from(request.auto_fail_height).unwrap(),
            on_chain: false,
        }))
    }

    fn failure(&self, _: &ForwardHtlcInterceptRequest, _: FailReason) -> Failure {
        Failure::Code(FailureCode::TemporaryChannelFailure)
    }

    fn preimage(&self, _: &PaymentHash, secret: &PaymentSecret) -> Option<Preimage> {
        Some(Preimage(secret.0))
    }
}

/// An HTLC of this payment, carrying this much.
fn request(payment: u8, index: u64, amount_msat: u64) -> ForwardHtlcInterceptRequest {
    ForwardHtlcInterceptRequest {
        incoming_circuit_key: Some(CircuitKey { chan_id: CHANNEL, htlc_id: index }),
        payment_hash: hash(payment).0.to_vec().into(),
        outgoing_amount_msat: amount_msat,
        outgoing_expiry: EXPIRY - 80,
        incoming_amount_msat: amount_msat,
        incoming_expiry: EXPIRY,
        outgoing_requested_chan_id: SCID,
        onion_blob: vec![payment; 1366].into(),
        auto_fail_height: i32::try_from(EXPIRY).unwrap() - 19,
        ..ForwardHtlcInterceptRequest::default()
    }
}

fn on_chain(mut request: ForwardHtlcInterceptRequest) -> ForwardHtlcInterceptRequest {
    request.auto_fail_height = i32::try_from(request.incoming_expiry).unwrap();
    request
}

fn foreign(index: u64) -> ForwardHtlcInterceptRequest {
    ForwardHtlcInterceptRequest { outgoing_requested_chan_id: FOREIGN_SCID, ..request(1, index, 1) }
}

/// A core with the state machine behind it. Proposals are committed at once unless they are kept.
struct Rig {
    log: LocalConsensus,
    core: LinkCore,
    screener: Arc<TestScreener>,
    now: MonoMs,
    /// Answers, oldest first.
    sent: Vec<(HtlcId, &'static str)>,
    /// Proposals stay here instead of being committed.
    keep_proposals: bool,
    kept: Vec<(u64, Command)>,
    keep_barriers: bool,
    barriers: Vec<u64>,
    /// LND does not answer.
    keep_hearing: bool,
    hearing: Vec<u64>,
    proposed: Vec<Command>,
    /// What LND says of HTLCs when it is asked; it has no record of others.
    looked_up: BTreeMap<u64, LookedUp>,
    look_ups: usize,
    alarms: usize,
    closed_channels: Vec<u64>,
}

impl Rig {
    fn new() -> Self {
        Self::with(LocalConsensus::new(ME, TIME), false)
    }

    fn with(log: LocalConsensus, rejects_all: bool) -> Self {
        let screener = Arc::new(TestScreener { rejects_all });
        let config =
            CoreConfig { me: ME, node: NODE, report_interval_ms: 1_000, rescue_margin: 4, force_close: true };
        let core = LinkCore::new(config, Arc::clone(&screener) as Arc<dyn Screener>);
        let policy = FrontNodePolicy { scid: SCID, fee_base_msat: 0, fee_ppm: 0, cltv_delta: 80 };
        log.commit(Command::raise_feature_level(), None);
        log.commit(Command::PutFrontNode { node: NODE, alias: "n".into(), policy }, None);
        log.commit(Command::AssignLink { node: NODE, replica: Some(ME) }, None);
        let mut rig = Self {
            log,
            core,
            screener,
            now: 1_000,
            sent: Vec::new(),
            keep_proposals: false,
            kept: Vec::new(),
            keep_barriers: false,
            barriers: Vec::new(),
            keep_hearing: false,
            hearing: Vec::new(),
            proposed: Vec::new(),
            looked_up: BTreeMap::new(),
            look_ups: 0,
            alarms: 0,
            closed_channels: Vec::new(),
        };
        rig.tell(|core, state, now| core.quorum(true, state, now));
        rig.tell(|core, state, now| core.tip(Some(tip(HEIGHT)), state, now));
        rig.tell(|core, state, now| core.channels(BTreeSet::from([CHANNEL]), state, now));
        rig
    }

    /// Stream and session are up.
    fn up() -> Self {
        let mut rig = Self::new();
        rig.open();
        assert!(rig.core.session().is_some());
        rig
    }

    fn tell(&mut self, what: impl FnOnce(&mut LinkCore, &State, MonoMs)) {
        let (core, now) = (&mut self.core, self.now);
        self.log.state().read(|state| what(core, state, now));
        self.run();
    }

    fn open(&mut self) {
        self.open_as(false);
    }

    fn open_as(&mut self, degraded: bool) {
        let id = RequestId((u128::from(self.now) << 64).to_be_bytes());
        self.tell(|core, state, now| core.stream_opened(id, degraded, state, now));
    }

    fn close(&mut self) {
        self.tell(LinkCore::stream_closed);
    }

    fn offer(&mut self, request: ForwardHtlcInterceptRequest) {
        self.tell(|core, state, now| core.intercepted(Arc::new(request), state, now));
    }

    fn pass(&mut self, by_ms: MonoMs) {
        self.now += by_ms;
        self.tell(LinkCore::tick);
    }

    fn run(&mut self) {
        while let Some(output) = self.core.next_output() {
            match output {
                Output::Send(answer) => self.sent.push((answer.htlc, name(&answer))),
                Output::Propose { id, command, .. } => {
                    self.proposed.push(command.clone());
                    self.kept.push((id, command));
                    if !self.keep_proposals {
                        self.commit_kept();
                    }
                }
                Output::Barrier { stream } => {
                    self.barriers.push(stream);
                    if !self.keep_barriers {
                        self.pass_barriers();
                    }
                }
                Output::Hear { number } => {
                    self.hearing.push(number);
                    if !self.keep_hearing {
                        self.hear();
                    }
                }
                Output::LookUp { number, htlcs } => {
                    self.look_ups += htlcs.len();
                    let said =
                        |htlc: &HtlcId| self.looked_up.get(&htlc.htlc_id).copied().unwrap_or(LookedUp::Alive);
                    let found = htlcs.iter().map(|htlc| (*htlc, said(htlc))).collect();
                    self.tell(|core, state, now| core.looked_up(number, found, state, now));
                }
                Output::Screen { number, htlc, request, context, .. } => {
                    let key = mux_raft::types::CircuitKey {
                        node: NODE,
                        chan_id: htlc.chan_id,
                        htlc_id: htlc.htlc_id,
                    };
                    let cell = self.log.state();
                    let tip = cell.read(|state| *state.archive_tip());
                    let result = match cell.archive().invoice_of(&tip, &key).unwrap() {
                        Some(archived) => Screened::Archived(Box::new(archived)),
                        None => self.screener.screen(&request, &context),
                    };
                    self.tell(|core, state, now| core.screened(vec![(number, htlc, result)], state, now));
                }
                Output::Alarm { .. } => self.alarms += 1,
                Output::ForceClose { chan_id } => self.closed_channels.push(chan_id),
            }
        }
    }

    /// Commits what was kept, and tells the core.
    fn commit_kept(&mut self) {
        for (id, command) in std::mem::take(&mut self.kept) {
            let committed = self.log.commit(command, None);
            self.tell(|core, state, now| core.proposed(id, Ok(committed), state, now));
        }
        self.tell(LinkCore::state_changed);
    }

    /// What was kept ends like this, without being committed.
    fn fail_kept(&mut self, error: &ProposeError) {
        for (id, _) in std::mem::take(&mut self.kept) {
            self.tell(|core, state, now| core.proposed(id, Err(error.clone()), state, now));
        }
    }

    fn pass_barriers(&mut self) {
        for stream in std::mem::take(&mut self.barriers) {
            self.tell(|core, state, now| core.barrier(stream, true, state, now));
        }
    }

    fn hear(&mut self) {
        for number in std::mem::take(&mut self.hearing) {
            self.tell(|core, state, now| core.heard(number, state, now));
        }
    }

    /// Applied from elsewhere.
    fn apply(&mut self, command: Command) {
        self.log.commit(command, None);
        self.tell(LinkCore::state_changed);
    }

    fn verdict(&self, index: u64) -> Option<Verdict> {
        self.log.state().read(|state| state.verdict(&key(index)))
    }

    fn offers_proposed(&self) -> usize {
        self.proposed.iter().filter(|command| matches!(command, Command::OfferHtlcs { .. })).count()
    }

    fn no_auto_settle(&mut self) {
        self.apply(Command::Configure(Settings { auto_settle: false, ..Settings::default() }));
    }

    fn settle(&mut self, payment: u8) {
        self.apply(Command::SettleInvoice {
            hash: hash(payment),
            set_id: None,
            preimage: None,
            keep_intent: false,
        });
    }
}

fn tip(height: u32) -> ChainTip {
    ChainTip { height, hash: [7; 32], synced: true }
}

fn name(answer: &Answer) -> &'static str {
    match &answer.action {
        Action::Resume => "resume",
        Action::Settle { .. } => "settle",
        Action::Fail(_) => "fail",
        Action::Reject { .. } => "reject",
    }
}

fn unknown() -> ProposeError {
    ProposeError::Unknown("test".into())
}

fn unavailable() -> ProposeError {
    ProposeError::Unavailable("test".into())
}

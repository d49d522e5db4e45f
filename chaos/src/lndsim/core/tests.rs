//! Every behaviour of LND that the multiplexer must live with, provoked on the core.

mod chain;
mod link;
mod onchain;
mod power;
mod random;
mod switch;

use super::{
    Code, Command, Core, Failure, HtlcKey, Input, Output, Record, Rejected, Reply, Resolution, Settings,
    StreamError, StreamId,
};
use mux_proto::{
    lndsim::v1::{self as ctl, Power},
    lnrpc,
    routerrpc::{
        CircuitKey, ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, ResolveHoldForwardAction,
        htlc_event::Event,
    },
};
use sha2::{Digest as _, Sha256};

const HEIGHT: u32 = 1000;
const EXPIRY: u32 = HEIGHT + 200;
const CHAN: u64 = (500 << 40) | (1 << 16);
const OUT_CHAN: u64 = (501 << 40) | (1 << 16);
const VIRTUAL: u64 = (9_000_000 << 40) | 7;

/// A node with one channel, and everything it ever put out.
struct Bench {
    core: Core,
    now_ms: u64,
    streams: u64,
    /// The client reads what it is sent.
    reading: bool,
    records: Vec<Record>,
    offers: Vec<ForwardHtlcInterceptRequest>,
    events: Vec<(HtlcKey, Event)>,
    closed: Vec<(StreamId, StreamError)>,
    others: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
        let mut bench =
            Self::with(Core::start(Settings::new("a", &"02".repeat(33), "regtest"), HEIGHT, vec![], 1));
        bench.power(Power::ServerActive);
        bench.open(CHAN, 0);
        bench
    }

    fn with(core: Core) -> Self {
        let empty = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (records, offers, events, closed, others) = empty;
        Self { core, now_ms: 1, streams: 0, reading: true, records, offers, events, closed, others }
    }

    /// One input, and then as many offers as the client reads.
    fn give(&mut self, input: Input) -> Result<Reply, Rejected> {
        let handled = self.core.handle(input, self.now_ms);
        for output in handled.outputs {
            match output {
                Output::Persist(record) => self.records.push(record),
                Output::Offer(stream, offer) => {
                    self.offers.push(*offer);
                    if self.reading {
                        self.give(Input::StreamSent(stream)).unwrap();
                    }
                }
                Output::HtlcEvent(event) => {
                    let key = HtlcKey { chan_id: event.incoming_channel_id, htlc_id: event.incoming_htlc_id };
                    self.events.push((key, event.event.unwrap()));
                }
                Output::CloseStream(stream, error) => self.closed.push((stream, error)),
                Output::Changed | Output::AnswerTaken(_) => {}
                other => self.others.push(other),
            }
        }
        handled.reply
    }

    fn command(&mut self, command: Command) -> Reply {
        self.give(Input::Command(Box::new(command))).unwrap()
    }

    fn power(&mut self, power: Power) {
        self.command(Command::SetWalletState(ctl::SetWalletStateRequest { power: power.into() }));
    }

    fn open(&mut self, chan_id: u64, local_sat: i64) {
        let request =
            ctl::OpenChannelRequest { chan_id, capacity_sat: 10_000_000, local_sat, ..Default::default() };
        self.command(Command::OpenChannel(request));
    }

    fn connect(&mut self) -> StreamId {
        self.streams += 1;
        let stream = StreamId(self.streams);
        self.give(Input::StreamOpened(stream)).unwrap();
        stream
    }

    fn connect_again(&mut self) -> StreamId {
        self.give(Input::StreamClosed(StreamId(self.streams))).unwrap();
        self.connect()
    }

    fn request(n: u8) -> ctl::AddHtlcRequest {
        ctl::AddHtlcRequest {
            chan_id: CHAN,
            payment_hash: Sha256::digest([n; 32]).to_vec().into(),
            incoming_amount_msat: 1_001_000,
            outgoing_amount_msat: 1_000_000,
            incoming_expiry: EXPIRY,
            outgoing_expiry: EXPIRY - 80,
            outgoing_requested_chan_id: VIRTUAL,
            onion_blob: vec![n; 1366].into(),
            ..Default::default()
        }
    }

    fn add_with(&mut self, request: ctl::AddHtlcRequest) -> HtlcKey {
        match self.command(Command::AddHtlc(request)) {
            Reply::Added(key) => key,
            other => panic!("{other:?}"),
        }
    }

    fn add(&mut self, n: u8) -> HtlcKey {
        self.add_with(Self::request(n))
    }

    fn answer(
        &mut self,
        stream: StreamId,
        key: HtlcKey,
        change: impl FnOnce(&mut ForwardHtlcInterceptResponse),
    ) {
        let mut response = ForwardHtlcInterceptResponse {
            incoming_circuit_key: Some(CircuitKey { chan_id: key.chan_id, htlc_id: key.htlc_id }),
            ..Default::default()
        };
        change(&mut response);
        self.give(Input::StreamAnswer(stream, Box::new(response))).unwrap();
    }

    fn settle(&mut self, stream: StreamId, key: HtlcKey, n: u8) {
        self.answer(stream, key, |response| response.preimage = vec![n; 32].into());
    }

    fn fail(&mut self, stream: StreamId, key: HtlcKey) {
        self.answer(stream, key, |response| response.action = ResolveHoldForwardAction::Fail.into());
    }

    fn resume(&mut self, stream: StreamId, key: HtlcKey) {
        self.answer(stream, key, |response| response.action = ResolveHoldForwardAction::Resume.into());
    }

    fn mine(&mut self, blocks: u32) {
        self.command(Command::MineBlocks(ctl::MineBlocksRequest { blocks }));
    }

    fn mine_to(&mut self, height: u32) {
        self.command(Command::SetHeight(ctl::SetHeightRequest { height }));
    }

    fn limit(&mut self, limit: ctl::Stage) {
        let request = ctl::SetStageLimitRequest { chan_id: CHAN, limit: limit.into(), release_after_ms: 0 };
        self.command(Command::SetStageLimit(request));
    }

    fn flap(&mut self) {
        self.command(Command::PeerFlap(ctl::ChannelRef { chan_id: CHAN }));
    }

    fn crash(&mut self) {
        self.command(Command::Restart(ctl::RestartRequest::default()));
    }

    fn flags(&mut self, flags: ctl::SetFlagsRequest) {
        self.command(Command::SetFlags(flags));
    }

    fn close(&mut self, commitment: ctl::force_close_request::Commitment) {
        let commitment = commitment.into();
        let request = ctl::ForceCloseRequest { chan_id: CHAN, commitment, wait_for_block: false };
        self.command(Command::ForceClose(request));
    }

    /// The process is killed and started again.
    fn kill(&mut self) {
        let settings = Settings::new("a", &"02".repeat(33), "regtest");
        self.core = Core::start(settings, HEIGHT, self.records.clone(), 2);
        self.power(Power::ServerActive);
    }

    fn take_offers(&mut self) -> Vec<HtlcKey> {
        let key = |offer: ForwardHtlcInterceptRequest| {
            let key = offer.incoming_circuit_key.unwrap();
            HtlcKey { chan_id: key.chan_id, htlc_id: key.htlc_id }
        };
        std::mem::take(&mut self.offers).into_iter().map(key).collect()
    }

    fn entry(&self, key: HtlcKey) -> ctl::HtlcEntry {
        self.core.htlc(key).unwrap()
    }

    fn stage(&self, key: HtlcKey) -> ctl::Stage {
        self.entry(key).stage()
    }

    /// What the payer knows.
    fn outcome(&self, key: HtlcKey) -> Option<Resolution> {
        self.core.db.outcomes.iter().find(|outcome| outcome.key == key).map(|outcome| outcome.result.clone())
    }

    fn failed_with(&self, key: HtlcKey) -> Option<Code> {
        match self.outcome(key)? {
            Resolution::Fail(
                Failure::FrontNode(code) | Failure::Downstream(code) | Failure::Upstream(code),
            ) => Some(code),
            _ => None,
        }
    }

    /// What the truth is: settled, offchain.
    fn truth(&self, key: HtlcKey) -> Option<(bool, bool)> {
        self.entry(key).r#final.map(|fin| (fin.settled, fin.offchain))
    }

    fn final_events(&self, key: HtlcKey) -> Vec<(bool, bool)> {
        let finals = self.events.iter().filter(|(at, _)| *at == key);
        finals
            .filter_map(|(_, event)| match event {
                Event::FinalHtlcEvent(fin) => Some((fin.settled, fin.offchain)),
                _ => None,
            })
            .collect()
    }

    fn settle_events(&self, key: HtlcKey) -> usize {
        self.events.iter().filter(|(at, event)| *at == key && matches!(event, Event::SettleEvent(_))).count()
    }

    fn lookup(&self, key: HtlcKey) -> Result<(bool, bool), super::NoResolution> {
        let request = lnrpc::LookupHtlcResolutionRequest { chan_id: key.chan_id, htlc_index: key.htlc_id };
        self.core.lookup_resolution(request).map(|found| (found.settled, found.offchain))
    }

    fn pending(&self) -> Vec<lnrpc::Htlc> {
        let channels = self.core.list_channels(&lnrpc::ListChannelsRequest::default()).channels;
        channels.into_iter().filter(|channel| channel.chan_id == CHAN).flat_map(|c| c.pending_htlcs).collect()
    }

    /// The text that ended the stream last.
    fn kill_text(&self) -> &str {
        self.closed.last().map_or("", |(_, error)| error.text.as_str())
    }
}

use super::{
    htlc::{HtlcKey, Resolution},
    input::StreamId,
};
use mux_proto::{lndsim::v1::Power, routerrpc};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The one interceptor client that LND lets in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its stream.
    pub(super) stream: StreamId,
    /// `SetInterceptor` ran in the event loop.
    pub(super) registered: bool,
    /// The stream is over; the event loop has not come to it yet.
    pub(super) broken: bool,
    /// The client is gone and the node has not noticed.
    pub(super) dead: bool,
}

/// What LND's event loop takes, one at a time.
#[derive(Debug)]
pub(super) enum LoopInput {
    Register(StreamId),
    Detach(StreamId),
    Intercept { key: HtlcKey, replay: bool },
    InterceptOnChain(HtlcKey),
    Block(u32),
    Answer(StreamId, Box<routerrpc::ForwardHtlcInterceptResponse>),
}

/// Something that happens later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// An answer waited long enough at its channel's limit.
    Release(HtlcKey),
    /// The node notices that a client is gone.
    SlotExpires(StreamId),
    /// The next phase of a restart.
    NextPhase,
}

/// What dies with the process.
pub(super) struct Memory {
    pub(super) power: Power,
    /// Phases of a restart still to come.
    pub(super) plan: VecDeque<(Power, u64)>,
    pub(super) slot: Option<Slot>,
    /// Held HTLCs; the value tells whether the offer is the one on chain.
    pub(super) held: BTreeMap<HtlcKey, bool>,
    pub(super) queue: VecDeque<LoopInput>,
    /// Offers that the present step of the event loop still has to send.
    pub(super) to_send: VecDeque<HtlcKey>,
    /// The event loop waits for the client to read.
    pub(super) sending: bool,
    /// The height the event loop goes by.
    pub(super) loop_height: u32,
    pub(super) mailbox: BTreeMap<HtlcKey, Resolution>,
    /// Answers that wait at a limit with a time to go on.
    pub(super) waiting: BTreeSet<HtlcKey>,
    /// Answers that may pass their channel's limit.
    pub(super) released: BTreeSet<HtlcKey>,
    pub(super) timers: BTreeMap<(u64, u64), Timer>,
    pub(super) timers_total: u64,
}

impl Memory {
    /// Of a process that was just started.
    pub(super) fn new(power: Power) -> Self {
        Self {
            power,
            plan: VecDeque::new(),
            slot: None,
            held: BTreeMap::new(),
            queue: VecDeque::new(),
            to_send: VecDeque::new(),
            sending: false,
            loop_height: 0,
            mailbox: BTreeMap::new(),
            waiting: BTreeSet::new(),
            released: BTreeSet::new(),
            timers: BTreeMap::new(),
            timers_total: 0,
        }
    }

    /// Lets something happen at a time.
    pub(super) fn schedule(&mut self, at_ms: u64, timer: Timer) {
        self.timers_total = self.timers_total.saturating_add(1);
        self.timers.insert((at_ms, self.timers_total), timer);
    }
}

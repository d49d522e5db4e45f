use super::super::screener::Failure;
use super::vetting::Vetting;
use super::{HtlcId, MonoMs};
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::machine::RequestId;
use mux_raft::machine::command::HtlcOffer;
use mux_raft::mutant::{Mutant, planted};
use mux_raft::types::{LogIndex, PaymentHash, SessionId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tracing::Span;

/// What is known of one interceptor stream; begins anew with each.
#[derive(Debug)]
pub(super) struct StreamState {
    /// Tells answers to questions of earlier streams apart.
    pub(super) number: u64,
    /// Its name in the log; another one for each session on it.
    pub(super) id: RequestId,
    /// Opened without a quorum.
    pub(super) degraded: bool,
    /// Everything committed before the stream was opened is applied here.
    pub(super) barrier_passed: bool,
    pub(super) barrier_asked: bool,
    pub(super) barrier_retry_at: MonoMs,
    /// The session, once its entry is applied here.
    pub(super) up: Option<Up>,
    pub(super) link_up_retry_at: MonoMs,
    /// Offered on this stream and unanswered.
    pub(super) offers: BTreeMap<HtlcId, Offered>,
    /// Those to be proposed, oldest first. May name offers that are gone or no longer queued.
    pub(super) queue: VecDeque<HtlcId>,
}

/// A session whose LinkUp entry is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up {
    pub(super) session: SessionId,
    /// Where it was committed.
    pub(super) index: LogIndex,
    /// Tip and channels are in the log under this session: offers can be judged.
    pub(super) reported: bool,
}

/// An HTLC that LND waits for an answer to.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) request: Arc<ForwardHtlcInterceptRequest>,
    pub(super) hash: PaymentHash,
    pub(super) on_chain: bool,
    pub(super) since: MonoMs,
    pub(super) stage: Stage,
    /// Proposed from this stream at some time: only the log may fail it.
    pub(super) proposed: bool,
    /// What is proposed.
    pub(super) proposal: Option<Box<HtlcOffer>>,
    /// Whether LND still has it.
    pub(super) vetting: Vetting,
    /// Not before.
    pub(super) retry_at: MonoMs,
    /// From the offer to the answer.
    pub(super) span: Span,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for barrier and session.
    Waiting,
    /// With the screener, under this number.
    Screening(u64),
    /// In the queue.
    Queued,
    /// Part of the proposal of this number.
    Proposed(u64),
    /// Recorded under the current session; waits for its verdict.
    Held,
    /// Fails by the stateless checks as soon as that is allowed.
    Rejected { failure: Failure, cause: &'static str },
}

impl StreamState {
    pub(super) fn new(number: u64, id: RequestId, degraded: bool) -> Self {
        Self {
            number,
            id,
            degraded,
            barrier_passed: planted(Mutant::ReplayUnbarred),
            barrier_asked: false,
            barrier_retry_at: 0,
            up: None,
            link_up_retry_at: 0,
            offers: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn barrier_done(&mut self, passed: bool, now: MonoMs) {
        self.barrier_asked = false;
        self.barrier_passed |= passed;
        self.barrier_retry_at = now.saturating_add(super::RETRY_MS);
    }

    /// Puts an offer into the queue.
    pub(super) fn enqueue(&mut self, htlc: HtlcId) {
        if let Some(offer) = self.offers.get_mut(&htlc)
            && offer.stage != Stage::Queued
        {
            offer.stage = Stage::Queued;
            self.queue.push_back(htlc);
        }
    }

    /// The next session on the same stream needs another name, or it would get the old number.
    pub(super) fn rename(&mut self) {
        self.id = RequestId(u128::from_be_bytes(self.id.0).wrapping_add(1).to_be_bytes());
    }
}

//! HTLCs in bulk, and how long each waited: for benchmarks.
//!
//! Times are taken where they happen: when the node hands an offer to the interceptor's stream, and when the
//! answer is carried out. Whoever waits for a verdict has its place in the queue of verdicts reserved before
//! the HTLC is locked in, so none is lost and none blocks the node.

use super::{
    super::core::{Command, Core, HtlcKey, Input, Output, Rejected, Resolution},
    lazy::Messages,
    node::Node,
};
use crate::lndsim::core::Failure;
use futures::StreamExt as _;
use mux_proto::lndsim::v1::{self as ctl, verdict::Kind};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// HTLCs without a verdict, and verdicts not sent, of one client.
const VERDICTS_MAX: usize = 65_536;

/// Verdicts in one message.
const BATCH_MAX: usize = 256;

/// Somebody who waits for a verdict.
pub(super) struct Tracked {
    verdict: ctl::Verdict,
    place: OwnedPermit<ctl::Verdict>,
}

/// All HTLCs whose verdict somebody waits for.
#[derive(Default)]
pub(super) struct Load {
    tracked: HashMap<HtlcKey, Tracked>,
    /// Outcomes of the core that were looked at.
    seen: usize,
}

impl Load {
    /// From now on this HTLC's verdict is told.
    pub(super) fn track(&mut self, key: HtlcKey, tracked: Tracked) {
        self.tracked.insert(key, tracked);
    }

    /// After every step of the core. `unix_us`: now.
    pub(super) fn observe(&mut self, outputs: &[Output], core: &Core, unix_us: u64) {
        let news = core.outcomes_since(self.seen);
        self.seen = self.seen.saturating_add(news.len());
        if self.tracked.is_empty() {
            return;
        }
        for output in outputs {
            if let Output::Offer(_, offer) = output
                && let Some(key) = &offer.incoming_circuit_key
                && let Some(tracked) =
                    self.tracked.get_mut(&HtlcKey { chan_id: key.chan_id, htlc_id: key.htlc_id })
            {
                tracked.verdict.offered_unix_us = unix_us;
                tracked.verdict.offers = tracked.verdict.offers.saturating_add(1);
            }
        }
        for outcome in news {
            let Some(Tracked { mut verdict, place }) = self.tracked.remove(&outcome.key) else { continue };
            verdict.ended_unix_us = unix_us;
            let (kind, reason) = match &outcome.result {
                Resolution::Settle(_) => (Kind::Settled, String::new()),
                Resolution::Fail(failure @ Failure::VirtualNode(_)) => {
                    (Kind::Failed, ctl::HtlcFailure::from(failure).name)
                }
                Resolution::Fail(failure) => (Kind::FailedByNode, ctl::HtlcFailure::from(failure).name),
            };
            verdict.kind = kind.into();
            verdict.reason = reason;
            place.send(verdict);
        }
    }
}

/// Takes batches and sends verdicts, until the client ends its side and the last verdict was sent.
pub(super) fn serve(node: Arc<Node>, batches: Streaming<ctl::HtlcBatch>) -> Messages<ctl::VerdictBatch> {
    let (verdicts, waiting) = mpsc::channel(VERDICTS_MAX);
    tokio::spawn(take(node, batches, verdicts));
    let waiting = ReceiverStream::new(waiting).ready_chunks(BATCH_MAX);
    Box::pin(waiting.map(|verdicts| Ok::<_, Status>(ctl::VerdictBatch { verdicts })))
}

async fn take(node: Arc<Node>, mut batches: Streaming<ctl::HtlcBatch>, verdicts: mpsc::Sender<ctl::Verdict>) {
    while let Ok(Some(batch)) = batches.message().await {
        for ctl::TaggedHtlc { tag, htlc } in batch.htlcs {
            let Ok(place) = verdicts.clone().reserve_owned().await else { return };
            let verdict = ctl::Verdict { tag, added_unix_us: node.now_us(), ..ctl::Verdict::default() };
            let mut tracked = Some(Tracked { verdict, place });
            let add = Input::Command(Box::new(Command::AddHtlc(htlc.unwrap_or_default())));
            let taken = node.apply_tracked(add, &mut tracked);
            if let (Err(rejected), Some(tracked)) = (taken, tracked) {
                refuse(tracked, &rejected, node.now_us());
            }
        }
    }
}

fn refuse(Tracked { mut verdict, place }: Tracked, rejected: &Rejected, unix_us: u64) {
    verdict.kind = Kind::Refused.into();
    verdict.reason = rejected.to_string();
    verdict.ended_unix_us = unix_us;
    place.send(verdict);
}

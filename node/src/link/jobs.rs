//! What a link waits for beside its task: consensus, LND's slow calls, elliptic curves. Results come back
//! as [`Event`]s.

use super::answers;
use super::core::{Answer, HtlcId, LookedUp};
use super::finals;
use super::rescue;
use super::screener::{ScreenContext, Screened, Screener};
use super::spans;
use super::stream::Answers;
use crate::lnd::LndClient;
use mux_proto::routerrpc::ForwardHtlcInterceptRequest;
use mux_raft::blocking::{Blocking, Work};
use mux_raft::consensus::{Committed, Consensus, ProposeError};
use mux_raft::fault;
use mux_raft::machine::Command;
use mux_raft::trace;
use mux_raft::types::{CircuitKey, NodePubkey};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, Span};

/// Longer than consensus lets any proposal take.
const PROPOSAL_DEADLINE: Duration = Duration::from_secs(15);

/// How soon a replica asks again whether it has caught up.
const CATCH_UP_RETRY: Duration = Duration::from_millis(50);

/// How often LND is asked whether it is there, after a standstill.
const HEAR_TRIES_MAX: u32 = 10;

/// So much later than LND's answer everything that came before it has been told.
const HEARD_AFTER: Duration = Duration::from_millis(10);

/// What comes back.
pub(super) enum Event {
    /// A proposal ended.
    Proposed { id: u64, result: Result<Committed, ProposeError> },
    /// A stream's read barrier passed, or did not.
    Barrier { stream: u64, passed: bool },
    /// LND answered a question.
    Heard { number: u64 },
    /// LND was asked about these.
    LookedUp { number: u64, found: Vec<(HtlcId, LookedUp)> },
    /// The stateless checks of these are done.
    Screened(Vec<(u64, HtlcId, Screened)>),
    /// LND did not take a force-close on.
    ForceCloseFailed { chan_id: u64 },
    /// Everything committed when it was asked is applied here, or that could not be found out.
    CaughtUp(bool),
}

/// An HTLC on its way through the screener.
pub(super) struct ScreenJob {
    pub(super) number: u64,
    pub(super) htlc: HtlcId,
    pub(super) request: Arc<ForwardHtlcInterceptRequest>,
    pub(super) context: ScreenContext,
    pub(super) span: Span,
}

/// Starts them. Each ends within a deadline, and is dropped with its result once the link is gone.
pub(super) struct Jobs {
    pub(super) consensus: Arc<dyn Consensus>,
    pub(super) screener: Arc<dyn Screener>,
    pub(super) blocking: Blocking,
    pub(super) events: mpsc::Sender<Event>,
}

impl Jobs {
    /// `htlcs`: the spans of those it is made for, if anybody looks at spans.
    pub(super) fn propose(&self, id: u64, htlcs: &[Span], command: Command) {
        let (consensus, events) = (Arc::clone(&self.consensus), self.events.clone());
        let (span, context) = spans::proposal(htlcs);
        let proposing = async move {
            let result = timeout(PROPOSAL_DEADLINE, consensus.propose(command, None)).await;
            let result = result.unwrap_or_else(|_| Err(ProposeError::Unknown("no answer in time".into())));
            fault::point("proposal.ended");
            let _ = events.send(Event::Proposed { id, result }).await;
        };
        tokio::spawn(trace::scope(context, proposing).instrument(span));
    }

    /// Proposes something that is derived from the state again if nothing comes of it.
    pub(super) fn try_propose(&self, command: Command) {
        let consensus = Arc::clone(&self.consensus);
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(PROPOSAL_DEADLINE, consensus.propose(command, None)).await {
                tracing::debug!(%error, "not proposed");
            }
        });
    }

    pub(super) fn barrier(&self, stream: u64) {
        let (consensus, events) = (Arc::clone(&self.consensus), self.events.clone());
        tokio::spawn(async move {
            let passed = passes(&*consensus).await;
            let _ = events.send(Event::Barrier { stream, passed }).await;
        });
    }

    pub(super) fn catch_up(&self) {
        let (consensus, events) = (Arc::clone(&self.consensus), self.events.clone());
        tokio::spawn(async move {
            let passed = passes(&*consensus).await;
            if !passed {
                sleep(CATCH_UP_RETRY).await;
            }
            let _ = events.send(Event::CaughtUp(passed)).await;
        });
    }

    /// Given up once the connection must have been given up, too.
    pub(super) fn hear(&self, client: LndClient, patience: Duration, number: u64) {
        let events = self.events.clone();
        tokio::spawn(async move {
            for _ in 0..HEAR_TRIES_MAX {
                if let Ok(Ok(_)) = timeout(patience, client.checked_info()).await {
                    // The answer's connection brought everything else first; let those who listen tell it.
                    sleep(HEARD_AFTER).await;
                    let _ = events.send(Event::Heard { number }).await;
                    return;
                }
                sleep(CATCH_UP_RETRY).await;
            }
        });
    }

    /// One after the other: there are few, except when LND offers all of a large channel's again.
    pub(super) fn look_up(&self, client: LndClient, patience: Duration, number: u64, htlcs: Vec<HtlcId>) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let mut found = Vec::with_capacity(htlcs.len());
            for htlc in htlcs {
                let record = timeout(patience, client.lookup_htlc(htlc.chan_id, htlc.htlc_id)).await;
                let said = match record {
                    Ok(Ok(record)) => {
                        finals::conclude(record, false).map_or(LookedUp::Alive, LookedUp::Ended)
                    }
                    Ok(Err(_)) | Err(_) => LookedUp::Failed,
                };
                found.push((htlc, said));
            }
            let _ = events.send(Event::LookedUp { number, found }).await;
        });
    }

    /// The recorded verdict comes first, also when it is in the archive.
    pub(super) fn screen(&self, node: NodePubkey, jobs: Vec<ScreenJob>) {
        let (screener, consensus) = (Arc::clone(&self.screener), Arc::clone(&self.consensus));
        let (blocking, events) = (self.blocking.clone(), self.events.clone());
        tokio::spawn(async move {
            let screening =
                blocking.run(Work::Screen, move || screen_all(node, jobs, &*screener, &*consensus)).await;
            // One that panicked is never answered: LND offers what it holds again on the next stream.
            if let Ok(done) = screening {
                fault::point("offer.screened");
                // Nobody listens any more: the link is gone.
                let _ = events.send(Event::Screened(done)).await;
            }
        });
    }

    /// Words an answer, which takes long, and sends it.
    pub(super) fn answer(&self, answer: Answer, answers: Answers) {
        let (screener, blocking) = (Arc::clone(&self.screener), self.blocking.clone());
        tokio::spawn(async move {
            let worded = blocking.run(Work::Screen, move || answers::response(&answer, &*screener)).await;
            if let Ok(Ok(response)) = worded {
                fault::point("answer.worded");
                answers.send(response);
                fault::point("answer.given");
            }
        });
    }

    pub(super) fn force_close(&self, client: LndClient, alias: String, chan_id: u64) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tracing::error!(front_node = %alias, chan_id, "force-closing a channel to save settled HTLCs");
            if let Err(error) = rescue::force_close(&client, chan_id).await {
                tracing::error!(front_node = %alias, chan_id, %error, "CRITICAL: the force-close failed");
                let _ = events.send(Event::ForceCloseFailed { chan_id }).await;
            }
        });
    }
}

fn screen_all(
    node: NodePubkey,
    jobs: Vec<ScreenJob>,
    screener: &dyn Screener,
    consensus: &dyn Consensus,
) -> Vec<(u64, HtlcId, Screened)> {
    let mut done = Vec::with_capacity(jobs.len());
    for ScreenJob { number, htlc, request, context, span } in jobs {
        let screening = tracing::debug_span!(parent: &span, "screen");
        let key = CircuitKey { node, chan_id: htlc.chan_id, htlc_id: htlc.htlc_id };
        let cell = consensus.state();
        let tip = cell.read(|state| *state.archive_tip());
        let result = match cell.archive().invoice_of(&tip, &key) {
            Ok(Some(archived)) => Screened::Archived(Box::new(archived)),
            Ok(None) => screening.in_scope(|| screener.screen(&request, &context)),
            // The replica stops for it; until then, silence is safe.
            Err(error) => {
                tracing::error!(circuit_key = %key, %error, "cannot look up the verdict of an HTLC");
                continue;
            }
        };
        done.push((number, htlc, result));
    }
    done
}

async fn passes(consensus: &dyn Consensus) -> bool {
    matches!(timeout(PROPOSAL_DEADLINE, consensus.read_barrier()).await, Ok(Ok(_)))
}

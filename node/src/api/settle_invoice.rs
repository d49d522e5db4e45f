//! Settling what is accepted. OK is only ever answered after the decision; with the gate closed the intent is
//! kept in the log and the call waits.

use super::cancel_invoice::{optional_set_id, payment_hash};
use super::context::{Context, deadline};
use super::error::ApiError;
use super::view;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::State;
use mux_raft::machine::command::Command;
use mux_raft::machine::model::{FailReason, Invoice, InvoiceState, TemporaryCause, Verdict};
use mux_raft::machine::reply::{Reply, SettleReply};
use mux_raft::types::{LogIndex, PaymentHash, Preimage, SetId};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// `mux.v1.InvoiceService/SettleInvoice`
pub(super) async fn settle_invoice(
    context: &Context,
    request: Request<proto::SettleInvoiceRequest>,
) -> Result<Response<proto::SettleInvoiceResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let hash = payment_hash(&request.hash)?;
    let set_id = optional_set_id(&request.set_id)?;
    let preimage = match request.preimage.len() {
        0 => None,
        32 => request.preimage.as_ref().try_into().ok().map(Preimage),
        _ => return Err(ApiError::Invalid("a preimage has 32 bytes".into()).into()),
    };
    let decision_index = context.settle(hash, set_id, preimage, deadline).await?;
    Ok(Response::new(proto::SettleInvoiceResponse { decision_index }))
}

/// More would only make the message unreadable.
const OBSTACLES_SHOWN: usize = 4;

/// Where a settle intent stands.
enum Intent {
    Waiting,
    Decided(u64),
    Gone(String),
}

impl Context {
    /// Settles, and waits for the decision if the gate is closed.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] "not decided" at the deadline: the intent stays. [`ApiError::Precondition`]
    /// if the set ended otherwise first.
    pub(super) async fn settle(
        &self,
        hash: PaymentHash,
        set_id: Option<SetId>,
        preimage: Option<Preimage>,
        deadline: Instant,
    ) -> Result<u64, ApiError> {
        let mut applied = self.consensus.state().watch();
        // Needs no request id: a second settle of the same set gets the same answer.
        let command = Command::SettleInvoice { hash, set_id, preimage, keep_intent: true };
        let committed = self.submit(command, None, deadline).await?;
        match committed.reply {
            Reply::Settle(SettleReply::Decided { decision_index }) => return Ok(decision_index),
            Reply::Settle(SettleReply::GateClosed) => {}
            other => return Err(ApiError::Internal(format!("unexpected reply {other:?}"))),
        }
        let found = self.find_invoice(hash).await?;
        let attempt = found.as_ref().map_or(0, |found| found.invoice.attempt);
        let set = found.and_then(|found| found.invoice.set);
        let part = set.and_then(|set| set.parts.first().copied());
        loop {
            // Marked as seen before it is read, so that no change is missed.
            applied.mark_unchanged();
            let intent = match self.read(|state| state.invoice(&hash).map(|invoice| intent(invoice, attempt)))
            {
                Some(intent) => intent,
                // Finished meanwhile, or gone.
                None => match self.find_invoice(hash).await? {
                    Some(found) => intent(&found.invoice, attempt),
                    None => Intent::Gone(format!("invoice {hash} is gone")),
                },
            };
            match intent {
                Intent::Decided(decision_index) => return Ok(decision_index),
                Intent::Gone(why) => {
                    // The set may have been failed before it was looked at.
                    let reason = self.read(|state| match part {
                        Some(part) => failure(state.verdict(&part)?),
                        None => first_failure_after(state, &hash, committed.at.index),
                    });
                    return Err(ApiError::Precondition(
                        reason.map_or_else(|| why.clone(), |reason| format!("{why}: {reason}")),
                    ));
                }
                Intent::Waiting => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(not_decided("this replica stops")),
                () = tokio::time::sleep_until(deadline) => {
                    return Err(not_decided(&self.read(|state| obstacles(state, &hash))));
                }
                // The sender lives as long as the state that `self` holds.
                _ = applied.changed() => {}
            }
        }
    }
}

fn intent(invoice: &Invoice, attempt: u32) -> Intent {
    let hash = invoice.hash;
    if invoice.state.is_decided() {
        return if invoice.attempt == attempt {
            Intent::Decided(invoice.decision_index)
        } else {
            Intent::Gone(format!("the set of invoice {hash} was failed; another one was settled"))
        };
    }
    // A set that lost a part forgets the wish, also when it is complete again.
    let wished = invoice.set.as_ref().is_some_and(|set| set.settle_intent);
    if wished && invoice.state == InvoiceState::Accepted && invoice.attempt == attempt {
        return Intent::Waiting;
    }
    Intent::Gone(format!("the set of invoice {hash} was cancelled or failed before a decision to settle"))
}

/// Why the set of a part with this verdict was failed, for people.
fn failure(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Settle => None,
        Verdict::Fail(FailReason::Temporary { cause: TemporaryCause::FrontNodeRemoved }) => {
            Some("a front node that held a part of it was removed; the invoice may be paid again".into())
        }
        Verdict::Fail(reason) => Some(view::fail_reason(reason)),
    }
}

/// Why the first HTLC of this invoice that failed after the entry `index` did, for people.
fn first_failure_after(state: &State, hash: &PaymentHash, index: LogIndex) -> Option<String> {
    let all = state.all_front_nodes().flat_map(|front| state.htlcs_of(&front.node));
    let failed = all.filter(|htlc| {
        htlc.hash == *hash && htlc.decided_at_index > index && matches!(htlc.verdict, Some(Verdict::Fail(_)))
    });
    failure(failed.min_by_key(|htlc| htlc.decided_at_index)?.verdict?)
}

/// What is in the way, for people.
fn obstacles(state: &State, hash: &PaymentHash) -> String {
    let report = state.gate_report(hash);
    let obstacles = report.iter().flat_map(|report| &report.obstacles);
    let texts: Vec<_> =
        obstacles.take(OBSTACLES_SHOWN).map(|at| format!("{}: {}", at.key, at.cause)).collect();
    if texts.is_empty() { "the gate is still closed".into() } else { texts.join(", ") }
}

fn not_decided(why: &str) -> ApiError {
    ApiError::Unavailable(format!(
        "not decided: {why}; the wish to settle is kept, and this call may be repeated or the set cancelled"
    ))
}

//! Decided invoices: this API knows no others.

use crate::api::cancel_invoice::payment_hash;
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::view::{self, bytes};
use mux_proto::lnmux as proto;
use mux_raft::archive::{InvoiceOrder, InvoicePage};
use mux_raft::machine::model::{Invoice, InvoiceState};
use mux_raft::types::Msat;
use tonic::{Response, Status};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Waits until every HTLC of a decided invoice is final.
pub(super) async fn wait_for_final(
    context: &Context,
    request: &proto::WaitForInvoiceFinalStatusRequest,
) -> Result<Response<proto::WaitForInvoiceFinalStatusResponse>, Status> {
    let hash = payment_hash(&request.hash)?;
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    let mut applied = context.consensus.state().watch();
    loop {
        // Marked as seen before it is read, so that no change is missed.
        applied.mark_unchanged();
        match context.state_of(hash).await?.and_then(status) {
            None => return Err(ApiError::NotFound(format!("no decided invoice {hash}")).into()),
            Some(proto::InvoiceStatus::StatusSettleRequested) => {}
            Some(status) => {
                let response = proto::WaitForInvoiceFinalStatusResponse { invoice_status: status.into() };
                return Ok(Response::new(response));
            }
        }
        // The caller's own deadline ends the call; without one he waits for as long as it takes.
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return Err(Status::unavailable("this replica stops; ask another one")),
            // The sender lives as long as the state that the context holds.
            _ = applied.changed() => {}
        }
    }
}

/// By decision_index, from a number on.
pub(super) async fn list(
    context: &Context,
    request: &proto::ListInvoicesRequest,
) -> Result<Response<proto::ListInvoicesResponse>, Status> {
    let limit = match usize::try_from(request.max_invoices_count).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        limit => limit.min(PAGE_MAX),
    };
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    let page = InvoicePage {
        order: InvoiceOrder::Decided,
        first: request.sequence_start,
        last: u64::MAX,
        newest_first: false,
        limit,
    };
    let decided = context.look_up(move |cell| cell.list_invoices(page)).await?;
    let invoice: Vec<_> = decided.iter().filter_map(|found| render(context, &found.invoice)).collect();
    Ok(Response::new(proto::ListInvoicesResponse {
        first_sequence_number: invoice.first().map_or(0, |invoice| invoice.sequence_number),
        last_sequence_number: invoice.last().map_or(0, |invoice| invoice.sequence_number),
        invoice,
    }))
}

/// `None` for what this API does not know.
fn status(state: InvoiceState) -> Option<proto::InvoiceStatus> {
    match state {
        InvoiceState::Settling => Some(proto::InvoiceStatus::StatusSettleRequested),
        InvoiceState::Settled => Some(proto::InvoiceStatus::StatusSettled),
        InvoiceState::Partial => Some(proto::InvoiceStatus::StatusFailed),
        InvoiceState::Open | InvoiceState::Accepted | InvoiceState::Canceled | InvoiceState::Expired => None,
    }
}

fn render(context: &Context, invoice: &Invoice) -> Option<proto::Invoice> {
    let status = status(invoice.state)?;
    let whole = invoice.set.as_ref().map_or(Msat::ZERO, |set| set.total_msat);
    let asked = invoice.terms.amount_msat;
    let preimage = view::preimage(&context.keys, invoice);
    Some(proto::Invoice {
        hash: bytes(&invoice.hash.0),
        preimage: preimage.map_or_else(Default::default, |preimage| bytes(&preimage.0)),
        amount_msat: if asked == Msat::ZERO { whole.0 } else { asked.0 },
        status: status.into(),
        settle_requested_at: invoice.decided_at_ms / 1_000,
        finalized_at: invoice.finalized_at_ms / 1_000,
        sequence_number: invoice.decision_index,
    })
}

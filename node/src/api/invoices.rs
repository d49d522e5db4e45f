//! Looking at invoices.

use super::cancel_invoice::payment_hash;
use super::context::Context;
use super::error::ApiError;
use super::view;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::State;
use mux_raft::machine::model::{Invoice, InvoiceState};
use tonic::{Response, Status};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Invoices looked at in one go: apply waits meanwhile.
const SCAN_MAX: usize = 5_000;

/// `mux.v1.InvoiceService/GetInvoice`
pub(super) async fn get_invoice(
    context: &Context,
    request: proto::GetInvoiceRequest,
) -> Result<Response<proto::GetInvoiceResponse>, Status> {
    let hash = payment_hash(&request.hash)?;
    context.barrier(request.consistency).await?;
    let found = context
        .read(|state| state.invoice(&hash).map(|invoice| view::invoice(state, &context.keys, invoice)));
    let Some(invoice) = found else {
        let why = format!("no invoice {hash}; a stateless one is unknown until its first HTLC");
        return Err(ApiError::NotFound(why).into());
    };
    Ok(Response::new(proto::GetInvoiceResponse { invoice: Some(invoice) }))
}

/// `mux.v1.InvoiceService/ListInvoices`
pub(super) async fn list_invoices(
    context: &Context,
    request: proto::ListInvoicesRequest,
) -> Result<Response<proto::ListInvoicesResponse>, Status> {
    let limit = page(request.limit);
    let wanted = states(&request.states)?;
    context.barrier(request.consistency).await?;
    let from = request.after_add_index;
    let (invoices, next_add_index) = context.read(|state| {
        let render = |invoice: &Invoice| view::invoice(state, &context.keys, invoice);
        let is_wanted = |invoice: &Invoice| wanted.is_empty() || wanted.contains(&invoice.state);
        if request.newest_first {
            let before = if from == 0 { u64::MAX } else { from };
            let newest = newest_before(state, before);
            collect(newest, limit, is_wanted, render)
        } else {
            collect(state.invoices_after(from), limit, is_wanted, render)
        }
    });
    Ok(Response::new(proto::ListInvoicesResponse { invoices, next_add_index }))
}

fn newest_before(state: &State, before: u64) -> impl Iterator<Item = &Invoice> {
    state.invoices_after(0).rev().skip_while(move |invoice| invoice.add_index >= before)
}

/// A page, and where the next one begins (0: there is none).
fn collect<'a>(
    mut invoices: impl Iterator<Item = &'a Invoice>,
    limit: usize,
    is_wanted: impl Fn(&Invoice) -> bool,
    render: impl Fn(&Invoice) -> proto::Invoice,
) -> (Vec<proto::Invoice>, u64) {
    let mut page = Vec::new();
    let mut last = 0;
    for invoice in invoices.by_ref().take(SCAN_MAX) {
        last = invoice.add_index;
        if is_wanted(invoice) {
            page.push(render(invoice));
        }
        if page.len() == limit {
            break;
        }
    }
    let more = invoices.next().is_some();
    (page, if more { last } else { 0 })
}

fn page(limit: u32) -> usize {
    match usize::try_from(limit).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        limit => limit.min(PAGE_MAX),
    }
}

fn states(wanted: &[i32]) -> Result<Vec<InvoiceState>, ApiError> {
    use InvoiceState as S;
    let all = [S::Open, S::Accepted, S::Settling, S::Settled, S::Partial, S::Canceled, S::Expired];
    wanted
        .iter()
        .map(|number| {
            let known = all.into_iter().find(|state| i32::from(view::invoice_state(*state)) == *number);
            known.ok_or_else(|| ApiError::Invalid(format!("{number} is no invoice state")))
        })
        .collect()
}

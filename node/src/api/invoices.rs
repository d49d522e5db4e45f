//! Looking at invoices.

use super::cancel_invoice::payment_hash;
use super::context::Context;
use super::error::ApiError;
use super::view;
use mux_proto::mux::v1 as proto;
use mux_raft::archive::{FoundInvoice, InvoiceOrder, InvoicePage};
use mux_raft::consensus::StateCell;
use mux_raft::machine::ArchiveUnreadable;
use mux_raft::machine::model::InvoiceState;
use tonic::{Response, Status};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Invoices read at a time, at least.
const SCAN_BATCH_MIN: usize = 250;

/// A call gives up looking for wanted states after so many batches; the caller goes on from there.
const SCAN_BATCHES_MAX: usize = 20;

/// `mux.v1.InvoiceService/GetInvoice`
pub(super) async fn get_invoice(
    context: &Context,
    request: proto::GetInvoiceRequest,
) -> Result<Response<proto::GetInvoiceResponse>, Status> {
    let hash = payment_hash(&request.hash)?;
    context.barrier(request.consistency).await?;
    let found = context.find_invoice(hash).await?;
    let Some(found) = found else {
        let why = format!("no invoice {hash}; a stateless one is unknown until its first HTLC");
        return Err(ApiError::NotFound(why).into());
    };
    Ok(Response::new(proto::GetInvoiceResponse { invoice: Some(view::invoice(&context.keys, &found)) }))
}

/// `mux.v1.InvoiceService/ListInvoices`
pub(super) async fn list_invoices(
    context: &Context,
    request: proto::ListInvoicesRequest,
) -> Result<Response<proto::ListInvoicesResponse>, Status> {
    let limit = page(request.limit);
    let wanted = states(&request.states)?;
    context.barrier(request.consistency).await?;
    let scan = Scan { after: request.after_add_index, newest_first: request.newest_first, limit, wanted };
    let (found, next_add_index) = context.look_up(move |cell| scan.run(cell)).await?;
    let invoices = found.iter().map(|found| view::invoice(&context.keys, found)).collect();
    Ok(Response::new(proto::ListInvoicesResponse { invoices, next_add_index }))
}

/// A page of invoices in some states.
struct Scan {
    /// Exclusive; with `newest_first` from above, 0 for the newest.
    after: u64,
    newest_first: bool,
    limit: usize,
    /// Empty: all.
    wanted: Vec<InvoiceState>,
}

impl Scan {
    /// The page, and where the next one begins (0: there is none).
    fn run(&self, cell: &StateCell) -> Result<(Vec<FoundInvoice>, u64), ArchiveUnreadable> {
        let (mut page, mut last) = (Vec::new(), self.after);
        for _ in 0..SCAN_BATCHES_MAX {
            let batch = cell.list_invoices(self.batch_after(last))?;
            if batch.is_empty() {
                return Ok((page, 0));
            }
            let mut batch = batch.into_iter();
            for found in batch.by_ref() {
                last = found.invoice.add_index;
                if self.wanted.is_empty() || self.wanted.contains(&found.invoice.state) {
                    page.push(found);
                }
                if page.len() == self.limit {
                    break;
                }
            }
            if page.len() == self.limit {
                let more = batch.next().is_some() || !cell.list_invoices(self.batch_after(last))?.is_empty();
                return Ok((page, if more { last } else { 0 }));
            }
        }
        Ok((page, last))
    }

    fn batch_after(&self, last: u64) -> InvoicePage {
        let (first, last) = match (self.newest_first, last) {
            (true, 0) => (1, u64::MAX),
            (true, last) => (1, last.saturating_sub(1)),
            (false, last) => (last.saturating_add(1), u64::MAX),
        };
        let order = InvoiceOrder::Added;
        InvoicePage {
            order,
            first,
            last,
            newest_first: self.newest_first,
            limit: self.limit.max(SCAN_BATCH_MIN),
        }
    }
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

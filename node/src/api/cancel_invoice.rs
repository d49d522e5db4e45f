//! Cancelling an invoice, or only the set that is held for it.

use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use crate::invoice;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::Command;
use mux_raft::machine::command::CancelScope;
use mux_raft::machine::model::InvoiceKind;
use mux_raft::types::{PaymentHash, SetId};
use tonic::{Request, Response, Status};

/// `mux.v1.InvoiceService/CancelInvoice`
pub(super) async fn cancel_invoice(
    context: &Context,
    request: Request<proto::CancelInvoiceRequest>,
) -> Result<Response<proto::CancelInvoiceResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let command = if request.payment_request.is_empty() {
        let hash = payment_hash(&request.hash)?;
        let set_id = optional_set_id(&request.set_id)?;
        let scope = set_id.map_or(CancelScope::Invoice, |id| CancelScope::Set(Some(id)));
        Command::CancelInvoice { hash, scope }
    } else {
        unseen(context, &request)?
    };
    context.submit(command, fresh_request(), deadline).await?;
    Ok(Response::new(proto::CancelInvoiceResponse {}))
}

/// By the text of the invoice: works for a stateless one that nobody has paid yet.
fn unseen(context: &Context, request: &proto::CancelInvoiceRequest) -> Result<Command, ApiError> {
    let own = invoice::parse(&context.keys, context.config.network, request.payment_request.trim())
        .map_err(|error| ApiError::Invalid(error.to_string()))?;
    if !request.hash.is_empty() && payment_hash(&request.hash)? != own.hash {
        return Err(ApiError::Invalid("hash and payment_request are of different invoices".into()));
    }
    if !request.set_id.is_empty() {
        return Err(ApiError::Invalid("name a set by hash and set_id, without payment_request".into()));
    }
    let scope = match own.terms.kind {
        InvoiceKind::Stateless => CancelScope::Unseen { terms: own.terms, secret: own.secret },
        InvoiceKind::Stored | InvoiceKind::Hold => CancelScope::Invoice,
    };
    Ok(Command::CancelInvoice { hash: own.hash, scope })
}

/// The hash that names an invoice.
pub(super) fn payment_hash(bytes: &[u8]) -> Result<PaymentHash, ApiError> {
    PaymentHash::try_from(bytes).map_err(|error| ApiError::Invalid(format!("hash: {error}")))
}

/// The id that names a set, if there is one.
pub(super) fn optional_set_id(bytes: &[u8]) -> Result<Option<SetId>, ApiError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = SetId::try_from(bytes).map_err(|error| ApiError::Invalid(format!("set_id: {error}")))?;
    Ok(Some(id))
}

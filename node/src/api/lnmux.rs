//! `lnmux.Service`: the single-instance predecessor's API, for its applications.
//!
//! Where it had no word for what can happen here: PARTIAL is reported as FAILED, CancelInvoice cancels the
//! set and leaves the invoice payable, and with the cluster setting `auto_settle` there is nothing to settle
//! (UNAVAILABLE).

mod accepted;
mod decided;

use super::add_invoice::Wanted;
use super::cancel_invoice::payment_hash;
use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use super::view::bytes;
use crate::invoice::{self, InvoiceDescription};
use accepted::AcceptedStream;
use mux_proto::lnmux as proto;
use mux_proto::lnmux::service_server::Service;
use mux_raft::machine::Command;
use mux_raft::machine::command::CancelScope;
use mux_raft::types::SetId;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `lnmux.Service`
#[derive(Clone)]
pub struct LnmuxService(pub Arc<Context>);

#[tonic::async_trait]
impl Service for LnmuxService {
    type SubscribeInvoiceAcceptedStream = AcceptedStream;

    async fn get_info(
        &self,
        _request: Request<proto::GetInfoRequest>,
    ) -> Result<Response<proto::GetInfoResponse>, Status> {
        let context = &self.0;
        let info = context.read(|state| proto::GetInfoResponse {
            pub_key: bytes(&context.keys.node_pubkey().0),
            network: context.config.network.name().into(),
            nodes: state.front_nodes().map(|f| proto::NodeInfo { pub_key: bytes(&f.node.0) }).collect(),
            auto_settle: state.settings().auto_settle,
        });
        Ok(Response::new(info))
    }

    async fn add_invoice(
        &self,
        request: Request<proto::AddInvoiceRequest>,
    ) -> Result<Response<proto::AddInvoiceResponse>, Status> {
        let deadline = deadline(request.metadata());
        let wanted = wanted(request.into_inner())?;
        let made = self.0.make(&wanted, deadline).await?;
        let mut preimage = bytes::Bytes::new();
        if self.0.config.return_preimage {
            // The operator asked for it: the configuration tells the risk.
            let own = self.0.keys.secrets().preimage(&made.hash, &made.secret);
            preimage = own.map_or_else(Default::default, |own| bytes(&own.0));
        }
        Ok(Response::new(proto::AddInvoiceResponse {
            payment_request: made.payment_request,
            preimage,
            hash: bytes(&made.hash.0),
        }))
    }

    async fn subscribe_invoice_accepted(
        &self,
        _request: Request<proto::SubscribeInvoiceAcceptedRequest>,
    ) -> Result<Response<AcceptedStream>, Status> {
        accepted::subscribe(&self.0).await
    }

    async fn wait_for_invoice_final_status(
        &self,
        request: Request<proto::WaitForInvoiceFinalStatusRequest>,
    ) -> Result<Response<proto::WaitForInvoiceFinalStatusResponse>, Status> {
        decided::wait_for_final(&self.0, &request.into_inner()).await
    }

    async fn settle_invoice(
        &self,
        request: Request<proto::SettleInvoiceRequest>,
    ) -> Result<Response<proto::SettleInvoiceResponse>, Status> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let (hash, set_id) = (payment_hash(&request.hash)?, set_id(&request.set_id)?);
        if self.0.read(|state| state.settings().auto_settle) {
            let why = "the cluster settles by itself (auto_settle): there is nothing to settle by hand";
            return Err(ApiError::Unavailable(why.into()).into());
        }
        self.0.settle(hash, Some(set_id), None, deadline).await?;
        Ok(Response::new(proto::SettleInvoiceResponse {}))
    }

    async fn cancel_invoice(
        &self,
        request: Request<proto::CancelInvoiceRequest>,
    ) -> Result<Response<proto::CancelInvoiceResponse>, Status> {
        let deadline = deadline(request.metadata());
        let request = request.into_inner();
        let hash = payment_hash(&request.hash)?;
        let scope = CancelScope::Set(Some(set_id(&request.set_id)?));
        self.0.submit(Command::CancelInvoice { hash, scope }, fresh_request(), deadline).await?;
        Ok(Response::new(proto::CancelInvoiceResponse {}))
    }

    async fn list_invoices(
        &self,
        request: Request<proto::ListInvoicesRequest>,
    ) -> Result<Response<proto::ListInvoicesResponse>, Status> {
        decided::list(&self.0, &request.into_inner()).await
    }
}

fn wanted(request: proto::AddInvoiceRequest) -> Result<Wanted, ApiError> {
    let amount_msat =
        invoice::amount_msat(request.amt_msat).map_err(|error| ApiError::Invalid(error.to_string()))?;
    let description = match (request.description.is_empty(), request.description_hash.as_ref()) {
        (_, []) => InvoiceDescription::Plain(request.description),
        (true, hash) => InvoiceDescription::Hash(
            hash.try_into().map_err(|_| ApiError::Invalid("description_hash must have 32 bytes".into()))?,
        ),
        (false, _) => return Err(ApiError::Invalid("give description or description_hash".into())),
    };
    let expiry_secs = u64::try_from(request.expiry_secs)
        .map_err(|_| ApiError::Invalid(format!("expiry_secs is negative: {}", request.expiry_secs)))?;
    Ok(Wanted {
        amount_msat,
        description,
        expiry_secs,
        min_final_cltv: 0,
        stateless: false,
        idempotency_key: String::new(),
    })
}

fn set_id(bytes: &[u8]) -> Result<SetId, ApiError> {
    SetId::try_from(bytes).map_err(|error| ApiError::Invalid(format!("set_id: {error}")))
}

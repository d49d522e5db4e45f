//! `mux.v1` as tonic wants it: each method hands over to its file.

use super::backup::BackupStream;
use super::context::Context;
use super::events::EventStream;
use super::{
    add_invoice, backup, cancel_invoice, drain, events, front_nodes, htlcs, invoices, members, settings,
    settle_invoice, status,
};
use mux_proto::mux::v1 as proto;
use mux_proto::mux::v1::cluster_service_server::ClusterService;
use mux_proto::mux::v1::invoice_service_server::InvoiceService;
use mux_proto::mux::v1::{
    AcceptRestorationRequest, AcceptRestorationResponse, AddInvoiceRequest, AddInvoiceResponse,
    CancelInvoiceRequest, CancelInvoiceResponse, GetInvoiceRequest, GetInvoiceResponse, GetStatusRequest,
    GetStatusResponse, ListHtlcsRequest, ListHtlcsResponse, ListInvoicesRequest, ListInvoicesResponse,
    ResolveHtlcRequest, ResolveHtlcResponse, SaveBackupRequest, SettleInvoiceRequest, SettleInvoiceResponse,
    SubscribeEventsRequest, TransferLeaderRequest, TransferLeaderResponse, UpdateSettingsRequest,
    UpdateSettingsResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// `mux.v1.ClusterService`
#[derive(Clone)]
pub struct Cluster(pub Arc<Context>);

/// `mux.v1.InvoiceService`
#[derive(Clone)]
pub struct Invoices(pub Arc<Context>);

#[tonic::async_trait]
impl ClusterService for Cluster {
    type SaveBackupStream = BackupStream;

    async fn save_backup(
        &self,
        request: Request<SaveBackupRequest>,
    ) -> Result<Response<BackupStream>, Status> {
        backup::save_backup(&self.0, request.into_inner().without_quorum).await
    }

    async fn accept_restoration(
        &self,
        request: Request<AcceptRestorationRequest>,
    ) -> Result<Response<AcceptRestorationResponse>, Status> {
        backup::accept_restoration(&self.0, request).await
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(status::get_status(&self.0))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        status::transfer_leader(&self.0, request.into_inner()).await
    }

    async fn list_members(
        &self,
        _request: Request<proto::ListMembersRequest>,
    ) -> Result<Response<proto::ListMembersResponse>, Status> {
        members::list_members(&self.0).await
    }

    async fn add_member(
        &self,
        request: Request<proto::AddMemberRequest>,
    ) -> Result<Response<proto::AddMemberResponse>, Status> {
        members::add_member(&self.0, request).await
    }

    async fn promote_member(
        &self,
        request: Request<proto::PromoteMemberRequest>,
    ) -> Result<Response<proto::PromoteMemberResponse>, Status> {
        members::promote_member(&self.0, request.into_inner()).await
    }

    async fn remove_member(
        &self,
        request: Request<proto::RemoveMemberRequest>,
    ) -> Result<Response<proto::RemoveMemberResponse>, Status> {
        members::remove_member(&self.0, request.into_inner()).await
    }

    async fn drain(
        &self,
        request: Request<proto::DrainRequest>,
    ) -> Result<Response<proto::DrainResponse>, Status> {
        drain::drain(&self.0, request.into_inner()).await
    }

    async fn list_htlcs(
        &self,
        request: Request<ListHtlcsRequest>,
    ) -> Result<Response<ListHtlcsResponse>, Status> {
        htlcs::list_htlcs(&self.0, request.into_inner()).await
    }

    async fn resolve_htlc(
        &self,
        request: Request<ResolveHtlcRequest>,
    ) -> Result<Response<ResolveHtlcResponse>, Status> {
        htlcs::resolve_htlc(&self.0, request).await
    }

    async fn update_settings(
        &self,
        request: Request<UpdateSettingsRequest>,
    ) -> Result<Response<UpdateSettingsResponse>, Status> {
        settings::update_settings(&self.0, request).await
    }

    async fn list_front_nodes(
        &self,
        _request: Request<proto::ListFrontNodesRequest>,
    ) -> Result<Response<proto::ListFrontNodesResponse>, Status> {
        Ok(front_nodes::list_front_nodes(&self.0))
    }

    async fn add_front_node(
        &self,
        request: Request<proto::AddFrontNodeRequest>,
    ) -> Result<Response<proto::AddFrontNodeResponse>, Status> {
        front_nodes::add_front_node(&self.0, request).await
    }

    async fn set_front_node_mode(
        &self,
        request: Request<proto::SetFrontNodeModeRequest>,
    ) -> Result<Response<proto::SetFrontNodeModeResponse>, Status> {
        front_nodes::set_front_node_mode(&self.0, request).await
    }

    async fn remove_front_node(
        &self,
        request: Request<proto::RemoveFrontNodeRequest>,
    ) -> Result<Response<proto::RemoveFrontNodeResponse>, Status> {
        front_nodes::remove_front_node(&self.0, request).await
    }
}

#[tonic::async_trait]
impl InvoiceService for Invoices {
    type SubscribeEventsStream = EventStream;

    async fn add_invoice(
        &self,
        request: Request<AddInvoiceRequest>,
    ) -> Result<Response<AddInvoiceResponse>, Status> {
        add_invoice::add_invoice(&self.0, request).await
    }

    async fn get_invoice(
        &self,
        request: Request<GetInvoiceRequest>,
    ) -> Result<Response<GetInvoiceResponse>, Status> {
        invoices::get_invoice(&self.0, request.into_inner()).await
    }

    async fn list_invoices(
        &self,
        request: Request<ListInvoicesRequest>,
    ) -> Result<Response<ListInvoicesResponse>, Status> {
        invoices::list_invoices(&self.0, request.into_inner()).await
    }

    async fn subscribe_events(
        &self,
        request: Request<SubscribeEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        events::subscribe_events(&self.0, request).await
    }

    async fn settle_invoice(
        &self,
        request: Request<SettleInvoiceRequest>,
    ) -> Result<Response<SettleInvoiceResponse>, Status> {
        settle_invoice::settle_invoice(&self.0, request).await
    }

    async fn cancel_invoice(
        &self,
        request: Request<CancelInvoiceRequest>,
    ) -> Result<Response<CancelInvoiceResponse>, Status> {
        cancel_invoice::cancel_invoice(&self.0, request).await
    }
}

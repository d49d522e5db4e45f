use std::sync::Arc;

use futures::StreamExt as _;
use mux_proto::lnrpc::{
    ChanInfoRequest, ChannelCloseUpdate, ChannelEdge, ChannelEventSubscription, ChannelEventUpdate,
    CloseChannelRequest, CloseStatusUpdate, ClosedChannelsRequest, ClosedChannelsResponse, GetInfoRequest,
    GetInfoResponse, ListChannelsRequest, ListChannelsResponse, LookupHtlcResolutionRequest,
    LookupHtlcResolutionResponse, PendingChannelsRequest, PendingChannelsResponse, PendingUpdate,
    close_status_update::Update, lightning_server::Lightning,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    super::core::{Input, NoResolution, Reply},
    guard,
    lazy::{Messages, lazy},
    node::Node,
};

/// A closing has two messages.
const CLOSE_CAPACITY: usize = 2;

/// `lnrpc.Lightning`.
pub(super) struct LightningService {
    pub(super) node: Arc<Node>,
}

#[tonic::async_trait]
impl Lightning for LightningService {
    type SubscribeChannelEventsStream = Messages<ChannelEventUpdate>;
    type CloseChannelStream = Messages<CloseStatusUpdate>;

    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/GetInfo")?;
        Ok(Response::new(self.node.read(|core| core.get_info())))
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/ListChannels")?;
        Ok(Response::new(self.node.read(|core| core.list_channels(request.get_ref()))))
    }

    async fn get_chan_info(
        &self,
        request: Request<ChanInfoRequest>,
    ) -> Result<Response<ChannelEdge>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/GetChanInfo")?;
        let edge = self.node.read(|core| core.get_chan_info(request.get_ref()));
        edge.map(Response::new).ok_or_else(|| Status::not_found("edge not found"))
    }

    async fn subscribe_channel_events(
        &self,
        request: Request<ChannelEventSubscription>,
    ) -> Result<Response<Self::SubscribeChannelEventsStream>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/SubscribeChannelEvents")?;
        let events = BroadcastStream::new(self.node.channel_events.subscribe());
        lazy(Box::pin(events.map(|event| event.map_err(|_| Status::unknown("subscriber too slow"))))).await
    }

    async fn lookup_htlc_resolution(
        &self,
        request: Request<LookupHtlcResolutionRequest>,
    ) -> Result<Response<LookupHtlcResolutionResponse>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/LookupHtlcResolution")?;
        let found = self.node.read(|core| core.lookup_resolution(*request.get_ref()));
        found.map(Response::new).map_err(|missing| match missing {
            NoResolution::NotStored => Status::unavailable(missing.to_string()),
            NoResolution::Unknown => Status::not_found(missing.to_string()),
        })
    }

    async fn pending_channels(
        &self,
        request: Request<PendingChannelsRequest>,
    ) -> Result<Response<PendingChannelsResponse>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/PendingChannels")?;
        Ok(Response::new(self.node.read(|core| core.pending_channels())))
    }

    async fn closed_channels(
        &self,
        request: Request<ClosedChannelsRequest>,
    ) -> Result<Response<ClosedChannelsResponse>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/ClosedChannels")?;
        Ok(Response::new(self.node.read(|core| core.closed_channels(*request.get_ref()))))
    }

    async fn close_channel(
        &self,
        request: Request<CloseChannelRequest>,
    ) -> Result<Response<Self::CloseChannelStream>, Status> {
        guard::check(&self.node, &request, "/lnrpc.Lightning/CloseChannel")?;
        let reply = self.node.apply(Input::CloseChannel(request.into_inner()));
        let reply = reply.map_err(|rejected| Status::unknown(rejected.to_string()))?;
        let Reply::Closing(chan_id, txid) = reply else {
            return Err(Status::internal("unexpected reply"));
        };
        let (sender, receiver) = mpsc::channel(CLOSE_CAPACITY);
        tokio::spawn(follow_close(Arc::clone(&self.node), chan_id, txid, sender));
        lazy(Box::pin(ReceiverStream::new(receiver))).await
    }
}

/// Announces the closing transaction, and again when it is confirmed.
async fn follow_close(
    node: Arc<Node>,
    chan_id: u64,
    txid: [u8; 32],
    sender: mpsc::Sender<Result<CloseStatusUpdate, Status>>,
) {
    let pending = PendingUpdate { txid: txid.to_vec().into(), output_index: 0 };
    let closed = ChannelCloseUpdate { closing_txid: txid.to_vec().into(), success: true };
    let mut changed = node.changed.subscribe();
    let message = |update| Ok(CloseStatusUpdate { update: Some(update) });
    if sender.send(message(Update::ClosePending(pending))).await.is_err() {
        return;
    }
    while !node.read(|core| core.is_close_confirmed(chan_id)) {
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            () = sender.closed() => return,
        }
    }
    drop(sender.send(message(Update::ChanClose(closed))).await);
}

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use mux_proto::routerrpc::{
    ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, HtlcEvent, SubscribeHtlcEventsRequest,
    SubscribedEvent, htlc_event, router_server::Router,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    conn::ConnId,
    guard, interceptor,
    lazy::{Messages, lazy},
    node::Node,
};

/// Offers between the core and the connection; with HTTP/2's window this is all that a client which does
/// not read leaves to LND.
const BODY_CAPACITY: usize = 1;

/// `routerrpc.Router`.
pub(super) struct RouterService {
    pub(super) node: Arc<Node>,
}

#[tonic::async_trait]
impl Router for RouterService {
    type HtlcInterceptorStream = Messages<ForwardHtlcInterceptRequest>;
    type SubscribeHtlcEventsStream = Messages<HtlcEvent>;

    async fn htlc_interceptor(
        &self,
        request: Request<Streaming<ForwardHtlcInterceptResponse>>,
    ) -> Result<Response<Self::HtlcInterceptorStream>, Status> {
        guard::check(&self.node, &request, "/routerrpc.Router/HtlcInterceptor")?;
        let conn = request.extensions().get::<ConnId>().copied();
        let port = self.node.open_stream(conn).map_err(|refused| Status::unknown(refused.to_string()))?;
        let (sender, receiver) = mpsc::channel(BODY_CAPACITY);
        tokio::spawn(interceptor::run(Arc::clone(&self.node), port, request.into_inner(), sender));
        lazy(Box::pin(ReceiverStream::new(receiver))).await
    }

    async fn subscribe_htlc_events(
        &self,
        request: Request<SubscribeHtlcEventsRequest>,
    ) -> Result<Response<Self::SubscribeHtlcEventsStream>, Status> {
        guard::check(&self.node, &request, "/routerrpc.Router/SubscribeHtlcEvents")?;
        let events = BroadcastStream::new(self.node.htlc_events.subscribe());
        let first = HtlcEvent {
            timestamp_ns: self.node.now_ms().saturating_mul(1_000_000),
            event: Some(htlc_event::Event::SubscribedEvent(SubscribedEvent {})),
            ..HtlcEvent::default()
        };
        let events = events.map(|event| event.map_err(|_| Status::unknown("subscriber too slow")));
        lazy(Box::pin(stream::once(async { Ok(first) }).chain(events))).await
    }
}

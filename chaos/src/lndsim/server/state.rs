use std::sync::Arc;

use futures::StreamExt as _;
use mux_proto::lnrpc::{
    GetStateRequest, GetStateResponse, SubscribeStateRequest, SubscribeStateResponse, state_server::State,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::{
    lazy::{Messages, lazy},
    node::Node,
};

/// `lnrpc.State`: no macaroon, in every state.
pub(super) struct StateService {
    pub(super) node: Arc<Node>,
}

#[tonic::async_trait]
impl State for StateService {
    type SubscribeStateStream = Messages<SubscribeStateResponse>;

    async fn get_state(
        &self,
        _request: Request<GetStateRequest>,
    ) -> Result<Response<GetStateResponse>, Status> {
        let state = *self.node.wallet.borrow();
        Ok(Response::new(GetStateResponse { state: state.into() }))
    }

    async fn subscribe_state(
        &self,
        _request: Request<SubscribeStateRequest>,
    ) -> Result<Response<Self::SubscribeStateStream>, Status> {
        let states = WatchStream::new(self.node.wallet.subscribe());
        lazy(Box::pin(states.map(|state| Ok(SubscribeStateResponse { state: state.into() })))).await
    }
}

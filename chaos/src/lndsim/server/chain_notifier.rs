use std::sync::Arc;

use futures::{StreamExt as _, stream};
use mux_proto::{
    chainrpc::{BlockEpoch, chain_notifier_server::ChainNotifier},
    lndsim::v1::Power,
};
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::{
    guard,
    lazy::{Messages, lazy},
    node::Node,
};

/// `chainrpc.ChainNotifier`.
pub(super) struct ChainNotifierService {
    pub(super) node: Arc<Node>,
}

#[tonic::async_trait]
impl ChainNotifier for ChainNotifierService {
    type RegisterBlockEpochNtfnStream = Messages<BlockEpoch>;

    async fn register_block_epoch_ntfn(
        &self,
        request: Request<BlockEpoch>,
    ) -> Result<Response<Self::RegisterBlockEpochNtfnStream>, Status> {
        guard::check(&self.node, &request, "/chainrpc.ChainNotifier/RegisterBlockEpochNtfn")?;
        if self.node.read(|core| core.power()) != Power::ServerActive {
            let text = "chain notifier RPC is still in the process of starting";
            return Err(Status::unavailable(text));
        }
        let known = request.into_inner();
        let (blocks, backlog) = self.node.watch_blocks(|core| {
            if known.hash.is_empty() { vec![core.tip_epoch()] } else { core.epochs_above(known.height) }
        });
        let blocks = BroadcastStream::new(blocks)
            .map(|epoch| epoch.map_err(|_| Status::unknown("subscriber too slow")));
        lazy(Box::pin(stream::iter(backlog.into_iter().map(Ok)).chain(blocks))).await
    }
}

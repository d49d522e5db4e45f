use std::sync::Arc;

use mux_proto::lndsim::v1::{self as ctl, control_server::Control};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    super::core::{Command, Core, HtlcKey, Input, Rejected, Reply},
    lazy::Messages,
    load,
    node::Node,
};

/// Outcomes on their way to a subscriber.
const OUTCOME_CAPACITY: usize = 256;

/// `lndsim.v1.Control`.
pub(super) struct ControlService {
    pub(super) node: Arc<Node>,
}

type Answer<T> = Result<Response<T>, Status>;

impl ControlService {
    #[allow(clippy::result_large_err)] // tonic's own error type
    fn run(&self, command: Command) -> Result<Reply, Status> {
        self.node.apply(Input::Command(Box::new(command))).map_err(|rejected| {
            let text = rejected.to_string();
            match rejected {
                Rejected::NotFound(_) => Status::not_found(text),
                Rejected::Invalid(_) => Status::invalid_argument(text),
                Rejected::Precondition(_) | Rejected::SlotTaken => Status::failed_precondition(text),
                Rejected::Exhausted(_) => Status::resource_exhausted(text),
            }
        })
    }

    #[allow(clippy::result_large_err)] // tonic's own error type
    fn done(&self, command: Command) -> Answer<ctl::Empty> {
        self.run(command).map(|_| Response::new(ctl::Empty {}))
    }

    #[allow(clippy::result_large_err)] // tonic's own error type
    fn chain(&self, command: Command) -> Answer<ctl::ChainView> {
        match self.run(command)? {
            Reply::Chain(view) => Ok(Response::new(view)),
            _ => Err(Status::internal("unexpected reply")),
        }
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type StreamLedgerStream = Messages<ctl::HtlcEntry>;
    type SubscribeOutcomesStream = Messages<ctl::Outcome>;
    type OfferBatchesStream = Messages<ctl::VerdictBatch>;

    async fn get_state(&self, _request: Request<ctl::GetStateRequest>) -> Answer<ctl::GetStateResponse> {
        Ok(Response::new(self.node.read(|core| core.state())))
    }

    async fn get_ledger(&self, _request: Request<ctl::GetLedgerRequest>) -> Answer<ctl::GetLedgerResponse> {
        Ok(Response::new(self.node.read(|core| core.ledger())))
    }

    async fn stream_ledger(
        &self,
        request: Request<ctl::StreamLedgerRequest>,
    ) -> Answer<Self::StreamLedgerStream> {
        let skip = usize::try_from(request.into_inner().skip).unwrap_or(usize::MAX);
        let keys = self.node.read(Core::htlc_keys).into_iter().skip(skip);
        let node = Arc::clone(&self.node);
        let entries = keys.filter_map(move |key| node.read(|core| core.htlc(key)).map(Ok));
        Ok(Response::new(Box::pin(tokio_stream::iter(entries))))
    }

    async fn add_htlc(&self, request: Request<ctl::AddHtlcRequest>) -> Answer<ctl::AddHtlcResponse> {
        match self.run(Command::AddHtlc(request.into_inner()))? {
            Reply::Added(key) => {
                Ok(Response::new(ctl::AddHtlcResponse { chan_id: key.chan_id, htlc_id: key.htlc_id }))
            }
            _ => Err(Status::internal("unexpected reply")),
        }
    }

    async fn offer_batches(
        &self,
        request: Request<Streaming<ctl::HtlcBatch>>,
    ) -> Answer<Self::OfferBatchesStream> {
        Ok(Response::new(load::serve(Arc::clone(&self.node), request.into_inner())))
    }

    async fn get_htlc(&self, request: Request<ctl::GetHtlcRequest>) -> Answer<ctl::HtlcEntry> {
        let request = request.into_inner();
        let key = HtlcKey { chan_id: request.chan_id, htlc_id: request.htlc_id };
        let entry = self.node.read(|core| core.htlc(key));
        entry.map(Response::new).ok_or_else(|| Status::not_found(format!("no HTLC {key}")))
    }

    async fn subscribe_outcomes(
        &self,
        request: Request<ctl::SubscribeOutcomesRequest>,
    ) -> Answer<Self::SubscribeOutcomesStream> {
        let (sender, receiver) = mpsc::channel(OUTCOME_CAPACITY);
        let from = request.into_inner().from_seq.max(1);
        tokio::spawn(follow_outcomes(Arc::clone(&self.node), from, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn fail_htlc(&self, request: Request<ctl::FailHtlcRequest>) -> Answer<ctl::Empty> {
        self.done(Command::FailHtlc(request.into_inner()))
    }

    async fn open_channel(
        &self,
        request: Request<ctl::OpenChannelRequest>,
    ) -> Answer<ctl::OpenChannelResponse> {
        match self.run(Command::OpenChannel(request.into_inner()))? {
            Reply::Opened(chan_id, channel_point) => {
                Ok(Response::new(ctl::OpenChannelResponse { chan_id, channel_point }))
            }
            _ => Err(Status::internal("unexpected reply")),
        }
    }

    async fn peer_disconnect(&self, request: Request<ctl::ChannelRef>) -> Answer<ctl::Empty> {
        self.done(Command::PeerDisconnect(request.into_inner()))
    }

    async fn peer_reconnect(&self, request: Request<ctl::ChannelRef>) -> Answer<ctl::Empty> {
        self.done(Command::PeerReconnect(request.into_inner()))
    }

    async fn peer_flap(&self, request: Request<ctl::ChannelRef>) -> Answer<ctl::Empty> {
        self.done(Command::PeerFlap(request.into_inner()))
    }

    async fn force_close(&self, request: Request<ctl::ForceCloseRequest>) -> Answer<ctl::Empty> {
        self.done(Command::ForceClose(request.into_inner()))
    }

    async fn set_stage_limit(&self, request: Request<ctl::SetStageLimitRequest>) -> Answer<ctl::Empty> {
        self.done(Command::SetStageLimit(request.into_inner()))
    }

    async fn stop_signing(&self, request: Request<ctl::StopSigningRequest>) -> Answer<ctl::Empty> {
        self.done(Command::StopSigning(request.into_inner()))
    }

    async fn set_downstream(&self, request: Request<ctl::SetDownstreamRequest>) -> Answer<ctl::Empty> {
        self.done(Command::SetDownstream(request.into_inner()))
    }

    async fn mine_blocks(&self, request: Request<ctl::MineBlocksRequest>) -> Answer<ctl::ChainView> {
        self.chain(Command::MineBlocks(request.into_inner()))
    }

    async fn set_height(&self, request: Request<ctl::SetHeightRequest>) -> Answer<ctl::ChainView> {
        self.chain(Command::SetHeight(request.into_inner()))
    }

    async fn reorg(&self, request: Request<ctl::ReorgRequest>) -> Answer<ctl::ChainView> {
        self.chain(Command::Reorg(request.into_inner()))
    }

    async fn set_chain_view(&self, request: Request<ctl::SetChainViewRequest>) -> Answer<ctl::ChainView> {
        self.chain(Command::SetChainView(request.into_inner()))
    }

    async fn set_flags(&self, request: Request<ctl::SetFlagsRequest>) -> Answer<ctl::Empty> {
        self.done(Command::SetFlags(request.into_inner()))
    }

    async fn set_wallet_state(&self, request: Request<ctl::SetWalletStateRequest>) -> Answer<ctl::Empty> {
        self.done(Command::SetWalletState(request.into_inner()))
    }

    async fn restart(&self, request: Request<ctl::RestartRequest>) -> Answer<ctl::Empty> {
        self.done(Command::Restart(request.into_inner()))
    }

    async fn cut_streams(&self, request: Request<ctl::CutStreamsRequest>) -> Answer<ctl::Empty> {
        self.done(Command::CutStreams(request.into_inner()))
    }

    async fn freeze_reads(&self, request: Request<ctl::FreezeReadsRequest>) -> Answer<ctl::Empty> {
        self.done(Command::FreezeReads(request.into_inner()))
    }

    async fn drop_final_events(&self, request: Request<ctl::DropFinalEventsRequest>) -> Answer<ctl::Empty> {
        self.done(Command::DropFinalEvents(request.into_inner()))
    }

    async fn rotate_tls_cert(&self, _request: Request<ctl::RotateTlsCertRequest>) -> Answer<ctl::Empty> {
        self.done(Command::RotateTlsCert)
    }
}

/// Sends every outcome once, in order, for as long as somebody listens.
async fn follow_outcomes(node: Arc<Node>, from: u64, sender: mpsc::Sender<Result<ctl::Outcome, Status>>) {
    let mut changed = node.changed.subscribe();
    let mut next = from;
    loop {
        let batch = node.read(|core| core.outcomes_from(next, OUTCOME_CAPACITY));
        let empty = batch.is_empty();
        for outcome in batch {
            next = outcome.seq.saturating_add(1);
            if sender.send(Ok(outcome)).await.is_err() {
                return;
            }
        }
        if empty {
            tokio::select! {
                result = changed.changed() => if result.is_err() { return },
                () = sender.closed() => return,
                () = node.stop.cancelled() => return,
            }
        }
    }
}

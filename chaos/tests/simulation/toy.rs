//! A small service with the replicas' generated code: a unary call, one that never ends, a stream in both directions.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use mux_chaos::sim::host::HostClock;
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::raft_transport_server::{RaftTransport, RaftTransportServer};
use parking_lot::Mutex;
use std::sync::Arc;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// What the service saw, with the time in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Toy {
    pub(crate) seen: Seen,
    pub(crate) clock: HostClock,
}

impl Toy {
    fn saw(&self, text: &str) {
        self.seen.0.lock().push(format!("{}: {text}", self.clock.now().as_ms()));
    }
}

/// Says so when it is dropped. Not with the time: its process may be dead.
struct Dropped(Seen);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.0.lock().push("dropped".into());
    }
}

pub(crate) fn routes(toy: Toy) -> Routes {
    Routes::new(RaftTransportServer::new(toy))
}

pub(crate) fn vote(number: u64) -> pb::VoteRequest {
    let vote = pb::Vote { term: number, ..pb::Vote::default() };
    pb::VoteRequest { vote: Some(vote), ..pb::VoteRequest::default() }
}

pub(crate) fn append(number: u64, bytes: usize) -> pb::AppendRequest {
    let entries = vec![vec![7; bytes].into()];
    pb::AppendRequest { prev_log_id: Some(log_id(number)), entries, ..pb::AppendRequest::default() }
}

fn log_id(index: u64) -> pb::LogId {
    pb::LogId { term: 1, index }
}

#[tonic::async_trait]
impl RaftTransport for Toy {
    type StreamAppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;

    /// Echoes the numbers of the messages.
    async fn stream_append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let this = self.clone();
        let dropped = Dropped(self.seen.clone());
        let answers = request.into_inner().map(move |message| {
            let _alive = &dropped;
            let number = message?.prev_log_id.unwrap_or_default().index;
            this.saw(&format!("append {number}"));
            Ok(pb::AppendResponse { matching: Some(log_id(number)), result: None })
        });
        Ok(Response::new(answers.boxed()))
    }

    /// Not asked for.
    async fn append(&self, _: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        Err(Status::invalid_argument("not asked for"))
    }

    /// Echoes the vote.
    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let vote = request.into_inner().vote;
        self.saw(&format!("vote {}", vote.unwrap_or_default().term));
        Ok(Response::new(pb::VoteResponse { vote, ..pb::VoteResponse::default() }))
    }

    /// Answers after a second.
    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        self.vote(request).await
    }

    /// Never answers.
    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let _dropped = Dropped(self.seen.clone());
        self.saw("transfer");
        futures::future::pending().await
    }

    /// Takes the first part and no more.
    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let mut chunks = request.into_inner();
        chunks.message().await?;
        self.saw("first part");
        futures::future::pending().await
    }
}

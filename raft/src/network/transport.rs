use super::archive_fetch::ArchiveFetch;
use super::clearance::Clearance;
use super::guard::{Caller, Guard};
use super::incoming_snapshot::IncomingSnapshot;
use crate::blocking::{Blocking, Work};
use crate::codec::{CodecError, wire};
use crate::fault;
use crate::replica::latch::Latch;
use crate::replica::raft::{Raft, Snapshot, TypeConfig};
use crate::snapshot::{SnapshotDirectory, SnapshotError};
use crate::types::ReplicaId;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::raft_transport_server::RaftTransport;
use openraft::raft::{AppendEntriesRequest, StreamAppendError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

/// Who is remembered of those that were turned away.
const CALLERS_MAX: usize = 16;

/// When the leader was last heard from, and who led or wanted to when this replica could not take part yet.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    last: Mutex<Option<(ReplicaId, Instant)>>,
    turned_away: Mutex<BTreeMap<ReplicaId, String>>,
}

impl Heard {
    fn from(&self, leader: ReplicaId) {
        *self.last.lock() = Some((leader, Instant::now()));
    }

    /// Whether this replica spoke as leader within this time.
    pub(crate) fn within(&self, leader: ReplicaId, time: Duration) -> bool {
        self.last.lock().is_some_and(|(who, when)| who == leader && when.elapsed() <= time)
    }

    fn turned_away(&self, header: Option<&pb::Header>) {
        let Some(header) = header.filter(|header| !header.source_address.is_empty()) else { return };
        let mut callers = self.turned_away.lock();
        if callers.len() < CALLERS_MAX || callers.contains_key(&header.source) {
            callers.insert(header.source, header.source_address.clone());
        }
    }

    /// Who led, or wanted to, when this replica could not take part yet, and where they are reached: members, perhaps, that
    /// joined while it was away.
    pub(crate) fn callers(&self) -> BTreeMap<ReplicaId, String> {
        self.turned_away.lock().clone()
    }
}

/// Raft's service.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) raft: Raft,
    pub(crate) guard: Guard,
    pub(crate) snapshots: SnapshotDirectory,
    pub(crate) blocking: Blocking,
    pub(crate) archives: ArchiveFetch,
    pub(crate) heard: Arc<Heard>,
    pub(crate) clearance: Clearance,
    pub(crate) latch: Latch,
}

/// The receiving end of a replication stream: hands requests to openraft, and keeps why it ended.
struct Requests {
    messages: Streaming<pb::AppendRequest>,
    first: Option<AppendEntriesRequest<TypeConfig>>,
    source: ReplicaId,
    transport: Transport,
    ended_by: Arc<Mutex<Option<Status>>>,
}

impl Requests {
    async fn next(&mut self) -> Option<AppendEntriesRequest<TypeConfig>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let next = async {
            let Some(message) = self.messages.message().await? else { return Ok(None) };
            self.transport.guard.check_link(self.source)?;
            wire::append_from_pb(message).map(Some).map_err(malformed)
        };
        match next.await {
            Ok(request) => request,
            Err(status) => {
                *self.ended_by.lock() = Some(status);
                None
            }
        }
    }

    fn into_stream(self) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
        futures::stream::unfold(self, |mut this| async move { this.next().await.map(|item| (item, this)) })
    }
}

fn malformed(error: CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A snapshot that is not what its sender made. Nothing was changed here, and it is sent again.
fn refused(source: ReplicaId, error: SnapshotError) -> Status {
    let reason = match error {
        SnapshotError::Damaged { reason, .. } => reason,
        other => other.to_string(),
    };
    tracing::error!(
        source,
        reason,
        "a received snapshot is refused; it was damaged on its way, or at its sender"
    );
    metrics::counter!("mux_snapshots_refused_total").increment(1);
    Status::data_loss(format!("the snapshot is refused: {reason}"))
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this replica has stopped: {error}"))
}

impl Transport {
    /// Who sends entries, if they may be taken.
    fn check_append(&self, header: Option<&pb::Header>, caller: &Caller) -> Result<ReplicaId, Status> {
        let source = self.guard.check(header, caller)?;
        self.clearance.check_append().inspect_err(|_| self.heard.turned_away(header))?;
        Ok(source)
    }

    /// Who calls an election, if this replica may take part in it.
    fn check_vote(&self, header: Option<&pb::Header>, caller: &Caller) -> Result<(), Status> {
        self.guard.check(header, caller)?;
        self.clearance.check_vote().inspect_err(|_| self.heard.turned_away(header))
    }
}

#[tonic::async_trait]
impl RaftTransport for Transport {
    type StreamAppendStream = BoxStream<'static, Result<pb::AppendResponse, Status>>;

    async fn stream_append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        let caller = self.guard.caller(&request);
        let transport = self.clone();
        // Headers go out at once; the first message may come later.
        let answers = async_stream(transport, caller, request.into_inner());
        Ok(Response::new(answers.boxed()))
    }

    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        let source = self.check_append(message.header.as_ref(), &caller)?;
        let request = wire::append_from_pb(message).map_err(malformed)?;
        let (prev, last) =
            (request.prev_log_id, request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        let result = wire::unary_result(response, prev, last).map_err(malformed)?;
        if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
            self.heard.from(source);
        }
        Ok(Response::new(wire::appended_to_pb(result)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        self.check_vote(message.header.as_ref(), &caller)?;
        let request = wire::vote_request_from_pb(message).map_err(malformed)?;
        let response = self.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::voted_to_pb(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        self.check_vote(message.header.as_ref(), &caller)?;
        let request = wire::vote_request_from_pb(message).map_err(malformed)?;
        let response = self.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(wire::voted_to_pb(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        self.check_vote(message.header.as_ref(), &caller)?;
        let request = wire::transfer_from_pb(message).map_err(malformed)?;
        let response = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        Ok(Response::new(wire::transferred_to_pb(response)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let caller = self.guard.caller(&request);
        let mut chunks = request.into_inner();
        let first =
            chunks.message().await?.ok_or_else(|| Status::invalid_argument("the snapshot is empty"))?;
        let source = self.check_append(first.header.as_ref(), &caller)?;
        let sender = first.header.as_ref().map(|header| header.source_address.clone());
        let vote = wire::vote_from_pb(first.vote).map_err(malformed)?;
        let mut incoming =
            IncomingSnapshot::create(&self.snapshots, self.blocking.clone(), self.latch.clone()).await?;
        let snapshot = incoming.receive(first, &mut chunks).await?;
        let (file, cluster_id) = (snapshot.clone(), *self.snapshots.cluster_id());
        let verified = self.blocking.run(Work::Snapshot, move || file.verify(&cluster_id));
        let (meta, tip) = verified
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| refused(source, error))?;
        fault::point("install.received");
        tracing::info!(last = ?meta.last_log_id, from = source, "received a snapshot");
        let members = meta.last_membership.membership();
        let address = |id: ReplicaId| members.get_node(&id).map(|node| (id, node.addr.clone()));
        // The snapshot may be older than the sender's membership, and all whom it names may be gone.
        let sender = sender.filter(|address| !address.is_empty()).map(|address| (source, address));
        let others = members.nodes().map(|(id, _)| *id).filter(|id| *id != source).filter_map(address);
        let sources = sender.or_else(|| address(source)).into_iter().chain(others);
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.archives.complete(index, tip, sources.collect::<Vec<_>>()).await?;
        fault::point("fetch.complete");
        incoming.taken();
        let response =
            self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await.map_err(stopped)?;
        self.heard.from(source);
        Ok(Response::new(pb::SnapshotResponse { vote: Some(wire::vote_to_pb(&response.vote)) }))
    }
}

/// Answers to a replication stream, in order; the last one is a failure, or says why the stream ended.
fn async_stream(
    transport: Transport,
    caller: Caller,
    mut messages: Streaming<pb::AppendRequest>,
) -> impl Stream<Item = Result<pb::AppendResponse, Status>> + Send + 'static {
    let start = async move {
        let Some(first) = messages.message().await? else { return Ok(None) };
        let source = transport.check_append(first.header.as_ref(), &caller)?;
        let first = Some(wire::append_from_pb(first).map_err(malformed)?);
        let ended_by = Arc::new(Mutex::new(None));
        let (raft, heard) = (transport.raft.clone(), Arc::clone(&transport.heard));
        let requests = Requests { messages, first, source, transport, ended_by: Arc::clone(&ended_by) };
        let answers = raft.stream_append(requests.into_stream()).map(move |answer| match answer {
            Ok(result) => {
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    heard.from(source);
                }
                Ok(wire::appended_to_pb(result))
            }
            Err(fatal) => Err(stopped(fatal)),
        });
        let end = futures::stream::once(async move { ended_by.lock().take() })
            .filter_map(|status| std::future::ready(status.map(Err)));
        Ok::<_, Status>(Some(answers.chain(end).boxed()))
    };
    futures::stream::once(start).flat_map(|started| match started {
        Ok(Some(answers)) => answers,
        Ok(None) => futures::stream::empty().boxed(),
        Err(status) => futures::stream::once(std::future::ready(Err(status))).boxed(),
    })
}

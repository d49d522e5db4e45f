use super::MESSAGE_BYTES_MAX;
use super::append_stream::AppendStream;
use super::net::{Lane, PeerChannel};
use super::peers::Peers;
use crate::blocking::Work;
use crate::codec::{CodecError, wire};
use crate::replica::raft::{Snapshot, TypeConfig, Vote};
use crate::snapshot::SnapshotFile;
use crate::types::ReplicaId;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkV2};
use std::future::Future;
use std::time::Duration;
use tonic::{Code, Status};

/// A part of a snapshot in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// Between two tries to open the append stream to a peer that cannot be reached. Short: a peer that comes back
/// should hear from its leader within a heartbeat or two.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

type Error = RPCError<TypeConfig>;

/// One peer, as openraft calls it.
#[derive(Debug)]
pub(crate) struct PeerClient {
    peers: Peers,
    target: ReplicaId,
    address: String,
    lane: Lane,
    heartbeats: bool,
}

impl PeerClient {
    pub(super) fn new(peers: Peers, target: ReplicaId, address: String, lane: Lane) -> Self {
        Self { peers, target, address, lane, heartbeats: false }
    }

    /// Sends single requests only: a heartbeat needs no pipeline.
    pub(super) fn for_heartbeats(self) -> Self {
        Self { heartbeats: true, ..self }
    }

    fn client(&self) -> Result<RaftTransportClient<PeerChannel>, Status> {
        self.peers.check_link(self.target)?;
        let channel = self.peers.channel(self.target, &self.address, self.lane)?;
        Ok(RaftTransportClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Makes one call within a deadline.
    async fn call<T>(
        &self,
        action: RPCTypes,
        deadline: Duration,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => {
                self.peers.reached(self.target);
                Ok(answer)
            }
            Ok(Err(status)) => Err(self.failed(action, &status)),
            Err(_) => Err(self.timed_out(action, deadline)),
        }
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> Error {
        Timeout { action, id: self.peers.id(), target: self.target, timeout }.into()
    }

    fn failed(&self, action: RPCTypes, status: &Status) -> Error {
        let text = format!("{action} to replica {}: {}", self.target, status.message());
        self.peers.stores().heed(self.target, status);
        match status.code() {
            Code::PermissionDenied | Code::FailedPrecondition | Code::AlreadyExists => {
                tracing::warn!(replica = self.target, reason = status.message(), "refused by a peer");
                Unreachable::from_string(text).into()
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled => {
                self.peers.not_reached(self.target, &self.address, status);
                Unreachable::from_string(text).into()
            }
            _ => NetworkError::from_string(text).into(),
        }
    }

    fn malformed(&self, error: &CodecError) -> Error {
        NetworkError::from_string(format!("replica {}: {error}", self.target)).into()
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: SnapshotFile,
    ) -> Result<pb::SnapshotResponse, Status> {
        let mut client = self.client()?;
        let read = self.peers.blocking().run(Work::Snapshot, move || snapshot.read_all());
        let bytes = read
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::internal(error.to_string()))?;
        let bytes = Bytes::from(bytes);
        let count = bytes.len().div_ceil(CHUNK_BYTES).max(1);
        let (header, vote) = (self.peers.header(self.target), wire::vote_to_pb(&vote));
        let chunks = (0..count).map(move |number| {
            let start = number.saturating_mul(CHUNK_BYTES).min(bytes.len());
            let data = bytes.slice(start..start.saturating_add(CHUNK_BYTES).min(bytes.len()));
            let first = number == 0;
            pb::SnapshotChunk {
                header: first.then(|| header.clone()),
                vote: first.then_some(vote),
                crc: crc32c::crc32c(&data),
                data,
                last: number.saturating_add(1) == count,
            }
        });
        Ok(client.install_snapshot(futures::stream::iter(chunks)).await?.into_inner())
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Error> {
        let request = wire::append_to_pb(&rpc, Some(self.peers.header(self.target)))
            .map_err(|error| self.malformed(&error))?;
        let call = async { Ok(self.client()?.append(request).await?.into_inner()) };
        let answer = self.call(RPCTypes::AppendEntries, option.soft_ttl(), call).await?;
        let result = wire::appended_from_pb(answer).map_err(|error| self.malformed(&error))?;
        Ok(match result {
            Ok(_) => AppendEntriesResponse::Success,
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Error>>, Error>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let action = RPCTypes::AppendEntries;
            let stream = AppendStream::new(self.peers.clone(), self.target);
            let deadline = stream.stall();
            let opened = match self.client() {
                Ok(client) => self.call(action, deadline, stream.open(client, input)).await,
                Err(status) => Err(self.failed(action, &status)),
            };
            let answers = match opened {
                Ok(answers) => answers,
                Err(error) => {
                    // openraft backs off while it makes requests, which never happens on a stream that
                    // does not open: without a pause a dead peer is called thousands of times a second.
                    tokio::time::sleep(REOPEN_PAUSE).await;
                    return Err(error);
                }
            };
            let this: &'s Self = self;
            let answers = answers.map(move |answer| match answer {
                Ok(answer) => wire::appended_from_pb(answer).map_err(|error| this.malformed(&error)),
                Err(status) if status.code() == Code::DeadlineExceeded => {
                    Err(this.timed_out(action, deadline))
                }
                Err(status) => Err(this.failed(action, &status)),
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let request = wire::vote_request_to_pb(&rpc, self.peers.header(self.target));
        let call = async { Ok(self.client()?.vote(request).await?.into_inner()) };
        let answer = self.call(RPCTypes::Vote, option.soft_ttl(), call).await?;
        wire::voted_from_pb(answer).map_err(|error| self.malformed(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Error> {
        let request = wire::vote_request_to_pb(&rpc, self.peers.header(self.target));
        let call = async { Ok(self.client()?.pre_vote(request).await?.into_inner()) };
        let answer = self.call(RPCTypes::Vote, option.soft_ttl(), call).await?;
        wire::voted_from_pb(answer).map_err(|error| self.malformed(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let action = RPCTypes::InstallSnapshot;
        let sending = self.call(action, option.soft_ttl(), self.send_snapshot(vote, snapshot.snapshot));
        let answer = tokio::select! {
            biased;
            answer = sending => answer?,
            closed = cancel => return Err(closed.into()),
        };
        let vote = wire::vote_from_pb(answer.vote).map_err(|error| self.malformed(&error))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Error> {
        let request = wire::transfer_to_pb(&req, self.peers.header(self.target));
        let call = async { Ok(self.client()?.transfer_leader(request).await?.into_inner()) };
        let answer = self.call(RPCTypes::TransferLeader, option.soft_ttl(), call).await?;
        wire::transferred_from_pb(answer, &req).map_err(|error| self.malformed(&error))
    }
}

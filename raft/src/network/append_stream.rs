use super::net::PeerChannel;
use super::peers::Peers;
use crate::codec::wire;
use crate::replica::raft::TypeConfig;
use crate::types::ReplicaId;
use futures::{Stream, StreamExt as _};
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use openraft::raft::AppendEntriesRequest;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// A stream that answers nothing for this long, although it owes an answer, is given up and opened again.
/// Generous: an answer waits for the peer's disk.
const STALL: Duration = Duration::from_secs(2);

/// The sending end of pipelined replication: requests go out as openraft produces them, answers come back in
/// order. Gives up when the peer owes an answer for too long.
#[derive(Debug)]
pub(super) struct AppendStream {
    peers: Peers,
    target: ReplicaId,
    owed: Arc<Mutex<Owed>>,
}

/// Answers that the peer owes.
#[derive(Debug, Default)]
struct Owed {
    count: u64,
    /// When the peer began to owe, or last answered.
    since: Option<Instant>,
}

impl Owed {
    fn sent(&mut self) {
        self.count = self.count.saturating_add(1);
        self.since.get_or_insert_with(Instant::now);
    }

    fn answered(&mut self) {
        self.count = self.count.saturating_sub(1);
        self.since = (self.count > 0).then(Instant::now);
    }

    fn stalled(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= STALL)
    }
}

impl AppendStream {
    pub(super) fn new(peers: Peers, target: ReplicaId) -> Self {
        Self { peers, target, owed: Arc::default() }
    }

    pub(super) fn stall(&self) -> Duration {
        STALL
    }

    /// Opens the stream. The answers end when the input does, with the first answer that is not a success,
    /// or with an error.
    pub(super) async fn open<S>(
        self,
        mut client: RaftTransportClient<PeerChannel>,
        input: S,
    ) -> Result<impl Stream<Item = Result<pb::AppendResponse, Status>> + Send + 'static, Status>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let owed = Arc::clone(&self.owed);
        let (peers, target) = (self.peers.clone(), self.target);
        let mut header = Some(peers.header(target));
        let requests = input.map(move |request| {
            let message = wire::append_to_pb(&request, header.take());
            if message.is_ok() {
                owed.lock().sent();
            }
            message
        });
        // An entry that cannot be encoded cannot have been appended either; the stream just ends there.
        let requests = requests.take_while(|message| std::future::ready(message.is_ok()));
        let requests = requests.filter_map(|message| std::future::ready(message.ok()));
        let answers = client.stream_append(requests).await?.into_inner();
        Ok(futures::stream::unfold(Some((self, answers)), |state| async move {
            let (this, mut answers) = state?;
            match this.next(&mut answers).await {
                Some(Ok(answer)) => Some((Ok(answer), Some((this, answers)))),
                Some(Err(status)) => Some((Err(status), None)),
                None => None,
            }
        }))
    }

    async fn next(
        &self,
        answers: &mut Streaming<pb::AppendResponse>,
    ) -> Option<Result<pb::AppendResponse, Status>> {
        loop {
            if let Err(status) = self.peers.check_link(self.target) {
                return Some(Err(status));
            }
            match tokio::time::timeout(STALL / 8, answers.message()).await {
                Ok(Ok(answer)) => {
                    self.owed.lock().answered();
                    return answer.map(Ok);
                }
                Ok(Err(status)) => return Some(Err(status)),
                Err(_) if self.owed.lock().stalled() => {
                    return Some(Err(Status::deadline_exceeded("the peer owes an answer")));
                }
                Err(_) => {}
            }
        }
    }
}

use super::guard::Guard;
use crate::archive::Archive;
use crate::blocking::{Blocking, Work};
use crate::machine::ArchiveUnreadable;
use crate::types::ReplicaId;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::archive_transfer_server::ArchiveTransfer;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Records in one message, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Gives records of this replica's archive to others.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveSource {
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) guard: Guard,
    pub(crate) blocking: Blocking,
}

/// A transfer under way. Every chunk is read when the receiver has room for it.
struct Transfer {
    source: ArchiveSource,
    receiver: ReplicaId,
    begins: bool,
    next: u64,
    until: u64,
}

impl Transfer {
    async fn chunk(mut self) -> Result<Option<(pb::ArchiveChunk, Self)>, Status> {
        if self.next >= self.until {
            return Ok(None);
        }
        if !std::mem::take(&mut self.begins) {
            self.source.guard.transfers_go_on(self.receiver).await;
        }
        self.source.guard.check_link(self.receiver)?;
        let (archive, first, until) = (Arc::clone(&self.source.archive), self.next, self.until);
        let read = self.source.blocking.run(Work::Archive, move || {
            let records = archive.chunk(first, until, CHUNK_BYTES)?;
            let next = first.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
            Ok((archive.hash_before(next)?, next, records))
        });
        let read = read.await.map_err(|error| Status::internal(error.to_string()))?;
        let (hash_after, next, records) = read.map_err(|error| absent(&error))?;
        self.next = next;
        let crc = records.iter().fold(0, |crc, record| crc32c::crc32c_append(crc, record));
        let records = records.into_iter().map(Into::into).collect();
        Ok(Some((pb::ArchiveChunk { first, records, crc, hash_after: hash_after.to_vec().into() }, self)))
    }
}

fn absent(error: &ArchiveUnreadable) -> Status {
    Status::out_of_range(format!("this archive does not hold what is asked for: {}", error.0))
}

#[tonic::async_trait]
impl ArchiveTransfer for ArchiveSource {
    type FetchStream = BoxStream<'static, Result<pb::ArchiveChunk, Status>>;

    async fn fetch(
        &self,
        request: Request<pb::FetchArchiveRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        let receiver = self.guard.check(message.header.as_ref(), &caller)?;
        let (archive, from) = (Arc::clone(&self.archive), message.from);
        let known = self
            .blocking
            .run(Work::Archive, move || archive.hash_before(from))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| absent(&error))?;
        if message.hash_before.as_ref() != known {
            return Err(Status::data_loss(format!("the archives differ before record {from}")));
        }
        tracing::info!(receiver, from, until = message.until, "sends records of the archive");
        let until = message.until;
        let transfer = Transfer { source: self.clone(), receiver, begins: true, next: from, until };
        Ok(Response::new(futures::stream::try_unfold(transfer, Transfer::chunk).into_stream().boxed()))
    }
}

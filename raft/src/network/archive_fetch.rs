use super::MESSAGE_BYTES_MAX;
use super::net::Lane;
use super::peers::Peers;
use crate::archive::Archive;
use crate::blocking::Work;
use crate::consensus::StateCell;
use crate::fault;
use crate::machine::archive::{ArchiveTip, NewRecord, roll};
use crate::machine::{ArchiveRecord, ArchiveUnreadable};
use crate::types::{LogIndex, ReplicaId};
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::archive_transfer_client::ArchiveTransferClient;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tonic::{Status, Streaming};

/// The next chunk must arrive within this time.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Completes the archive before a snapshot is installed.
///
/// What was fetched stays, whatever happens next: readers do not see records beyond their state, and a transfer
/// that is broken off, by the sender's deadline for the snapshot as well, goes on from there.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveFetch {
    cell: Arc<StateCell>,
    peers: Peers,
    /// Records taken from others since the start.
    fetched: Arc<AtomicU64>,
    /// The sender may try again before it is noticed that it gave up.
    one: Arc<Mutex<()>>,
}

/// How far the archive is: the next record, and the rolling hash before it.
#[derive(Clone, Copy, Debug)]
struct Position {
    number: u64,
    hash: [u8; 32],
}

impl ArchiveFetch {
    pub(crate) fn new(cell: Arc<StateCell>, peers: Peers, fetched: Arc<AtomicU64>) -> Self {
        Self { cell, peers, fetched, one: Arc::default() }
    }

    /// Fetches what is missing of the archive that a snapshot of the state at `index` names, from the first of
    /// these replicas that can give it.
    pub(super) async fn complete(
        &self,
        index: LogIndex,
        tip: ArchiveTip,
        sources: impl IntoIterator<Item = (ReplicaId, String)>,
    ) -> Result<(), Status> {
        let _one = self.one.lock().await;
        // A snapshot that comes too late changes nothing.
        let late = self.cell.read(|state| state.applied().index) >= index;
        if late || self.blocking(move |archive| archive.check(&tip)).await.is_ok() {
            return Ok(());
        }
        let mut failures = Vec::new();
        for (source, address) in sources.into_iter().filter(|(id, _)| *id != self.peers.id()) {
            match self.fetch_from(source, &address, tip).await {
                Ok(()) => {
                    let checked = self.blocking(move |archive| archive.check(&tip)).await;
                    return checked.map_err(|error| {
                        let reason = error.message();
                        Status::data_loss(format!(
                            "the archive here is not the snapshot's ({reason}): this replica must join again \
                             under a new id with an empty directory"
                        ))
                    });
                }
                Err(status) => {
                    let reason = status.message();
                    tracing::warn!(source, reason, "fetching records of the archive");
                    failures.push(format!("replica {source}: {reason}"));
                }
            }
        }
        Err(Status::unavailable(format!(
            "the archive that goes with the snapshot is not here yet: {}",
            failures.join("; ")
        )))
    }

    async fn fetch_from(&self, source: ReplicaId, address: &str, tip: ArchiveTip) -> Result<(), Status> {
        let (number, hash) = self.blocking(move |archive| archive.end()).await?;
        let mut position = Position { number, hash };
        let skips = number < tip.first;
        if skips {
            position = Position { number: tip.first, hash: tip.first_hash };
        }
        if position.number >= tip.next {
            return self.blocking(move |archive| archive.start_at(position.number, position.hash)).await;
        }
        let mut chunks = self.open(source, address, position, tip.next).await?;
        tracing::info!(source, from = position.number, until = tip.next, "fetches records of the archive");
        while position.number < tip.next {
            let chunk = in_time(chunks.message()).await?;
            let chunk = chunk.ok_or_else(|| Status::aborted("the records ended before the last one"))?;
            self.peers.check_link(source)?;
            let fetched = Arc::clone(&self.fetched);
            position = self
                .blocking(move |archive| {
                    let (records, next) = check(chunk, position)?;
                    if skips {
                        archive.start_at(position.number, position.hash)?;
                    }
                    let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
                    archive.wait_for_room()?;
                    archive.append(records)?;
                    fetched.fetch_add(count, Ordering::AcqRel);
                    fault::point("fetch.appended");
                    metrics::counter!("mux_archive_fetched_records_total").increment(count);
                    Ok(next)
                })
                .await?;
        }
        Ok(())
    }

    async fn open(
        &self,
        source: ReplicaId,
        address: &str,
        position: Position,
        until: u64,
    ) -> Result<Streaming<pb::ArchiveChunk>, Status> {
        self.peers.check_link(source)?;
        let channel = self.peers.channel(source, address, Lane::Snapshot)?;
        let mut client = ArchiveTransferClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = pb::FetchArchiveRequest {
            header: Some(self.peers.header(source)),
            from: position.number,
            until,
            hash_before: position.hash.to_vec().into(),
        };
        Ok(in_time(client.fetch(request)).await?.into_inner())
    }

    /// Uses the archive where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Archive) -> Result<T, ArchiveUnreadable> + Send + 'static,
    ) -> Result<T, Status> {
        let archive = Arc::clone(self.cell.archive());
        let blocking = self.peers.blocking();
        blocking
            .run(Work::Archive, move || work(archive.as_ref()))
            .await
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::data_loss(error.0))
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded("the next records did not come");
    tokio::time::timeout(CHUNK_TIMEOUT, call).await.map_err(late)?
}

/// The records of a chunk, if it is undamaged and goes on where the archive ends.
fn check(chunk: pb::ArchiveChunk, from: Position) -> Result<(Vec<NewRecord>, Position), ArchiveUnreadable> {
    let wrong = |reason: &str| ArchiveUnreadable(format!("records from {} on: {reason}", chunk.first));
    let crc = chunk.records.iter().fold(0, |crc, record| crc32c::crc32c_append(crc, record));
    if crc != chunk.crc {
        return Err(wrong("they arrived damaged"));
    }
    if chunk.first != from.number || chunk.records.is_empty() {
        return Err(wrong("others were asked for"));
    }
    let mut position = from;
    let mut records = Vec::with_capacity(chunk.records.len());
    for bytes in &chunk.records {
        let record: ArchiveRecord = postcard::from_bytes(bytes).map_err(|error| wrong(&error.to_string()))?;
        let hash_after = roll(&position.hash, bytes);
        records.push(NewRecord { number: position.number, bytes: bytes.to_vec(), hash_after, record });
        position = Position { number: position.number.saturating_add(1), hash: hash_after };
    }
    if chunk.hash_after.as_ref() != position.hash {
        return Err(wrong("they are not those that the sender has"));
    }
    Ok((records, position))
}

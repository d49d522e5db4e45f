use crate::replica::latch::Latch;
use crate::replica::opening::CHECK_DISK;
use crate::snapshot::{SnapshotDirectory, SnapshotFile};
use mux_proto::mux::raft::v1 as pb;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tonic::{Status, Streaming};

/// The next chunk must arrive within this time.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot on its way into a file. The file is removed unless the snapshot is taken.
#[derive(Debug)]
pub(super) struct IncomingSnapshot {
    path: PathBuf,
    taken: bool,
    file: File,
    latch: Latch,
}

impl IncomingSnapshot {
    pub(super) async fn create(directory: &SnapshotDirectory, latch: Latch) -> Result<Self, Status> {
        let path = directory.unfinished_path();
        let file = File::create(&path).await.map_err(|error| failed(&latch, &path, &error))?;
        Ok(Self { path, taken: false, file, latch })
    }

    /// Takes this and all further chunks and makes the file durable.
    pub(super) async fn receive(
        &mut self,
        first: pb::SnapshotChunk,
        chunks: &mut Streaming<pb::SnapshotChunk>,
    ) -> Result<SnapshotFile, Status> {
        let mut chunk = first;
        loop {
            let found = crc32c::crc32c(&chunk.data);
            if found != chunk.crc {
                return Err(Status::data_loss("a snapshot chunk arrived damaged"));
            }
            self.file.write_all(&chunk.data).await.map_err(|error| self.failed(&error))?;
            if chunk.last {
                break;
            }
            let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message()).await;
            chunk = next
                .map_err(|_| Status::deadline_exceeded("the next snapshot chunk did not come"))??
                .ok_or_else(|| Status::aborted("the snapshot ended before its last chunk"))?;
        }
        self.file.flush().await.map_err(|error| self.failed(&error))?;
        self.file.sync_all().await.map_err(|error| self.failed(&error))?;
        SnapshotFile::open(&self.path).map_err(|error| stop(&self.latch, error))
    }

    fn failed(&self, error: &io::Error) -> Status {
        failed(&self.latch, &self.path, error)
    }

    /// The file is somebody else's from now on.
    pub(super) fn taken(mut self) {
        self.taken = true;
    }
}

impl Drop for IncomingSnapshot {
    fn drop(&mut self) {
        if !self.taken {
            // What stays is removed at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The disk failed: that stops the replica.
fn failed(latch: &Latch, path: &Path, error: &io::Error) -> Status {
    stop(latch, format!("{}: {error}: {CHECK_DISK}", path.display()))
}

fn stop(latch: &Latch, reason: impl std::fmt::Display) -> Status {
    let reason = format!("storing a received snapshot: {reason}");
    latch.trip(reason.clone());
    Status::internal(reason)
}

use crate::blocking::{Blocking, Work};
use crate::fault;
use crate::replica::latch::Latch;
use crate::replica::opening::CHECK_DISK;
use crate::snapshot::{SnapshotDirectory, SnapshotFile};
use mux_proto::mux::raft::v1 as pb;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Status, Streaming};

/// The next chunk must arrive within this time.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot on its way into a file. The file is removed unless the snapshot is taken.
#[derive(Debug)]
pub(super) struct IncomingSnapshot {
    path: PathBuf,
    taken: bool,
    file: Arc<File>,
    blocking: Blocking,
    latch: Latch,
}

impl IncomingSnapshot {
    pub(super) async fn create(
        directory: &SnapshotDirectory,
        blocking: Blocking,
        latch: Latch,
    ) -> Result<Self, Status> {
        let path = directory.unfinished_path();
        let create = {
            let path = path.clone();
            move || File::create(path)
        };
        let file = on_disk(&blocking, (&latch, &path), create).await?;
        Ok(Self { path, taken: false, file: Arc::new(file), blocking, latch })
    }

    /// Does something to the file.
    async fn with_file(
        &self,
        work: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Status> {
        let file = Arc::clone(&self.file);
        on_disk(&self.blocking, (&self.latch, &self.path), move || work(&file)).await
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
            let (data, last) = (chunk.data, chunk.last);
            self.with_file(move |mut file| file.write_all(&data)).await?;
            fault::point("install.part");
            if last {
                break;
            }
            let next = tokio::time::timeout(CHUNK_TIMEOUT, chunks.message()).await;
            chunk = next
                .map_err(|_| Status::deadline_exceeded("the next snapshot chunk did not come"))??
                .ok_or_else(|| Status::aborted("the snapshot ended before its last chunk"))?;
        }
        self.with_file(File::sync_all).await?;
        SnapshotFile::open(&self.path).map_err(|error| stop(&self.latch, error))
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

async fn on_disk<T: Send + 'static>(
    blocking: &Blocking,
    (latch, path): (&Latch, &Path),
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = blocking.run(Work::SnapshotPart, work).await;
    done.map_err(io::Error::other).flatten().map_err(|error| failed(latch, path, &error))
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

use super::directory::SnapshotDirectory;
use super::file::SnapshotFile;
use super::journal::{self, Decided};
use crate::archive::Archive;
use crate::blocking::{Blocking, Work};
use crate::consensus::StateCell;
use crate::fault;
use crate::machine::{Applied, ArchiveTip, ArchiveUnreadable, Envelope, FatalApply, State};
use crate::mutant::{Mutant, planted};
use crate::replica::latch::Latch;
use crate::replica::raft::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, position};
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Entries applied under one write lock, at most: readers wait meanwhile.
const APPLY_BATCH_MAX: usize = 64;

/// The state machine behind openraft's traits: applies entries to the [`StateCell`], makes and installs
/// snapshots.
#[derive(Debug)]
pub(crate) struct Machine {
    cell: Arc<StateCell>,
    directory: SnapshotDirectory,
    blocking: Blocking,
    latch: Latch,
    applied: Option<LogId>,
    membership: StoredMembership,
    #[cfg(feature = "mutants")]
    wrong: Wrong,
}

/// What some mutants need.
#[cfg(feature = "mutants")]
#[derive(Default)]
pub(crate) struct Wrong {
    /// The replica's own.
    pub(crate) clock: Option<Arc<dyn crate::clock::Clock>>,
    /// The state before the last entry.
    before_last: Option<State>,
}

#[cfg(feature = "mutants")]
impl std::fmt::Debug for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrong").finish_non_exhaustive()
    }
}

/// A frozen view to make a snapshot from while apply goes on.
#[derive(Debug)]
pub(crate) struct Builder {
    state: Arc<State>,
    archive: Arc<dyn Archive>,
    meta: SnapshotMeta,
    directory: SnapshotDirectory,
    blocking: Blocking,
}

/// An entry ready to be applied.
struct Prepared {
    at: LogId,
    envelope: Option<Arc<Envelope>>,
    membership: Option<StoredMembership>,
    responder: Option<openraft::storage::ApplyResponder<TypeConfig>>,
}

impl Machine {
    pub(crate) fn new(
        cell: Arc<StateCell>,
        directory: SnapshotDirectory,
        blocking: Blocking,
        latch: Latch,
    ) -> Self {
        let membership = StoredMembership::default();
        Self {
            cell,
            directory,
            blocking,
            latch,
            applied: None,
            membership,
            #[cfg(feature = "mutants")]
            wrong: Wrong::default(),
        }
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn with_clock(mut self, clock: Arc<dyn crate::clock::Clock>) -> Self {
        self.wrong.clock = Some(clock);
        self
    }

    /// Decodes what has to be applied. A command that this program does not know stops the replica: to skip
    /// it would be to diverge.
    fn prepare(&self, item: EntryResponder<TypeConfig>) -> io::Result<Prepared> {
        let (Entry { log_id, payload }, responder) = item;
        let (envelope, membership) = match payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Membership(membership) => {
                (None, Some(StoredMembership::new(Some(log_id), membership)))
            }
            EntryPayload::Normal(command) => {
                let envelope = command.decode().map_err(|error| {
                    let reason = format!("entry {log_id} cannot be applied: {error}");
                    self.latch.trip(reason.clone());
                    io::Error::other(reason)
                })?;
                #[cfg(feature = "mutants")]
                let envelope = match &self.wrong.clock {
                    Some(clock) if planted(Mutant::LocalClock) => {
                        Arc::new(Envelope { time_ms: clock.wall_ms(), ..(*envelope).clone() })
                    }
                    _ => envelope,
                };
                (Some(envelope), None)
            }
        };
        Ok(Prepared { at: log_id, envelope, membership, responder })
    }

    /// Applies entries in order, up to the first that cannot be applied.
    fn apply_batch(&mut self, batch: Vec<Prepared>) -> Result<(), FatalApply> {
        let started = Instant::now();
        let mut failure = None;
        let mut results: Vec<(Applied, Vec<Decided>)> = Vec::with_capacity(batch.len());
        let archive = Arc::clone(self.cell.archive());
        fault::point("apply.begin");
        self.cell.write(|state| {
            for entry in &batch {
                let at = position(entry.at);
                #[cfg(feature = "mutants")]
                if planted(Mutant::SnapshotLacksLast) {
                    self.wrong.before_last = Some(state.clone());
                }
                if planted(Mutant::SkipEntry) && !results.is_empty() && results.len() + 1 == batch.len() {
                    results.push(Default::default());
                    break;
                }
                let applied = state.apply(at, entry.envelope.as_deref(), archive.as_ref());
                match applied.and_then(|applied| keep_archived(archive.as_ref(), applied)) {
                    Ok(applied) => {
                        self.cell.hashes().note(at.index, state.chain_hash());
                        let decided = journal::decided(state, &applied.changes);
                        results.push((applied, decided));
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
        });
        metrics::histogram!("mux_apply_duration_seconds").record(started.elapsed().as_secs_f64());
        fault::point("apply.applied");
        for (entry, (applied, decided)) in batch.into_iter().zip(results) {
            self.applied = Some(entry.at);
            if let Some(membership) = entry.membership {
                self.membership = membership;
            }
            for alarm in &applied.alarms {
                journal::raise(entry.at, *alarm);
            }
            journal::tell(entry.at, entry.responder.is_some(), &applied.changes, decided);
            if let Some(responder) = entry.responder {
                responder.send(applied.reply);
            }
        }
        fault::point("apply.answered");
        failure.map_or(Ok(()), Err)
    }

    /// Waits until the archive takes more, before the state is locked: readers must not wait for a disk.
    async fn wait_for_room(&self) -> io::Result<()> {
        let archive = Arc::clone(self.cell.archive());
        let failed = |error: ArchiveUnreadable| io::Error::other(FatalApply::from(error));
        if archive.has_room().map_err(failed)? {
            return Ok(());
        }
        let waited = self.blocking.run(Work::Archive, move || archive.wait_for_room().map_err(failed));
        waited.await.map_err(io::Error::other).flatten()
    }

    /// Runs blocking work on snapshots; an error stops the replica.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let result = self.blocking.run(Work::Snapshot, work).await.map_err(io::Error::other).flatten();
        if let Err(error) = &result {
            self.latch.trip(format!("snapshot storage failed: {error}"));
        }
        result
    }
}

/// A state is only as good as the archive that goes with it.
fn has_archive(archive: &dyn Archive, tip: &ArchiveTip) -> io::Result<()> {
    archive.check(tip).map_err(|error| {
        io::Error::other(format!(
            "the archive is not the one that the snapshot belongs to ({}). This replica must join again under a \
             new id with an empty directory",
            error.0
        ))
    })
}

/// A snapshot that is found must find what it names.
fn sync(archive: &dyn Archive, tip: &ArchiveTip) -> io::Result<()> {
    fault::point("archive.sync");
    if planted(Mutant::ArchiveNotSynced) {
        return Ok(());
    }
    archive.sync(tip.next).map_err(io::Error::other)?;
    fault::point("archive.synced");
    Ok(())
}

/// What left the state must be found in the archive before anybody reads the state again.
fn keep_archived(archive: &dyn Archive, mut applied: Applied) -> Result<Applied, FatalApply> {
    let records = std::mem::take(&mut applied.archived);
    if !records.is_empty() {
        archive.append(records)?;
    }
    Ok(applied)
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut failure = None;
        while let Some(first) = entries.next().await {
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(item) = next {
                match item.and_then(|item| self.prepare(item)) {
                    Ok(prepared) => batch.push(prepared),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
                let full = batch.len() >= APPLY_BATCH_MAX;
                next = if full { None } else { entries.next().now_or_never().flatten() };
            }
            self.wait_for_room().await.inspect_err(|error| self.latch.trip(error.to_string()))?;
            // What precedes the failure is applied all the same.
            if let Err(error) = self.apply_batch(batch) {
                self.latch.trip(error.to_string());
                return Err(io::Error::other(error));
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = self.cell.read(|state| Arc::new(state.clone()));
        #[cfg(feature = "mutants")]
        let state = self.wrong.before_last.take().map_or(state, Arc::new);
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let archive = Arc::clone(self.cell.archive());
        Builder { state, archive, meta, directory: self.directory.clone(), blocking: self.blocking.clone() }
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let started = Instant::now();
        let directory = self.directory.clone();
        let archive = Arc::clone(self.cell.archive());
        // The file's own header counts: it is what a restart will read.
        let work = directory.work();
        let installed = self.on_disk(move || {
            let _work = work;
            let (meta, state) = snapshot.load(directory.cluster_id())?;
            let tip = state.archive_tip();
            has_archive(archive.as_ref(), tip)?;
            sync(archive.as_ref(), tip)?;
            directory.keep(&snapshot, &meta)?;
            fault::point("install.kept");
            archive.forget(tip).map_err(io::Error::other)?;
            Ok((meta, state))
        });
        let (meta, state) = installed.await?;
        self.cell.write(|current| {
            *current = state;
            self.cell.hashes().begin_anew(current.applied().index, current.chain_hash());
        });
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership;
        fault::point("install.done");
        metrics::histogram!("mux_snapshot_duration_seconds", "what" => "install")
            .record(started.elapsed().as_secs_f64());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let directory = self.directory.clone();
        self.on_disk(move || {
            let Some(snapshot) = directory.current()? else { return Ok(None) };
            let meta = snapshot.meta(directory.cluster_id())?;
            Ok(Some(Snapshot { meta, snapshot }))
        })
        .await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (state, meta, directory) = (Arc::clone(&self.state), self.meta.clone(), self.directory.clone());
        let archive = Arc::clone(&self.archive);
        let work = directory.work();
        let built = self.blocking.run(Work::Snapshot, move || {
            let _work = work;
            let started = Instant::now();
            let tip = state.archive_tip();
            fault::point("snapshot.begin");
            sync(archive.as_ref(), tip)?;
            let (path, cluster_id) = (directory.unfinished_path(), *directory.cluster_id());
            let (written, bytes) = SnapshotFile::write(&path, cluster_id, &meta, &state)?;
            fault::point("snapshot.written");
            let snapshot = directory.keep(&written, &meta)?;
            archive.forget(tip).map_err(io::Error::other)?;
            fault::point("snapshot.forgotten");
            metrics::histogram!("mux_snapshot_duration_seconds", "what" => "build")
                .record(started.elapsed().as_secs_f64());
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
            metrics::gauge!("mux_snapshot_bytes").set(bytes as f64);
            tracing::info!(last = ?meta.last_log_id, bytes, "made a snapshot");
            Ok(Snapshot { meta, snapshot })
        });
        built.await.map_err(io::Error::other)?
    }
}

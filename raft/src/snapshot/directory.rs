use super::file::{SnapshotError, SnapshotFile};
use crate::fault;
use crate::replica::raft::SnapshotMeta;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SUFFIX: &str = ".snap";
const UNFINISHED: &str = ".tmp";

/// The directory with at most one snapshot, and unfinished ones.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotDirectory {
    path: PathBuf,
    cluster_id: [u8; 32],
    unfinished: Arc<AtomicU64>,
    working: Arc<AtomicU64>,
}

/// Work on the directory that a shutdown has to wait for: nobody else may use the directory meanwhile.
#[derive(Debug)]
pub(crate) struct Work(Arc<AtomicU64>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl SnapshotDirectory {
    /// Opens (or creates) the directory, removes what was not finished, makes sure that it can be written to. Blocks.
    pub(crate) fn open(path: &Path, cluster_id: [u8; 32]) -> Result<Self, SnapshotError> {
        let this = Self {
            path: path.to_path_buf(),
            cluster_id,
            unfinished: Arc::default(),
            working: Arc::default(),
        };
        let prepare = || -> io::Result<()> {
            if !path.exists() {
                fs::create_dir_all(path)?;
                this.sync()?;
                if let Some(parent) = path.parent() {
                    File::open(parent)?.sync_all()?;
                }
            }
            this.remove(|name| name.ends_with(UNFINISHED))?;
            // A process that was killed may have written them and synced neither them nor their names.
            for name in this.snapshots()? {
                File::open(path.join(name))?.sync_all()?;
            }
            this.sync()?;
            // Better now than at the first snapshot, when the replica would have to stop.
            let probe = this.unfinished_path();
            File::create(&probe)?;
            fs::remove_file(probe)
        };
        prepare().map_err(|source| SnapshotError::Io { path: path.to_path_buf(), source })?;
        Ok(this)
    }

    /// Work begins; it ends when the value is dropped.
    pub(crate) fn work(&self) -> Work {
        self.working.fetch_add(1, Ordering::Acquire);
        Work(Arc::clone(&self.working))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.working.load(Ordering::Acquire) > 0
    }

    pub(crate) fn cluster_id(&self) -> &[u8; 32] {
        &self.cluster_id
    }

    /// A new name for a snapshot that is being written or received.
    pub(crate) fn unfinished_path(&self) -> PathBuf {
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        self.path.join(format!("{number}{UNFINISHED}"))
    }

    /// Gives a complete file its name for good and removes older ones (a later one may have been received
    /// while this was made). Blocks.
    pub(crate) fn keep(
        &self,
        file: &SnapshotFile,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotFile, SnapshotError> {
        let (term, index) = meta.last_log_id.map_or((0, 0), |id| (id.leader_id.term, id.index));
        let name = format!("{index:020}-{term:020}{SUFFIX}");
        let path = self.path.join(&name);
        let keep = || -> io::Result<()> {
            if file.path() != path {
                File::open(file.path())?.sync_all()?;
                fault::point("snapshot.rename");
                fs::rename(file.path(), &path)?;
                fault::point("snapshot.renamed");
                self.sync()?;
            }
            self.remove(|other| other.ends_with(SUFFIX) && *other < *name)?;
            fault::point("snapshot.kept");
            Ok(())
        };
        keep().map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
        SnapshotFile::open(&path)
    }

    /// The snapshot there is. A crash may have left an older one beside it. Blocks.
    pub(crate) fn current(&self) -> Result<Option<SnapshotFile>, SnapshotError> {
        let failed = |source| SnapshotError::Io { path: self.path.clone(), source };
        let mut names = self.snapshots().map_err(failed)?;
        // Names sort by index, then term.
        names.sort_unstable();
        names.pop().map(|name| SnapshotFile::open(&self.path.join(name))).transpose()
    }

    /// The names of those there are.
    fn snapshots(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(SUFFIX) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn remove(&self, which: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if which(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

use super::config::StartError;
use super::opening::CHECK_DISK;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// The replica's data directory, locked for this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if absent and locks it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |doing: &str, error: std::io::Error| {
            StartError::Storage(format!("{doing} {}: {error}: {CHECK_DISK}", path.display()))
        };
        if !path.exists() {
            fs::create_dir_all(path).map_err(|error| failed("creating", error))?;
            for dir in [Some(path), path.parent()].into_iter().flatten() {
                // A relative path of one component has the empty path as its parent.
                let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
                File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", error))?;
            }
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("LOCK"))
            .map_err(|error| failed("locking", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked(path.to_path_buf())),
            Err(TryLockError::Error(error)) => Err(failed("locking", error)),
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.path.join("archive")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }
}

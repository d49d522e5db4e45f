//! Writing files that were not there before.

use super::{InitError, file_error};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Its owner alone: mode 0600.
    Secret,
    /// Everybody: mode 0644.
    Public,
}

/// Makes a directory for its owner alone, or takes an empty one.
pub(super) fn new_dir(dir: &Path) -> Result<(), InitError> {
    if dir.exists() {
        let mut entries = std::fs::read_dir(dir).map_err(file_error(dir))?;
        return if entries.next().is_some() { Err(InitError::NotEmpty(dir.to_owned())) } else { Ok(()) };
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file_error(dir))
}

/// Writes `dir/name`, synced, and fails if it exists.
pub(super) fn write_new(
    dir: &Path,
    name: &str,
    content: &[u8],
    secrecy: Secrecy,
) -> Result<PathBuf, InitError> {
    let path = dir.join(name);
    let mode = match secrecy {
        Secrecy::Secret => 0o600,
        Secrecy::Public => 0o644,
    };
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(file_error(&path))?;
    Ok(path)
}

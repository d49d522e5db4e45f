//! What to do about a disk that fails, and what was being done when an engine gave up.

use parking_lot::Mutex;
use std::path::{Path, PathBuf};

/// For failures that may pass.
pub(crate) const CHECK_DISK: &str = "check the disk (space, mount, permissions, health), then start again: what was \
                                     acknowledged is on the other replicas";

/// For content that cannot be trusted any more.
pub(crate) const JOIN_ANEW: &str = "do not repair it or put back a copy: this replica must join under a new id with an \
                                    empty data directory";

static OPENING: Mutex<Option<PathBuf>> = Mutex::new(None);

/// While it lives, a panic is blamed on the files in this directory: storage engines panic on some damage.
pub(super) struct Opening(());

impl Opening {
    pub(super) fn begin(dir: &Path) -> Self {
        *OPENING.lock() = Some(dir.to_owned());
        Self(())
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        *OPENING.lock() = None;
    }
}

/// For the last words of a process that panicked: what is probably the reason, and what to do.
#[must_use]
pub fn blame() -> Option<String> {
    let dir = OPENING.try_lock()?.clone()?;
    Some(format!("while a replica opened {}: a file in it is damaged; {JOIN_ANEW}", dir.display()))
}

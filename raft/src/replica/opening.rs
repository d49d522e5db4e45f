//! What to do about a disk that fails, and what was being done when an engine gave up.

use parking_lot::Mutex;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// For failures that may pass.
pub(crate) const CHECK_DISK: &str = "check the disk (space, mount, permissions, health), then start again: what was \
                                     acknowledged is on the other replicas";

/// For content that cannot be trusted any more.
pub(crate) const JOIN_ANEW: &str = "do not repair it or put back a copy: this replica must join under a new id with an \
                                    empty data directory";

/// For a file that is damaged for certain.
pub(crate) fn damaged(file: &Path) -> String {
    let file = file.display();
    format!(
        "{file} is damaged, starting again will not help: {JOIN_ANEW} (a cluster of one: restore a backup)"
    )
}

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

thread_local! {
    static READING: RefCell<Option<Arc<Path>>> = const { RefCell::new(None) };
}

/// While it lives, a panic of this thread is blamed on this file.
pub(crate) struct Reading(());

impl Reading {
    pub(crate) fn begin(file: &Arc<Path>) -> Self {
        READING.set(Some(Arc::clone(file)));
        Self(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(None);
    }
}

/// For the last words of a process that panicked: what is probably the reason, and what to do.
#[must_use]
pub fn blame() -> Option<String> {
    let reading = READING.try_with(|reading| reading.try_borrow().ok()?.clone());
    if let Some(file) = reading.ok().flatten() {
        let file = file.display();
        return Some(format!(
            "while {file} was used: it is probably damaged; unless other replicas say the same, {JOIN_ANEW}"
        ));
    }
    let dir = OPENING.try_lock()?.clone()?;
    Some(format!("while a replica opened {}: a file in it is damaged; {JOIN_ANEW}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_while_a_file_is_used_is_blamed_on_that_file_and_a_later_one_is_not() {
        let file: Arc<Path> = Path::new("archive/records.redb").into();
        let reading = Reading::begin(&file);
        let blamed = blame().unwrap();
        assert!(
            blamed.starts_with("while archive/records.redb was used: it is probably damaged"),
            "{blamed}"
        );
        let elsewhere = std::thread::spawn(|| READING.with_borrow(Option::is_none)).join().unwrap();
        assert!(elsewhere, "another thread uses nothing");
        drop(reading);
        assert!(READING.with_borrow(Option::is_none));
    }
}

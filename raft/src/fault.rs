//! Named moments at which a simulation or a crash test may step in.
//!
//! Without the feature `faults` [`point`] is nothing at all. Only `chaos` turns it on: `cargo build -p muxd`, as README
//! says, makes a `muxd` without it. With it a hook is called: it may end the process (`abort`), or panic to end what is being done. A panic ends only the task or thread
//! that met the point, and may be reported as an ordinary failure: whoever means the whole replica to be gone must cut it
//! off from its disk and its network in the same moment.
//!
//! [`POINTS`] is the list.

/// Every point there is, with what has happened when it is met.
pub const POINTS: [(&str, &str); 27] = [
    ("apply.begin", "entries are decoded and about to be applied"),
    ("apply.applied", "the state has changed, and the archive took what left it; nobody was answered"),
    ("apply.answered", "those who proposed the entries were answered"),
    ("archive.sync", "before the archive is made durable for a snapshot"),
    ("archive.synced", "the archive is durable; the snapshot has not got its name"),
    ("archive.write", "the archive on disk: before a write"),
    ("archive.written", "the archive on disk: after a write; it still counts as waiting"),
    ("archive.delete", "the archive on disk: before forgotten records are deleted"),
    ("fetch.appended", "some fetched records are in the archive"),
    ("fetch.complete", "the archive has all that a received snapshot names"),
    ("install.part", "a part of a received snapshot is in its file"),
    ("install.received", "a received snapshot is whole, synced and checked"),
    ("install.kept", "a received snapshot has its name; the state is still the old one"),
    ("install.done", "the state is the snapshot's"),
    ("log.write", "before a batch is written"),
    ("log.written", "a batch is written, not synced"),
    ("log.synced", "a batch is synced; nobody was told"),
    ("log.told", "those who waited for a batch were told"),
    ("log.garbage", "before purged entries are deleted"),
    ("snapshot.begin", "before a snapshot is made"),
    ("snapshot.half", "its header is in its file, its body is not"),
    ("snapshot.written", "its file is complete and synced, under a temporary name"),
    ("snapshot.rename", "before it gets its name"),
    ("snapshot.renamed", "it has its name; the directory is not synced"),
    (
        "snapshot.kept",
        "the directory is synced, older ones are removed, the archive has not forgotten anything yet",
    ),
    ("snapshot.forgotten", "the archive has forgotten what the snapshot says is forgotten"),
    ("vote.saved", "a vote is durable; nobody was told"),
];

#[cfg(feature = "faults")]
pub use hooks::{on_this_thread, on_threads_without};

#[cfg(feature = "faults")]
mod hooks {
    use parking_lot::RwLock;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    type Local = Rc<dyn Fn(&'static str)>;
    type Global = Arc<dyn Fn(&'static str) + Send + Sync>;

    thread_local! {
        static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
    }
    /// Whether there ever was a hook, so that a program without any pays next to nothing.
    static HOOKED: AtomicBool = AtomicBool::new(false);
    static GLOBAL: RwLock<Option<Global>> = RwLock::new(None);

    /// Calls this at every point that this thread meets, until it is replaced.
    pub fn on_this_thread(hook: Option<Local>) {
        HOOKED.store(true, Ordering::Release);
        LOCAL.with(|local| *local.borrow_mut() = hook);
    }

    /// Calls this at every point that a thread without a hook of its own meets, until it is replaced.
    pub fn on_threads_without(hook: Option<Global>) {
        HOOKED.store(true, Ordering::Release);
        *GLOBAL.write() = hook;
    }

    pub(super) fn call(name: &'static str) {
        if !HOOKED.load(Ordering::Relaxed) {
            return;
        }
        // Called without the borrow or the lock: the hook may panic, or meet a point itself.
        let local = LOCAL.with(|local| local.borrow().clone());
        if let Some(hook) = local {
            return hook(name);
        }
        let global = GLOBAL.read().clone();
        if let Some(hook) = global {
            hook(name);
        }
    }
}

/// This moment is now.
#[cfg(feature = "faults")]
#[inline]
pub fn point(name: &'static str) {
    hooks::call(name);
}

/// This moment is now.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn collect(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let calls = text.split("fault::point(\"").skip(1);
                found
                    .extend(calls.filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn the_list_of_points_is_that_of_the_sources() {
        let mut found = BTreeSet::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let listed: BTreeSet<String> = POINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed.len(), POINTS.len(), "each once");
        assert_eq!(found, listed);
    }
}

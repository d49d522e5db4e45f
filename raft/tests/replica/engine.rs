//! The real engine with faults on demand.

use mux_raft::store::{Change, Engine, EngineError, Identity, Loaded, OpenEngine, SledEngine};
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::sync::Arc;

/// Opens stores that can be held or made to fail. Clones share the switches.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    held: bool,
    waiting: bool,
    failing: bool,
    puts: usize,
    syncs: usize,
}

impl Faults {
    /// Syncs wait from now on.
    pub(crate) fn hold(&self) {
        self.state.0.lock().held = true;
    }

    /// Whether a sync waits.
    pub(crate) fn holds(&self) -> bool {
        self.state.0.lock().waiting
    }

    pub(crate) fn release(&self) {
        self.state.0.lock().held = false;
        self.state.1.notify_all();
    }

    /// Syncs fail from now on.
    pub(crate) fn fail(&self) {
        self.state.0.lock().failing = true;
    }

    /// Entries written and syncs made so far.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.0.lock();
        (state.puts, state.syncs)
    }
}

impl OpenEngine for Faults {
    fn open(&self, dir: &Path, identity: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        let (inner, loaded) = SledEngine::opener().open(dir, identity)?;
        Ok((Box::new(FaultyEngine { inner, faults: self.clone() }), loaded))
    }
}

struct FaultyEngine {
    inner: Box<dyn Engine>,
    faults: Faults,
}

impl Engine for FaultyEngine {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        self.faults.state.0.lock().puts +=
            changes.iter().filter(|change| matches!(change, Change::Put(_))).count();
        self.inner.write(changes)
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        {
            let mut state = self.faults.state.0.lock();
            while state.held {
                state.waiting = true;
                self.faults.state.1.wait(&mut state);
            }
            state.waiting = false;
            state.syncs += 1;
            if state.failing {
                let reason = "Input/output error (os error 5)".into();
                return Err(EngineError::Io { doing: "syncing the log", reason });
            }
        }
        self.inner.sync()
    }
}

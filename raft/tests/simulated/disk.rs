//! A log's disk in memory. It outlives the replica that writes to it.

use mux_raft::store::{Change, Engine, EngineError, Identity, Loaded, Mark, OpenEngine, Record};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryDisk {
    id: [u8; 16],
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    records: BTreeMap<u64, Record>,
    marks: BTreeMap<Mark, Vec<u8>>,
    unsynced: bool,
}

impl MemoryDisk {
    pub(crate) fn new(number: u8) -> Self {
        Self { id: [number; 16], content: Arc::default() }
    }

    /// Whether something is written that was not synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.content.lock().unsynced
    }
}

impl OpenEngine for MemoryDisk {
    fn open(&self, _: &Path, _: Identity) -> Result<(Box<dyn Engine>, Loaded), EngineError> {
        let content = self.content.lock();
        let loaded = Loaded {
            store_id: self.id,
            records: content.records.values().cloned().collect(),
            marks: content.marks.iter().map(|(mark, bytes)| (*mark, bytes.clone())).collect(),
        };
        Ok((Box::new(self.clone()), loaded))
    }
}

impl Engine for MemoryDisk {
    fn write(&mut self, changes: &[Change]) -> Result<(), EngineError> {
        let mut content = self.content.lock();
        for change in changes {
            match change.clone() {
                Change::Put(record) => drop(content.records.insert(record.index, record)),
                Change::Delete { index, .. } => drop(content.records.remove(&index)),
                Change::Mark(mark, bytes) => drop(content.marks.insert(mark, bytes)),
            }
        }
        content.unsynced = true;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        self.content.lock().unsynced = false;
        Ok(())
    }
}

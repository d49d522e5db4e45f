use crate::blocking::Blocking;
use crate::consensus::StateCell;
use crate::log::LogStore;
use crate::replica::latch::Latch;
use crate::replica::raft::TypeConfig;
use crate::snapshot::{Machine, SnapshotDirectory};
use crate::store::{Identity, SledEngine};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;
use tempfile::TempDir;

const CLUSTER_ID: [u8; 32] = [7; 32];

/// A new directory with the log on sled and the real state machine for each of openraft's cases.
struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let latch = Latch::new();
        let identity = Identity { cluster_id: CLUSTER_ID, replica: 1 };
        let (opener, blocking) = (SledEngine::opener(), Blocking::on_threads());
        let path = dir.path().join("log");
        let log = LogStore::open(&opener, &path, identity, latch.clone(), &blocking).unwrap();
        let snapshots = SnapshotDirectory::open(&dir.path().join("snapshots"), CLUSTER_ID).unwrap();
        let machine = Machine::new(Arc::new(StateCell::default()), snapshots, blocking, latch);
        Ok((dir, log, machine))
    }
}

#[test]
fn openraft_is_content_with_log_and_state_machine() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Box::pin(Suite::test_all(OnDisk))).unwrap();
}

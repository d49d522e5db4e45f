//! What is asked of the engine.

use crate::archive::disk::backend::DurableSize;
use parking_lot::Mutex;
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend, TableDefinition};
use std::fs;
use std::io;
use std::sync::Arc;
use tempfile::TempDir;

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("table");

/// A file in memory, and what the worst power cuts would have left of it.
#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// As long as it is after a power cut: longer it is once that is synced.
    durable_len: usize,
    /// After everything that was written got to the disk at once, but for the length.
    left: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<File>>);

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl StorageBackend for Recorder {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.lock().bytes.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.copy_from_slice(&self.0.lock().bytes[at(offset)..][..out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut file = self.0.lock();
        file.bytes.resize(at(len), 0);
        file.durable_len = file.durable_len.min(at(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut file = self.0.lock();
        file.durable_len = file.bytes.len();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.0.lock();
        file.bytes[at(offset)..][..data.len()].copy_from_slice(data);
        if offset == 0 && file.durable_len > 0 {
            let left = file.bytes[..file.durable_len].to_vec();
            file.left.push(left);
        }
        Ok(())
    }
}

/// See [`DurableSize`].
#[test]
fn a_power_cut_while_the_file_grows_leaves_all_that_was_committed() {
    let recorder = Recorder::default();
    let database = Database::builder().create_with_backend(DurableSize(recorder.clone())).unwrap();
    // A file has its name only once it is whole.
    recorder.0.lock().left.clear();
    let mut committed = 0_u64;
    for _ in 0..40 {
        let mut transaction = database.begin_write().unwrap();
        transaction.set_quick_repair(true);
        let before = committed;
        for number in before..before + 50 {
            transaction.open_table(TABLE).unwrap().insert(number, [7; 3_000].as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        committed += 50;
        let left = std::mem::take(&mut recorder.0.lock().left);
        assert!(!left.is_empty());
        for bytes in left {
            let found = found_in(&bytes);
            assert!(found == before || found == committed, "{found} of {committed}");
        }
    }
}

/// How many are in a file with these bytes.
fn found_in(bytes: &[u8]) -> u64 {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    let database = Database::open(&path).unwrap();
    match database.begin_read().unwrap().open_table(TABLE) {
        Ok(table) => table.len().unwrap(),
        Err(redb::TableError::TableDoesNotExist(_)) => 0,
        Err(error) => panic!("{error}"),
    }
}

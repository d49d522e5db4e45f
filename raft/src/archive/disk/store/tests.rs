use super::*;
use crate::machine::archive::ArchiveRecord;
use redb::backends::FileBackend;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

const CLUSTER_ID: [u8; 32] = [7; 32];

/// What was done to the files that a store opened.
#[derive(Debug, Default)]
struct Seen {
    grown: AtomicUsize,
    /// Writes to a file whose new size a power cut would take.
    too_early: AtomicUsize,
}

#[derive(Debug)]
struct Watched {
    file: FileBackend,
    has_grown: AtomicBool,
    seen: Arc<Seen>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.file.len()? {
            self.has_grown.store(true, Ordering::Relaxed);
            self.seen.grown.fetch_add(1, Ordering::Relaxed);
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.has_grown.store(false, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.has_grown.load(Ordering::Relaxed) {
            self.seen.too_early.fetch_add(1, Ordering::Relaxed);
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// See [`backend::DurableSize`].
#[test]
fn whatever_makes_a_file_of_the_archive_grow_its_size_is_durable_before_anything_is_written() {
    let (dir, seen) = (TempDir::new().unwrap(), Arc::new(Seen::default()));
    let open = || {
        Store::open_with(dir.path(), &CLUSTER_ID, &|path, new| {
            let file = backend::open(path, new)?;
            Ok(Watched { file, has_grown: AtomicBool::new(false), seen: Arc::clone(&seen) })
        })
        .unwrap()
    };
    drop(open());
    let made = seen.grown.load(Ordering::Relaxed);
    assert!(made > 0, "a new one grows");
    let store = open();
    for number in 0..60 {
        let record = ArchiveRecord::Events(Vec::new());
        let new = NewRecord { number, bytes: vec![7; 100_000], hash_after: [1; 32], record };
        let durable = number % 2 == 0;
        store.write(&Changes { records: vec![Arc::new(new)], base: None, durable }).unwrap();
    }
    drop(store);
    assert!(seen.grown.load(Ordering::Relaxed) > made + 1, "one that is written to grows");
    assert_eq!(seen.too_early.load(Ordering::Relaxed), 0);
}

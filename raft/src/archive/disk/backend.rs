use redb::{Database, DatabaseError, StorageBackend, backends::FileBackend};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A file whose new size is durable before anything is written that tells of it.
///
/// redb writes into the header how large the file is, and (before 4.2) takes care of no more than that both are durable once a
/// commit is: a power cut may leave a header that tells of more than there is, and such a file it does not open. Later versions
/// do as this does, but an older `muxd` cannot read what they make (the types of tables have other names there).
#[derive(Debug)]
pub(in crate::archive) struct DurableSize<B>(pub(in crate::archive) B);

impl<B: StorageBackend> StorageBackend for DurableSize<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows = len > self.0.len()?;
        self.0.set_len(len)?;
        if grows { self.0.sync_data() } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

/// The file of this name, which is made if it is `new`.
pub(super) fn open(path: &Path, new: bool) -> Result<FileBackend, DatabaseError> {
    let failed = |error| DatabaseError::Storage(redb::StorageError::Io(error));
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(new).open(path).map_err(failed)?;
    // The engine would take it for a new one.
    if !new && file.metadata().map_err(failed)?.len() == 0 {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")));
    }
    if !new {
        // How long a killed process left it only the cache may know. When the engine repairs a file it takes that length for its
        // header: were it not durable, a power cut then could leave a header that tells of more than there is.
        file.sync_all().map_err(failed)?;
    }
    FileBackend::new(file)
}

/// The engine on a file.
pub(super) fn database(file: impl StorageBackend, cache_bytes: usize) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(cache_bytes).create_with_backend(DurableSize(file))
}

/// Says of an archive, for whoever starts the next time, that it is damaged: what was found once must not be looked for again
/// while answers are given by it. A panic of the engine says nothing here: it ends the process, and a fault of the program may
/// be behind it, the same on all replicas, of which then none would start again.
pub(super) fn condemn(dir: &Path, reason: &str) -> io::Result<()> {
    let path = note_of(dir);
    fs::write(&path, reason)?;
    File::open(&path)?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// What was found, if something was.
pub(super) fn condemned(dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(note_of(dir)) {
        Ok(reason) => Ok(Some(reason)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn note_of(dir: &Path) -> PathBuf {
    dir.join("damaged")
}

//! How far the database was synced, kept outside of it.
//!
//! sled takes a record near the end of its log that does not fit its checksum for one that a crash has torn, and forgets it and
//! all that follow: it cannot know that they were durable once. So batches are numbered, the number of the last one that is
//! durable is written here after each sync, and a database that ends before it is damaged.
//!
//! This file itself is not synced again once it is made: after a power cut it may say less than it did (by what the kernel had
//! not written back: by default that of half a minute), and never more than the database has. Two slots take turns, each in a
//! block of its own, so that one that cannot be read leaves the other.

use super::super::engine::EngineError;
use super::{failed, sync_directories};
use crate::codec;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const FILE_NAME: &str = "synced";
/// Its name while it is made.
const UNFINISHED: &str = "synced.new";
const SLOTS: u64 = 2;
/// No sector is larger.
const SLOT_BYTES: u64 = 4_096;
/// The number and its checksum.
const NUMBER_BYTES: usize = 8 + 4;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    /// The greatest number that it has.
    pub(super) number: u64,
    /// The one that does not have it.
    next_slot: u64,
}

impl Watermark {
    /// That of a store in which nothing is numbered yet. It has its name only once it is whole, and durable.
    pub(super) fn create(dir: &Path) -> Result<Self, EngineError> {
        let options = File::options().read(true).write(true).create(true).truncate(true).to_owned();
        let file = options.open(dir.join(UNFINISHED)).map_err(failed("making the log's watermark"))?;
        let mut watermark = Self { file, number: 0, next_slot: 0 };
        for _ in 0..SLOTS {
            watermark.raise(0)?;
        }
        watermark.file.sync_all().map_err(failed("syncing the log's watermark"))?;
        let named = std::fs::rename(dir.join(UNFINISHED), dir.join(FILE_NAME));
        named.map_err(failed("naming the log's watermark"))?;
        sync_directories(dir)?;
        Ok(watermark)
    }

    /// None: there is none.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, EngineError> {
        let file = match File::options().read(true).write(true).open(dir.join(FILE_NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("opening the log's watermark")(error)),
        };
        // Whoever gave it its name may have been killed before that was durable.
        sync_directories(dir)?;
        let mut newest: Option<(u64, u64)> = None;
        for slot in 0..SLOTS {
            newest = newest.max(read(&file, slot).map(|number| (number, slot)));
        }
        let damaged = || EngineError::Damaged(format!("the file {FILE_NAME} beside it is"));
        let (number, slot) = newest.ok_or_else(damaged)?;
        Ok(Some(Self { file, number, next_slot: after(slot) }))
    }

    /// All batches up to this one are durable.
    pub(super) fn raise(&mut self, number: u64) -> Result<(), EngineError> {
        let mut bytes = number.to_le_bytes().to_vec();
        codec::seal(&mut bytes);
        let at = self.next_slot.saturating_mul(SLOT_BYTES);
        self.file.write_all_at(&bytes, at).map_err(failed("writing the log's watermark"))?;
        (self.number, self.next_slot) = (number, after(self.next_slot));
        Ok(())
    }

    /// Refuses a database whose last batch is this one, if a later one was durable.
    pub(super) fn check(&self, last: u64) -> Result<(), EngineError> {
        if last >= self.number {
            return Ok(());
        }
        let lost = self.number.saturating_sub(last);
        Err(EngineError::Damaged(format!(
            "its last {lost} batches of changes were durable and are not there any more: what was written last has changed on the \
             disk, or was removed"
        )))
    }
}

fn after(slot: u64) -> u64 {
    slot.saturating_add(1) % SLOTS
}

/// None: it is damaged, cut short, or cannot be read.
fn read(file: &File, slot: u64) -> Option<u64> {
    let mut bytes = [0; NUMBER_BYTES];
    file.read_exact_at(&mut bytes, slot.saturating_mul(SLOT_BYTES)).ok()?;
    let number = codec::open(&bytes).ok().and_then(|content| content.first_chunk::<8>());
    number.map(|number| u64::from_le_bytes(*number))
}

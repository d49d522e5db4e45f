use super::maker::{Maker, hash, invoice};
use crate::archive::{Archive as _, ArchiveOpenError, DiskArchive};
use crate::machine::archive::ArchiveLookup as _;
use crate::replica::latch::Latch;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CLUSTER_ID: [u8; 32] = [7; 32];

fn open(dir: &Path) -> Result<DiskArchive, ArchiveOpenError> {
    DiskArchive::open(dir, &CLUSTER_ID, Latch::new())
}

fn file(dir: &Path) -> PathBuf {
    dir.join("records.redb")
}

/// As the disk is at this moment, were the process killed.
fn copied(dir: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::copy(file(dir), file(to)).unwrap();
}

#[test]
fn a_crash_leaves_what_was_synced_and_the_log_brings_the_rest_again() {
    let dir = TempDir::new().unwrap();
    let (live, crashed) = (dir.path().join("live"), dir.path().join("crashed"));
    let archive = open(&live).unwrap();
    let mut maker = Maker::default();
    let records = maker.make(900);
    archive.append(records[..600].to_vec()).unwrap();
    archive.sync(500).unwrap();
    archive.append(records[600..].to_vec()).unwrap();
    copied(&live, &crashed);
    let again = open(&crashed).unwrap();
    let (end, hash_there) = again.end().unwrap();
    assert!((600..=900).contains(&end), "{end}");
    assert_eq!(hash_there, records[usize::try_from(end).unwrap() - 1].hash_after);
    again.append(records[550..].to_vec()).unwrap();
    assert_eq!(again.end().unwrap(), (900, maker.tip.hash));
    assert_eq!(again.invoice(&maker.tip, &hash(700)).unwrap(), Some(invoice(700)));
}

#[test]
fn closing_keeps_everything_and_nothing_works_afterwards() {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let mut maker = Maker::default();
    archive.append(maker.make(20_000)).unwrap();
    archive.close();
    archive.close();
    assert!(archive.append(maker.make(1)).is_err());
    assert!(archive.invoice(&maker.tip, &hash(3)).is_err());
    assert!(archive.sync(1).is_err());
    let started = Instant::now();
    let again = open(dir.path()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "opening reads everything");
    assert_eq!(again.end().unwrap().0, 20_000);
    assert_eq!(again.invoice(&maker.tip, &hash(17_000)).unwrap(), Some(invoice(17_000)));
}

#[test]
fn a_hole_and_where_it_ends_survive_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut maker = Maker::default();
    let archive = open(dir.path()).unwrap();
    archive.append(maker.make(5)).unwrap();
    let away = maker.tip;
    let hole = maker.make(10);
    let mut tip = maker.tip;
    (tip.first, tip.first_hash) = (15, tip.hash);
    archive.start_at(15, tip.hash).unwrap();
    drop(archive);
    let archive = open(dir.path()).unwrap();
    assert_eq!(archive.end().unwrap(), (15, tip.hash));
    archive.check(&tip).unwrap();
    archive.check(&away).unwrap();
    archive.check(&maker.tip).unwrap_err();
    archive.append(hole).unwrap();
    drop(archive);
    open(dir.path()).unwrap().check(&maker.tip).unwrap();
}

#[test]
fn an_archive_of_another_cluster_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    let error = DiskArchive::open(dir.path(), &[8; 32], Latch::new()).unwrap_err();
    assert!(matches!(error, ArchiveOpenError::Foreign(_)));
    assert!(error.to_string().contains("another cluster"), "{error}");
}

#[test]
fn a_file_that_is_no_archive_is_refused_and_the_message_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()).unwrap());
    fs::write(file(dir.path()), vec![0x5a; 50_000]).unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be used") && error.contains("join again under a new id"), "{error}");
}

#[test]
fn a_damaged_record_is_noticed_when_it_is_read_and_stops_the_replica() {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let mut maker = Maker::default();
    archive.append(maker.make(9)).unwrap();
    drop(archive);
    let mut bytes = fs::read(file(dir.path())).unwrap();
    let text = b"lnbc1lnbc1";
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(file(dir.path()), bytes).unwrap();
    let latch = Latch::new();
    // It may be noticed as soon as the file is opened: its last record is looked at.
    let noticed = match DiskArchive::open(dir.path(), &CLUSTER_ID, latch.clone()) {
        Err(error) => error.to_string(),
        Ok(archive) => {
            assert!(archive.invoice(&maker.tip, &hash(3)).is_err());
            assert!(archive.append(maker.make(1)).is_err(), "nothing goes on");
            latch.reason().unwrap()
        }
    };
    assert!(noticed.contains("is damaged"), "{noticed}");
}

#[test]
fn what_a_crash_left_of_a_new_file_is_made_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("records.tmp"), b"half").unwrap();
    assert_eq!(open(dir.path()).unwrap().end().unwrap().0, 0);
}

#[test]
fn more_than_the_queue_holds_waits_for_the_disk_and_readers_see_every_record_meanwhile() {
    let dir = TempDir::new().unwrap();
    let archive = Arc::new(open(dir.path()).unwrap());
    let mut maker = Maker::default();
    let records = maker.make(40_000);
    let tip = maker.tip;
    let reader = std::thread::spawn({
        let archive = Arc::clone(&archive);
        move || {
            let mut seen = 0;
            while seen < 40_000 {
                let (end, _) = archive.end().unwrap();
                if end > 10 {
                    let number = end - end % 10 - 2;
                    let (record, _) = archive.record(number).unwrap();
                    let keys = crate::archive::RecordKeys::of(&record);
                    assert!(archive.invoice(&tip, &keys.hash.unwrap()).unwrap().is_some(), "{number}");
                }
                seen = end;
            }
        }
    });
    for records in records.chunks(64) {
        archive.append(records.to_vec()).unwrap();
    }
    reader.join().unwrap();
    archive.sync(40_000).unwrap();
}

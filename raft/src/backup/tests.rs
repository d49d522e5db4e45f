use super::*;
use crate::archive::{Archive, ArchiveOpenError, DiskArchive, MemoryArchive};
use crate::consensus::{Consensus as _, StateCell};
use crate::local::LocalConsensus;
use crate::machine::archive::{ArchiveTip, NewRecord};
use crate::machine::command::{CancelScope, NewInvoice};
use crate::machine::model::{InvoiceKind, InvoiceTerms};
use crate::machine::{Command, State};
use crate::replica::latch::Latch;
use crate::types::{Msat, PaymentHash, PaymentSecret};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIME: u64 = 1_700_000_000_000;

fn hash(number: u16) -> PaymentHash {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PaymentHash(bytes)
}

/// Invoices, every other one cancelled and so in the archive.
fn log(invoices: u16) -> LocalConsensus {
    log_of(invoices, 100)
}

/// With payment requests of this length.
fn log_of(invoices: u16, text: usize) -> LocalConsensus {
    let log = LocalConsensus::new(1, TIME);
    log.commit(Command::raise_feature_level(), None);
    for number in 0..invoices {
        let terms = InvoiceTerms {
            kind: InvoiceKind::Stored,
            amount_msat: Msat(1_000),
            expires_at_ms: TIME + 3_600_000,
            min_final_cltv: 80,
            key_epoch: 0,
        };
        let new = NewInvoice {
            hash: hash(number),
            secret: PaymentSecret([1; 32]),
            terms,
            payment_request: "x".repeat(text),
            description: String::new(),
            description_hash: None,
        };
        log.commit(Command::AddInvoice(Box::new(new)), None);
        if number % 2 == 0 {
            log.commit(Command::CancelInvoice { hash: hash(number), scope: CancelScope::Invoice }, None);
        }
    }
    log
}

fn bytes_of(log: &LocalConsensus) -> Vec<u8> {
    let label = BackupLabel { cluster_name: "mux".into(), ..BackupLabel::default() };
    let frames = BackupFrames::of(log.state(), [9; 32], label, 1, TIME);
    frames.map(|frame| frame.unwrap()).collect::<Vec<_>>().concat()
}

fn write(dir: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join("backup");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_backup_holds_state_and_archive_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(4_000);
    let bytes = bytes_of(&log);
    let mut records = Vec::new();
    let summary = reader::read(&write(dir.path(), &bytes), |chunk| {
        records.extend(chunk);
        Ok(())
    })
    .unwrap();
    assert_eq!(summary.state, log.state().read(Clone::clone));
    assert_eq!(summary.records, 2_000 + (6_000 - 4_096) / 256);
    assert_eq!(u64::try_from(records.len()).unwrap(), summary.records);
    for (number, record) in (0..).zip(&records) {
        assert_eq!(record.number, number);
        let (known, hash_after) = log.state().archive().record(number).unwrap();
        assert!(known == record.record && hash_after == record.hash_after);
    }
    assert_eq!(summary.header.label.cluster_name, "mux");
    assert_eq!(summary.bytes, u64::try_from(bytes.len()).unwrap());
}

#[test]
fn a_backup_of_an_empty_cluster_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let summary = inspect(&write(dir.path(), &bytes_of(&LocalConsensus::new(1, TIME)))).unwrap();
    assert_eq!(summary.records, 0);
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(&log(8));
    for at in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(inspect(&write(dir.path(), &damaged)).is_err(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn a_cut_or_lengthened_backup_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes_of(&log(8));
    for length in (0..bytes.len()).step_by(5) {
        let error = inspect(&write(dir.path(), &bytes[..length])).unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. }), "{length}: {error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(inspect(&write(dir.path(), &longer)), Err(BackupError::Damaged { .. })));
}

#[test]
fn a_backup_without_one_of_its_pieces_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(4_000);
    let frames: Vec<_> =
        BackupFrames::of(log.state(), [9; 32], BackupLabel::default(), 1, TIME).map(Result::unwrap).collect();
    assert!(frames.len() >= 5, "{} pieces", frames.len());
    for missing in 0..frames.len() {
        let rest: Vec<u8> = (0..)
            .zip(&frames)
            .filter(|(at, _)| *at != missing)
            .flat_map(|(_, frame)| frame.clone())
            .collect();
        assert!(inspect(&write(dir.path(), &rest)).is_err(), "without piece {missing}");
    }
}

/// The same state around another archive with the same records.
fn beside(log: &LocalConsensus, archive: Arc<dyn Archive>) -> StateCell {
    let state = log.state().read(State::clone);
    let record = |number| {
        let (record, hash_after) = log.state().archive().record(number).unwrap();
        NewRecord { number, bytes: postcard::to_stdvec(&record).unwrap(), hash_after, record }
    };
    archive.append((0..state.archive_tip().next).map(record).collect()).unwrap();
    archive.sync(state.archive_tip().next).unwrap();
    StateCell::new(state, archive)
}

/// As a snapshot does after which the records before `first` are forgotten.
fn forget_before(archive: &dyn Archive, tip: &ArchiveTip, first: u64) {
    let tip = ArchiveTip { first, first_hash: archive.hash_before(first).unwrap(), ..*tip };
    archive.forget(&tip).unwrap();
    let began = Instant::now();
    while archive.record(first - 2).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is not deleted");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A backup of which so many pieces were made when retention deletes half of the archive: whether it became whole.
fn half_of_it_is_deleted_after(pieces: usize, cell: &StateCell, dir: &Path) -> bool {
    let before = cell.read(State::clone);
    let tip = *before.archive_tip();
    let mut frames = BackupFrames::of(cell, [9; 32], BackupLabel::default(), 1, TIME);
    let mut bytes: Vec<u8> = frames.by_ref().take(pieces).flat_map(Result::unwrap).collect();
    forget_before(cell.archive().as_ref(), &tip, tip.next / 2);
    let mut failed = None;
    for frame in frames.by_ref() {
        assert!(failed.is_none(), "an error is the last piece");
        match frame {
            Ok(frame) => bytes.extend(frame),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    assert!(frames.next().is_none());
    match (failed, inspect(&write(dir, &bytes))) {
        (Some(failed), inspected) => {
            assert!(failed.starts_with("archive: record ") && failed.ends_with(" is missing"), "{failed}");
            let error = inspected.unwrap_err();
            assert!(matches!(error, BackupError::Damaged { .. }), "what came so far is no backup: {error}");
            false
        }
        (None, inspected) => {
            let summary = inspected.unwrap();
            assert_eq!((summary.records, summary.state), (tip.next, before));
            true
        }
    }
}

/// How backups ended that were at every possible piece when retention deleted what they had to read.
fn deleted_at_every_piece(
    log: &LocalConsensus,
    open: impl Fn(&Path) -> Result<Arc<dyn Archive>, ArchiveOpenError>,
) -> Vec<bool> {
    let pieces = BackupFrames::of(log.state(), [9; 32], BackupLabel::default(), 1, TIME).count();
    let ended = (0..=pieces).map(|made| {
        let dir = tempfile::tempdir().unwrap();
        half_of_it_is_deleted_after(
            made,
            &beside(log, open(&dir.path().join("archive")).unwrap()),
            dir.path(),
        )
    });
    ended.collect()
}

#[test]
fn a_backup_from_which_retention_deletes_ends_with_an_error_or_is_whole() {
    let log = log_of(400, 20_000);
    let in_memory = deleted_at_every_piece(&log, |_| Ok(Arc::new(MemoryArchive::default())));
    let on_disk = deleted_at_every_piece(&log, |dir| {
        Ok(Arc::new(DiskArchive::open(dir, &[9; 32], Latch::new())?) as Arc<dyn Archive>)
    });
    println!("whole: {in_memory:?}");
    // Magic, header, state of 4 MB; then 4 MB of records, of which the first half is deleted; an end.
    assert!(in_memory.len() > 2 + 4 + 4);
    assert!(in_memory.iter().filter(|whole| **whole).count() >= 2);
    assert!(in_memory.iter().filter(|whole| !**whole).count() >= 6);
    assert!(in_memory.is_sorted(), "what was read already is not missed: {in_memory:?}");
    assert_eq!(in_memory, on_disk);
}

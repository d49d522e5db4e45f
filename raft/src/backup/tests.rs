use super::*;
use crate::consensus::Consensus as _;
use crate::local::LocalConsensus;
use crate::machine::Command;
use crate::machine::command::{CancelScope, NewInvoice};
use crate::machine::model::{InvoiceKind, InvoiceTerms};
use crate::types::{Msat, PaymentHash, PaymentSecret};
use std::path::Path;

const TIME: u64 = 1_700_000_000_000;

fn hash(number: u16) -> PaymentHash {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PaymentHash(bytes)
}

/// Invoices, every other one cancelled and so in the archive.
fn log(invoices: u16) -> LocalConsensus {
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
            payment_request: "x".repeat(100),
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

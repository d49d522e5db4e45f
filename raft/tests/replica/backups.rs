//! Backups that are saved while their replica goes on.

use crate::archive::{HOUR_MS, frequent, only_in_snapshots, tip};
use crate::cluster::{CLUSTER_ID, Cluster, eventually};
use crate::invoices::{add_and_cancel, add_until, cancel, hash, listed, raise, run};
use crate::restoring::restore;
use mux_raft::archive::{FoundInvoice, InvoiceOrder, InvoicePage};
use mux_raft::backup::{BackupError, BackupFrames, BackupLabel, inspect};
use mux_raft::consensus::{Consensus as _, StateCell};
use mux_raft::machine::archive::ArchiveRecord;
use mux_raft::machine::model::{Event, InvoiceState};
use mux_raft::machine::{Command, Reply, State};
use std::path::PathBuf;
use std::sync::Arc;

/// Of each payment request, so that a backup has several pieces of a megabyte.
const TEXT: usize = 20_000;
/// Log time that does not come.
const NEVER_MS: u64 = 9_000_000_000_000;

/// Invoices that are archived, and those that are open, when the backup begins.
const ARCHIVED: std::ops::Range<u64> = 0..300;
const OPEN: std::ops::Range<u64> = 300..400;

/// A backup that was begun, and what the replica had at that entry, seen otherwise.
struct Begun {
    frames: BackupFrames,
    state: State,
    records: Vec<(ArchiveRecord, [u8; 32])>,
    invoices: Vec<FoundInvoice>,
    events: Vec<Event>,
}

/// One replica that makes snapshots often, with a level that has an archive.
async fn alone() -> Cluster {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    cluster.leader().await;
    raise(&cluster, 1).await;
    cluster
}

fn begin(cluster: &Cluster) -> Begun {
    let cell = cluster.replica(1).state();
    let (state, frames) = loop {
        let state = cell.read(State::clone);
        let frames = BackupFrames::of(cell, CLUSTER_ID, BackupLabel::default(), 1, 0);
        // A tick may come between.
        if frames.header().at == state.applied() {
            break (state, frames);
        }
    };
    let tip = *state.archive_tip();
    let records = (tip.first..tip.next).map(|number| cell.archive().record(number).unwrap()).collect();
    let then = StateCell::new(state.clone(), Arc::clone(cell.archive()));
    let (invoices, events) = (all(&then), then.list_events(0, usize::MAX).unwrap());
    Begun { frames, state, records, invoices, events }
}

fn all(cell: &StateCell) -> Vec<FoundInvoice> {
    let order = InvoiceOrder::Added;
    let page = InvoicePage { order, first: 1, last: u64::MAX, newest_first: false, limit: usize::MAX };
    cell.list_invoices(page).unwrap()
}

fn write(cluster: &Cluster, bytes: &[u8]) -> PathBuf {
    let backup = cluster.dir.path().join("backup");
    std::fs::write(&backup, bytes).unwrap();
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_one_entry_whatever_is_committed_archived_and_snapshot_while_it_is_saved() {
    let mut cluster = alone().await;
    add_and_cancel(&cluster, 1, ARCHIVED, TEXT).await;
    for number in OPEN {
        add_until(&cluster, 1, number, TEXT, NEVER_MS).await.unwrap();
    }
    let Begun { frames, state, records, invoices, events } = begin(&cluster);
    let at = state.applied();
    assert_eq!(records.len(), 300);

    let (mut bytes, mut pieces) = (Vec::new(), 0);
    for frame in frames {
        bytes.extend(frame.unwrap());
        assert!(pieces < 50, "it follows what comes and has no end");
        // New invoices come and go, those in the backup end, and now and then a snapshot says so.
        let new = 1_000 + pieces * 5;
        add_and_cancel(&cluster, 1, new..new + 5, TEXT).await;
        for number in OPEN.skip(usize::try_from(pieces * 5).unwrap()).take(5) {
            cancel(&cluster, 1, number).await.unwrap();
        }
        if pieces % 4 == 2 {
            only_in_snapshots(&cluster, [1]).await;
        }
        pieces += 1;
    }
    println!("{pieces} pieces of entry {}, the last one made at {}", at.index, cluster.status(1).applied);
    assert!(pieces >= 10 && cluster.status(1).purged > at.index);
    assert!(tip(&cluster, 1).next >= 300 + pieces * 5 + 50, "what was open was archived meanwhile");

    let backup = write(&cluster, &bytes);
    let summary = inspect(&backup).unwrap();
    assert_eq!((summary.header.at, summary.header.state_hash), (at, state.chain_hash()));
    assert_eq!((summary.records, &summary.header.archive), (300, state.archive_tip()));
    assert!(summary.state == state.for_backup(), "another state than at entry {}", at.index);

    cluster.stop(1).await;
    let restoration = restore(&mut cluster, backup, false);
    assert!(restoration.backup == summary);
    cluster.start_one(1).await;
    cluster.leader().await;
    let cell = cluster.replica(1).state();
    assert!(listed(&cluster, 1) == invoices, "other invoices than at entry {}", at.index);
    assert!(cell.list_events(0, usize::MAX).unwrap() == events);
    for (number, record) in (0..).zip(&records) {
        assert!(cell.archive().record(number).unwrap() == *record, "record {number}");
    }
    assert!(cell.archive().record(300).is_err(), "records of later entries");
    let open = cell.find_invoice(&hash(300)).unwrap().unwrap().invoice;
    assert_eq!(open.state, InvoiceState::Open, "cancelled after the backup began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_which_retention_deletes_says_so_and_the_next_one_is_whole() {
    let cluster = alone().await;
    add_and_cancel(&cluster, 1, ARCHIVED, TEXT).await;
    let keep = Command::SetRetention { keep_finished_ms: Some(HOUR_MS.unsigned_abs()) };
    assert_eq!(run(&cluster, 1, keep).await, Reply::Done);
    let mut frames = begin(&cluster).frames;
    // Magic, header, a small state, a chunk of records.
    let bytes: Vec<u8> = frames.by_ref().take(4).flat_map(Result::unwrap).collect();

    cluster.clocks[&1].set_offset_ms(4 * HOUR_MS);
    eventually("it is forgotten", || tip(&cluster, 1).first >= 300).await;
    add_and_cancel(&cluster, 1, 400..450, 100).await;
    only_in_snapshots(&cluster, [1]).await;
    let archive = cluster.replica(1).state().archive();
    eventually("it is deleted", || archive.record(290).is_err()).await;

    let error = frames.next().unwrap().unwrap_err().to_string();
    assert!(error.starts_with("archive: record ") && error.ends_with(" is missing"), "{error}");
    assert!(frames.next().is_none(), "nothing follows an error");
    let inspected = inspect(&write(&cluster, &bytes));
    assert!(matches!(inspected, Err(BackupError::Damaged { .. })), "{inspected:?}");

    let again = begin(&cluster);
    let bytes: Vec<u8> = again.frames.flat_map(Result::unwrap).collect();
    let summary = inspect(&write(&cluster, &bytes)).unwrap();
    assert!(summary.state == again.state.for_backup());
    assert!(summary.header.archive.first >= 300 && summary.records >= 50, "{:?}", summary.header);
}

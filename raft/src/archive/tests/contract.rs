use super::maker::{Maker, hash, invoice, key};
use crate::archive::{Archive, DiskArchive, InvoiceOrder, MemoryArchive};
use crate::machine::archive::ArchiveTip;
use crate::replica::latch::Latch;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What holds for every archive. `settled` waits until a disk archive has written what it holds back, or not: the
/// answers are the same.
fn on_both(rule: impl Fn(&dyn Archive, &dyn Fn(u64))) {
    rule(&MemoryArchive::default(), &|_| {});
    for write_out in [false, true] {
        let dir = TempDir::new().unwrap();
        let latch = Latch::new();
        let archive = DiskArchive::open(&dir.path().join("archive"), &[7; 32], latch.clone()).unwrap();
        rule(&archive, &|next| {
            if write_out {
                archive.sync(next).unwrap();
            }
        });
        assert_eq!(latch.reason(), None);
    }
}

fn numbers_of(found: &[crate::machine::archive::ArchivedInvoice]) -> Vec<u64> {
    found.iter().map(|found| found.invoice.add_index).collect()
}

#[test]
fn what_is_appended_is_found_at_once_by_everything_that_names_it() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        archive.append(maker.make(30)).unwrap();
        settle(30);
        archive.append(maker.make(20)).unwrap();
        let tip = maker.tip;
        assert_eq!(archive.end().unwrap(), (50, tip.hash));
        for number in 1..=45 {
            assert_eq!(archive.invoice(&tip, &hash(number)).unwrap(), Some(invoice(number)));
            assert_eq!(archive.invoice_of(&tip, &key(number)).unwrap(), Some(invoice(number)));
        }
        assert_eq!(archive.invoice(&tip, &hash(46)).unwrap(), None);
        assert_eq!(archive.invoice_of(&tip, &key(46)).unwrap(), None);
        let list = |first, last, newest_first, limit| {
            numbers_of(
                &archive.invoices(&tip, InvoiceOrder::Settled, first..=last, newest_first, limit).unwrap(),
            )
        };
        assert_eq!(list(1, 99, false, usize::MAX), (1..=45).collect::<Vec<_>>());
        assert_eq!(list(24, 29, false, 4), vec![24, 25, 26, 27]);
        assert_eq!(list(1, u64::MAX, true, 3), vec![45, 44, 43]);
        assert_eq!(list(30, 20, false, 3), Vec::<u64>::new());
        let events = |sequence, limit| -> Vec<u64> {
            let events = archive.events_after(&tip, sequence, limit).unwrap();
            events.iter().map(|event| event.sequence).collect()
        };
        assert_eq!(events(0, usize::MAX), (1..=25).collect::<Vec<_>>());
        assert_eq!(events(12, 6), (13..=18).collect::<Vec<_>>());
        assert_eq!(events(25, 6), Vec::<u64>::new());
    });
}

#[test]
fn the_tip_decides_what_is_seen() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        archive.append(maker.make(15)).unwrap();
        let mut tip = maker.tip;
        archive.append(maker.make(15)).unwrap();
        settle(30);
        tip.first = 3;
        let seen = archive.invoices(&tip, InvoiceOrder::Added, 0..=99, false, 99).unwrap();
        // Records 3..15 without the one of events.
        assert_eq!(numbers_of(&seen), (4..=14).collect::<Vec<_>>());
        assert_eq!(archive.invoice(&tip, &hash(3)).unwrap(), None, "forgotten");
        assert_eq!(archive.invoice_of(&tip, &key(15)).unwrap(), None, "not archived yet");
        assert_eq!(archive.events_after(&tip, 0, 99).unwrap().len(), 5);
    });
}

#[test]
fn the_same_record_again_is_skipped_and_anything_else_is_refused() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        let records = maker.make(20);
        archive.append(records.clone()).unwrap();
        settle(20);
        archive.append(records[5..].to_vec()).unwrap();
        let mut other = records[7].clone();
        other.hash_after = [9; 32];
        assert!(archive.append(vec![other]).is_err(), "another record has the number");
        maker.make(1);
        let error = archive.append(maker.make(1)).unwrap_err();
        assert!(error.to_string().contains("record 20 is missing"), "{error}");
        assert_eq!(archive.end().unwrap().0, 20);
    });
}

#[test]
fn chunks_give_the_records_on_without_a_hole_and_within_their_size() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        let records = maker.make(40);
        archive.append(records[..25].to_vec()).unwrap();
        settle(25);
        archive.append(records[25..].to_vec()).unwrap();
        let mut got = Vec::new();
        while got.len() < 38 {
            let from = 2 + got.len() as u64;
            let chunk = archive.chunk(from, 40, 1_500).unwrap();
            assert!(!chunk.is_empty() && chunk.iter().map(Vec::len).sum::<usize>() <= 1_500);
            got.extend(chunk);
        }
        assert!(got.iter().eq(records[2..].iter().map(|record| &record.bytes)));
        assert_eq!(archive.chunk(7, 9, 1).unwrap().len(), 1, "one at least");
        assert!(archive.chunk(40, 41, 1).is_err());
        for number in [0_usize, 1, 17, 25, 40] {
            let expected = number.checked_sub(1).map_or([0; 32], |before| records[before].hash_after);
            assert_eq!(archive.hash_before(number as u64).unwrap(), expected);
        }
        assert!(archive.hash_before(41).is_err());
    });
}

#[test]
fn an_archive_that_is_not_the_states_is_told() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        archive.append(maker.make(20)).unwrap();
        let tip = maker.tip;
        archive.append(maker.make(5)).unwrap();
        settle(25);
        archive.check(&ArchiveTip::default()).unwrap();
        archive.check(&tip).unwrap();
        archive.check(&maker.tip).unwrap();
        let error = archive.check(&ArchiveTip { hash: [1; 32], ..tip }).unwrap_err();
        assert!(error.to_string().contains("not those of the state"), "{error}");
        maker.make(1);
        let error = archive.check(&maker.tip).unwrap_err();
        assert!(error.to_string().contains("ends before record 25"), "{error}");
        assert!(archive.sync(26).is_err());
    });
}

#[test]
fn who_was_away_while_others_forgot_goes_on_after_the_hole_and_may_still_fill_it() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        archive.append(maker.make(5)).unwrap();
        let away = maker.tip;
        let hole = maker.make(10);
        let mut tip = maker.tip;
        (tip.first, tip.first_hash) = (15, tip.hash);
        archive.start_at(15, tip.first_hash).unwrap();
        assert_eq!(archive.end().unwrap(), (15, tip.hash));
        archive.append(maker.make(5)).unwrap();
        settle(20);
        archive.start_at(7, [1; 32]).unwrap();
        (tip.next, tip.hash) = (maker.tip.next, maker.tip.hash);
        archive.check(&tip).unwrap();
        archive.check(&away).unwrap();
        archive.check(&maker.tip).unwrap_err();
        assert_eq!(archive.hash_before(5).unwrap(), away.hash);
        assert_eq!(archive.hash_before(15).unwrap(), tip.first_hash);
        assert!(archive.append(vec![hole[3].clone()]).is_err());
        // The log came after all.
        archive.append(hole).unwrap();
        archive.check(&maker.tip).unwrap();
        assert_eq!(archive.invoice(&maker.tip, &hash(9)).unwrap(), Some(invoice(9)));
    });
}

#[test]
fn what_is_forgotten_is_freed_in_the_end_and_what_follows_is_found() {
    on_both(|archive, settle| {
        let mut maker = Maker::default();
        archive.append(maker.make(1_500)).unwrap();
        settle(1_500);
        let mut tip = maker.tip;
        (tip.first, tip.first_hash) = (1_400, archive.hash_before(1_400).unwrap());
        archive.forget(&tip).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while archive.record(1_398).is_ok() {
            // A record that waits is deleted once it has been written.
            archive.sync(1_500).unwrap();
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(2));
        }
        assert!(archive.record(0).is_err());
        assert_eq!(archive.hash_before(1_400).unwrap(), tip.first_hash, "it can still be continued");
        assert_eq!(archive.invoices(&tip, InvoiceOrder::Decided, 0..=9_999, false, 9_999).unwrap().len(), 90);
        assert_eq!(archive.invoice(&tip, &hash(1)).unwrap(), None);
        assert!(archive.chunk(1_399, 1_500, 1).is_ok() && archive.chunk(1_398, 1_500, 1).is_err());
        archive.check(&tip).unwrap();
        archive.append(maker.make(5)).unwrap();
        assert_eq!(archive.end().unwrap().0, 1_505);
    });
}

use super::archive::ArchiveOpener;
use super::*;
use crate::sim::host::Ending;
use crate::sim::random;
use mux_raft::machine::archive::{ArchiveRecord, ArchiveTip, NewRecord, roll};
use mux_raft::store::{Change, Engine, EngineError, Identity, Loaded, Mark, Record};
use std::collections::BTreeSet;
use std::path::Path;

const IDENTITY: Identity = Identity { cluster_id: [1; 32], replica: 1 };
/// Enough for everything that is drawn to be drawn.
const SEEDS: u64 = 200;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(random::stream(seed, "disk"), Latency::default(), true)
}

fn open(disk: &SimDisk) -> (Box<dyn Engine>, Loaded) {
    disk.engine().open(Path::new("unused"), IDENTITY).unwrap()
}

fn entries(indices: impl IntoIterator<Item = u64>) -> Vec<Change> {
    let put = |index: u64| Change::Put(Record { index, bytes: index.to_be_bytes().to_vec().into() });
    indices.into_iter().map(put).collect()
}

fn indices(loaded: &Loaded) -> Vec<u64> {
    loaded.records.iter().map(|record| record.index).collect()
}

#[test]
fn a_kill_keeps_what_was_written() {
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let (mut engine, _) = open(&disk);
        engine.write(&entries(1..=3)).unwrap();
        engine.sync().unwrap();
        engine.write(&entries(4..=5)).unwrap();
        assert_eq!(disk.process_ended(Ending::Killed), Remains::default());
        assert_eq!(indices(&open(&disk).1), [1, 2, 3, 4, 5]);
        assert!(disk.is_unsynced(), "a power cut may still take it");
    }
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_a_part_of_the_rest_in_order() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let (mut engine, _) = open(&disk);
        engine.write(&entries(1..=2)).unwrap();
        engine.sync().unwrap();
        engine.write(&entries(3..=4)).unwrap();
        engine.write(&entries(5..=6)).unwrap();
        let remains = disk.process_ended(Ending::PowerCut);
        let left = indices(&open(&disk).1);
        let last = *left.last().unwrap();
        assert_eq!(left, (1..=last).collect::<Vec<_>>(), "no holes");
        let whole = usize::try_from((last - 2) / 2).unwrap();
        assert_eq!((remains.unsynced, remains.lost), (2, 2 - whole));
        assert_eq!(remains.torn, last % 2 == 1);
        seen.insert(last);
    }
    assert_eq!(seen, BTreeSet::from([2, 3, 4, 5, 6]), "each can happen");
}

#[test]
fn deletions_and_marks_are_lost_too() {
    let mut kept = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let (mut engine, _) = open(&disk);
        engine.write(&entries(1..=2)).unwrap();
        engine.sync().unwrap();
        let delete = Change::Delete { index: 1, bytes: 8 };
        engine.write(&[Change::Mark(Mark::Purged, vec![1]), delete]).unwrap();
        disk.process_ended(Ending::PowerCut);
        let (_, loaded) = open(&disk);
        kept.insert((indices(&loaded).len(), loaded.marks.len()));
    }
    assert_eq!(kept, BTreeSet::from([(2, 0), (2, 1), (1, 1)]), "nothing, the mark alone, both");
}

#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    let disk = disk(1);
    let (mut engine, _) = open(&disk);
    engine.write(&entries(1..=2)).unwrap();
    disk.set_mood(Mood::Full);
    let refused = engine.write(&entries(3..=3)).unwrap_err();
    assert!(matches!(&refused, EngineError::Io { reason, .. } if reason.contains("no space")), "{refused}");
    disk.set_mood(Mood::Works);
    assert_eq!(indices(&open(&disk).1), [1, 2]);
}

#[test]
fn a_failing_disk_may_have_lost_what_was_not_synced_and_nothing_else() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let (mut engine, _) = open(&disk);
        engine.write(&entries(1..=1)).unwrap();
        engine.sync().unwrap();
        engine.write(&entries(2..=2)).unwrap();
        disk.set_mood(Mood::Fails);
        engine.sync().unwrap_err();
        disk.set_mood(Mood::Works);
        disk.process_ended(Ending::Killed);
        seen.insert(indices(&open(&disk).1).len());
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn a_process_that_has_ended_writes_nothing_more() {
    let disk = disk(1);
    let (mut old, _) = open(&disk);
    let archive = open_archive(&disk);
    disk.process_ended(Ending::Killed);
    old.write(&entries(1..=1)).unwrap_err();
    old.sync().unwrap_err();
    archive.append(records(0..1)).unwrap_err();
    assert!(indices(&open(&disk).1).is_empty());
    assert_eq!(open_archive(&disk).end().unwrap().0, 0);
}

#[test]
fn a_store_is_its_owners_and_keeps_its_name() {
    let disk = disk(1);
    let first = open(&disk).1.store_id;
    disk.process_ended(Ending::PowerCut);
    assert_eq!(open(&disk).1.store_id, first);
    let other = Identity { replica: 2, ..IDENTITY };
    let refused = disk.engine().open(Path::new("unused"), other).err().unwrap();
    assert!(matches!(refused, EngineError::Foreign(_)), "{refused}");
}

fn open_archive(disk: &SimDisk) -> std::sync::Arc<dyn mux_raft::archive::Archive> {
    ArchiveOpener(disk.clone()).archive_of(&[1; 32]).unwrap()
}

fn records(numbers: std::ops::Range<u64>) -> Vec<NewRecord> {
    let mut hash = [0; 32];
    let mut all = Vec::new();
    for number in 0..numbers.end {
        let bytes = number.to_be_bytes().to_vec();
        hash = roll(&hash, &bytes);
        all.push(NewRecord { number, bytes, hash_after: hash, record: ArchiveRecord::Events(Vec::new()) });
    }
    all.split_off(usize::try_from(numbers.start).unwrap())
}

#[test]
fn an_archive_keeps_what_was_synced_and_a_part_of_the_rest_whatever_ends_its_process() {
    for how in [Ending::Killed, Ending::PowerCut] {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let disk = disk(seed);
            let archive = open_archive(&disk);
            archive.append(records(0..4)).unwrap();
            archive.sync(2).unwrap();
            disk.process_ended(how);
            let again = open_archive(&disk);
            let (end, hash) = again.end().unwrap();
            again.check(&ArchiveTip { next: end, hash, ..ArchiveTip::default() }).unwrap();
            again.append(records(0..6)).unwrap();
            assert_eq!(again.end().unwrap().0, 6, "it goes on from what is there");
            seen.insert(end);
        }
        assert_eq!(seen, BTreeSet::from([2, 3, 4]));
    }
}

#[test]
fn an_archive_that_cannot_be_written_says_so() {
    let disk = disk(1);
    let archive = open_archive(&disk);
    archive.append(records(0..1)).unwrap();
    disk.set_mood(Mood::Full);
    assert!(archive.append(records(1..2)).unwrap_err().0.contains("no space"));
    archive.sync(1).unwrap_err();
    archive.has_room().unwrap_err();
}

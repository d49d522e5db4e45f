use super::maker::{Maker, hash, invoice};
use crate::archive::{Archive as _, MemoryArchive, OpenArchive as _};
use crate::machine::ArchiveLookup as _;
use crate::replica::Latch;
use std::path::Path;
use std::sync::Arc;

#[test]
fn a_power_cut_takes_what_came_after_the_last_sync_and_nothing_else() {
    let (archive, mut maker) = (MemoryArchive::default(), Maker::default());
    archive.append(maker.make(20)).unwrap();
    archive.sync(20).unwrap();
    let synced = maker.tip;
    let lost = maker.make(5);
    archive.append(lost.clone()).unwrap();
    let mut forgets = synced;
    (forgets.first, forgets.first_hash) = (10, archive.hash_before(10).unwrap());
    archive.forget(&forgets).unwrap();
    assert!(archive.record(3).is_err());
    archive.power_cut();
    assert_eq!(archive.end().unwrap(), (20, synced.hash));
    assert!(archive.record(20).is_err() && archive.record(19).is_ok());
    archive.check(&synced).unwrap();
    assert_eq!(archive.chunk(0, 20, usize::MAX).unwrap().len(), 20, "forgotten in vain");
    assert_eq!(archive.invoice(&synced, &hash(3)).unwrap(), Some(invoice(3)));
    archive.append(lost).unwrap();
    assert_eq!(archive.end().unwrap(), (25, maker.tip.hash), "it goes on");
    archive.forget(&forgets).unwrap();
    archive.sync(25).unwrap();
    archive.power_cut();
    assert!(archive.record(3).is_err() && archive.record(24).is_ok());
}

#[test]
fn a_power_cut_brings_back_the_hole_that_was_filled_since() {
    let (archive, mut maker) = (MemoryArchive::default(), Maker::default());
    archive.append(maker.make(5)).unwrap();
    let hole = maker.make(10);
    archive.start_at(15, maker.tip.hash).unwrap();
    archive.append(maker.make(5)).unwrap();
    archive.sync(20).unwrap();
    archive.append(hole.clone()).unwrap();
    archive.check(&maker.tip).unwrap();
    archive.power_cut();
    archive.check(&maker.tip).unwrap_err();
    assert!(archive.record(7).is_err());
    archive.append(hole).unwrap();
    archive.check(&maker.tip).unwrap();
}

#[test]
fn it_is_opened_again_with_what_it_had() {
    let (archive, mut maker) = (Arc::new(MemoryArchive::default()), Maker::default());
    for count in [3, 4] {
        let opened = archive.open(Path::new("unused"), &[7; 32], Latch::new()).unwrap();
        opened.append(maker.make(count)).unwrap();
        opened.close();
    }
    assert_eq!(archive.end().unwrap(), (7, maker.tip.hash));
}

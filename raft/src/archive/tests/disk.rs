use super::maker::{Maker, hash, invoice};
use crate::archive::{Archive as _, ArchiveOpenError, DiskArchive};
use crate::machine::archive::{ArchiveLookup as _, ArchiveRecord};
use crate::replica::latch::Latch;
use crate::types::{CircuitKey, NodePubkey};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
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
    for content in [vec![0x5a; 50_000], Vec::new()] {
        fs::write(file(dir.path()), content).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be used") && error.contains("must join under a new id"), "{error}");
    }
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

/// What the latch says of a file in which one thing was changed, once it is open.
fn noticed(change: impl FnOnce(&redb::WriteTransaction)) -> String {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let mut maker = Maker::default();
    archive.append(maker.make(1_000)).unwrap();
    drop(archive);
    let database = redb::Database::open(file(dir.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    drop(database);
    let latch = Latch::new();
    let archive = DiskArchive::open(dir.path(), &CLUSTER_ID, latch.clone()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while latch.reason().is_none() {
        assert!(!archive.is_checked(), "nothing was noticed");
        assert!(Instant::now() < deadline, "it is not looked at");
        std::thread::sleep(Duration::from_millis(5));
    }
    while archive.append(maker.make(1)).is_ok() {
        assert!(Instant::now() < deadline, "it goes on");
    }
    assert!(!archive.is_checked());
    drop(archive);
    let again = open(dir.path()).unwrap_err().to_string();
    let told = latch.reason().unwrap();
    let what = told.split_once("failed: ").unwrap().1;
    assert!(again.contains("found damaged before") && again.contains(what), "{again}");
    let note = dir.path().join("damaged");
    assert!(again.contains(&format!("as {} says", note.display())), "{again}");
    for text in [&told, &again] {
        assert!(text.contains("starting again will not help") && !text.contains("check the disk"), "{text}");
    }
    told
}

/// Removes the entry of a table whose key ends like this.
fn remove<const LEN: usize>(transaction: &redb::WriteTransaction, table: &str, end: u64) {
    use redb::ReadableTable as _;
    let table = redb::TableDefinition::<&[u8; LEN], ()>::new(table);
    let mut table = transaction.open_table(table).unwrap();
    let keys: Vec<[u8; LEN]> = table.iter().unwrap().map(|entry| *entry.unwrap().0.value()).collect();
    let key = keys.into_iter().find(|key| key.ends_with(&end.to_be_bytes())).unwrap();
    table.remove(&key).unwrap();
}

#[test]
fn what_no_index_leads_to_any_more_is_noticed_and_stops_the_replica() {
    use redb::TableDefinition;
    let told = noticed(|transaction| remove::<32>(transaction, "hashes", 700));
    assert!(told.contains("record 700 is not found by its hash"), "{told}");
    let told = noticed(|transaction| remove::<28>(transaction, "htlcs", 800));
    assert!(told.contains("record 800 is not found by an HTLC"), "{told}");
    let told = noticed(|transaction| {
        let numbers = TableDefinition::<(u8, u64), u64>::new("numbers");
        transaction.open_table(numbers).unwrap().insert((1, 500), 501).unwrap();
    });
    assert!(told.contains("is not found by an index"), "{told}");
    let told = noticed(|transaction| {
        let events = TableDefinition::<u64, u64>::new("events");
        transaction.open_table(events).unwrap().pop_first().unwrap().unwrap();
    });
    assert!(told.contains("is not found by its first event"), "{told}");
    let told = noticed(|transaction| {
        let records = TableDefinition::<u64, &[u8]>::new("records");
        transaction.open_table(records).unwrap().remove(600).unwrap().unwrap();
    });
    assert!(told.contains("record 600 is missing"), "{told}");
}

#[test]
fn a_table_that_is_gone_or_another_one_is_damage_and_stops_the_replica() {
    use redb::TableDefinition;
    let hashes = TableDefinition::<&[u8; 32], ()>::new("hashes");
    let told = noticed(|transaction| assert!(transaction.delete_table(hashes).unwrap()));
    assert!(told.contains("Table 'hashes' does not exist"), "{told}");
    let told = noticed(|transaction| {
        assert!(transaction.delete_table(hashes).unwrap());
        drop(transaction.open_table(TableDefinition::<u64, u64>::new("hashes")).unwrap());
    });
    assert!(told.contains("hashes is of type"), "{told}");
}

#[test]
fn what_is_whole_passes_the_check_also_while_it_is_written_and_forgotten() {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let mut maker = Maker::default();
    archive.append(maker.make(5_000)).unwrap();
    drop(archive);
    let latch = Latch::new();
    let archive = DiskArchive::open(dir.path(), &CLUSTER_ID, latch.clone()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut first = 0;
    while !archive.is_checked() {
        archive.append(maker.make(50)).unwrap();
        first += 20;
        let mut tip = maker.tip;
        (tip.first, tip.first_hash) = (first, archive.hash_before(first).unwrap());
        archive.forget(&tip).unwrap();
        assert!(Instant::now() < deadline, "it is not checked");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(latch.reason(), None);
}

#[test]
fn an_index_that_leads_nowhere_is_damage_and_not_the_absence_of_an_invoice() {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let mut maker = Maker::default();
    let made = maker.make(10);
    let hash = crate::archive::RecordKeys::of(&made[3].record).hash.unwrap();
    archive.append(made).unwrap();
    assert!(archive.invoice(&maker.tip, &hash).unwrap().is_some());
    drop(archive);
    let database = redb::Database::open(file(dir.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    let records = redb::TableDefinition::<u64, &[u8]>::new("records");
    transaction.open_table(records).unwrap().remove(3).unwrap().unwrap();
    transaction.commit().unwrap();
    drop(database);
    let archive = open(dir.path()).unwrap();
    assert!(archive.invoice(&maker.tip, &hash).is_err());
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

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
#[ignore = "takes minutes; --nocapture shows the figures"]
fn a_million_records_stay_on_disk_and_are_there_at_once() {
    const RECORDS: u64 = 1_000_000;
    let dir = TempDir::new().unwrap();
    let (live, crashed) = (dir.path().join("live"), dir.path().join("crashed"));
    let archive = open(&live).unwrap();
    let (mut maker, started) = (Maker::default(), Instant::now());
    let mut longest = Duration::ZERO;
    for _ in 0..RECORDS / 50 {
        let records = maker.make(50);
        let append = Instant::now();
        archive.append(records).unwrap();
        longest = longest.max(append.elapsed());
    }
    archive.sync(RECORDS).unwrap();
    println!(
        "written in {:?}, longest append {longest:?}, {} MiB resident",
        started.elapsed(),
        resident_mib()
    );
    let tip = maker.tip;
    let (rounds, looking) = (100_000_u64, Instant::now());
    for number in 0..rounds {
        assert!(archive.invoice(&tip, &hash(RECORDS * 2 + number)).unwrap().is_none());
    }
    println!("a miss takes {:?}", looking.elapsed() / u32::try_from(rounds).unwrap());
    let looking = Instant::now();
    for number in 1..=rounds {
        assert!(archive.invoice(&tip, &hash(number * 7)).unwrap().is_some());
    }
    println!("a hit takes {:?}", looking.elapsed() / u32::try_from(rounds).unwrap());
    archive.append(maker.make(9_000)).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    copied(&live, &crashed);
    fs::File::open(file(&crashed)).unwrap().sync_all().unwrap();
    println!("{} MiB on disk", fs::metadata(file(&live)).unwrap().len() >> 20);
    drop(archive);
    for dir in [&live, &crashed] {
        let opening = Instant::now();
        let again = open(dir).unwrap();
        println!("opened in {:?}, {} MiB resident", opening.elapsed(), resident_mib());
        assert!(again.end().unwrap().0 >= RECORDS);
        assert!(resident_mib() < 200);
        while !again.is_checked() {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("checked after {:?}, {} MiB resident", opening.elapsed(), resident_mib());
    }
}

/// Nodes with the same short digest: the first of them that there are.
fn colliding_nodes() -> [NodePubkey; 2] {
    let mut seen = HashMap::new();
    for number in 0_u64.. {
        let mut node = NodePubkey([2; 33]);
        node.0[1..9].copy_from_slice(&number.to_be_bytes());
        let digest: [u8; 4] = Sha256::digest(node.0)[..4].try_into().unwrap();
        if let Some(other) = seen.insert(digest, node) {
            return [other, node];
        }
    }
    unreachable!("there are more nodes than digests")
}

#[test]
fn htlcs_whose_keys_look_the_same_on_disk_are_told_apart() {
    let dir = TempDir::new().unwrap();
    let archive = open(dir.path()).unwrap();
    let nodes = colliding_nodes();
    let mut maker = Maker::default();
    let records = nodes.map(|node| {
        let [mut new] = <[_; 1]>::try_from(maker.make(1)).unwrap();
        let ArchiveRecord::Invoice(archived) = &mut new.record else { panic!("no invoice") };
        archived.htlcs[0].key = CircuitKey { node, chan_id: 1, htlc_id: 1 };
        new.bytes = postcard::to_stdvec(&new.record).unwrap();
        new
    });
    archive.append(records.to_vec()).unwrap();
    archive.sync(2).unwrap();
    for (node, number) in nodes.into_iter().zip(1..) {
        let key = CircuitKey { node, chan_id: 1, htlc_id: 1 };
        let found = archive.invoice_of(&maker.tip, &key).unwrap().unwrap();
        assert_eq!(found.invoice.hash, hash(number));
    }
}

use super::*;
use tempfile::TempDir;

/// sled's own (0.34, `Config::segment_size`).
const SEGMENT_BYTES: usize = 512 << 10;

const IDENTITY: Identity = Identity { cluster_id: [7; 32], replica: 1 };

fn put(index: LogIndex, len: usize) -> Change {
    let bytes: Vec<u8> = (0..len).map(|at| (at as u64 ^ index) as u8).collect();
    Change::Put(Record { index, bytes: bytes.into() })
}

fn reopen(dir: &TempDir) -> (SledEngine, Loaded) {
    SledEngine::open(&dir.path().join("log"), IDENTITY).unwrap()
}

#[test]
fn entries_of_any_length_and_marks_come_back() {
    let dir = TempDir::new().unwrap();
    let changes: Vec<Change> = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 10 * PIECE_BYTES + 5]
        .into_iter()
        .zip(5..)
        .map(|(len, index)| put(index, len))
        .filter(|change| !matches!(change, Change::Put(record) if record.bytes.is_empty()))
        .collect();
    let store_id = {
        let (mut engine, loaded) = reopen(&dir);
        assert!(loaded.records.is_empty() && loaded.marks.is_empty());
        engine.write(&changes).unwrap();
        engine.write(&[Change::Mark(Mark::Vote, vec![1, 2, 3])]).unwrap();
        engine.sync().unwrap();
        loaded.store_id
    };
    let (mut engine, loaded) = reopen(&dir);
    assert_eq!(loaded.store_id, store_id);
    assert_eq!(loaded.marks, vec![(Mark::Vote, vec![1, 2, 3])]);
    assert_eq!(loaded.records.into_iter().map(Change::Put).collect::<Vec<_>>(), changes);
    let deletes: Vec<Change> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Put(record) => Some(Change::Delete { index: record.index, bytes: record.bytes.len() }),
            _ => None,
        })
        .collect();
    engine.write(&deletes).unwrap();
    engine.sync().unwrap();
    drop(engine);
    assert!(reopen(&dir).1.records.is_empty(), "every piece is deleted");
}

#[test]
fn in_one_batch_the_later_change_to_an_entry_wins() {
    let dir = TempDir::new().unwrap();
    let (mut engine, _) = reopen(&dir);
    engine.write(&[put(1, 10)]).unwrap();
    engine.write(&[Change::Delete { index: 1, bytes: 10 }, put(1, 20)]).unwrap();
    engine.sync().unwrap();
    drop(engine);
    let records = reopen(&dir).1.records;
    assert_eq!(records.iter().map(|record| record.bytes.len()).collect::<Vec<_>>(), vec![20]);
}

#[test]
fn a_store_of_another_cluster_or_replica_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(reopen(&dir));
    for other in [Identity { cluster_id: [8; 32], ..IDENTITY }, Identity { replica: 2, ..IDENTITY }] {
        let error = SledEngine::open(&dir.path().join("log"), other).unwrap_err();
        assert!(matches!(error, EngineError::Foreign(_)), "{error}");
        assert!(error.to_string().contains("belongs to replica 1 of cluster 0707"), "{error}");
    }
}

#[test]
fn an_unfinished_snapshot_of_sled_does_not_prevent_opening() {
    let dir = TempDir::new().unwrap();
    {
        let (mut engine, _) = reopen(&dir);
        engine.write(&[put(1, 10)]).unwrap();
        engine.sync().unwrap();
    }
    let log = dir.path().join("log");
    fs::write(log.join("snap.7FFFFFFFFFFFFFFF.generating"), b"").unwrap();
    fs::write(log.join("snap.0000000000000001"), b"").unwrap();
    assert_eq!(reopen(&dir).1.records.len(), 1);
    assert!(!log.join("snap.7FFFFFFFFFFFFFFF.generating").exists());
}

/// A store as a process leaves it that is killed, with so many entries, each of which was synced.
fn killed_with(entries: u64) -> (TempDir, TempDir) {
    let (dir, left) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut engine, _) = reopen(&dir);
    for index in 0..entries {
        engine.write(&[put(index, 100)]).unwrap();
        engine.sync().unwrap();
    }
    copy(&dir.path().join("log"), &left.path().join("log"));
    (dir, left)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn change(dir: &TempDir, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = dir.path().join("log").join(name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn refusal(dir: &TempDir) -> String {
    let error = SledEngine::open(&dir.path().join("log"), IDENTITY).unwrap_err();
    assert!(matches!(error, EngineError::Damaged(_)), "{error}");
    error.to_string()
}

#[test]
fn a_bit_that_flips_in_what_was_synced_last_is_noticed() {
    let (_dir, sound) = killed_with(20);
    assert_eq!(reopen(&sound).1.records.len(), 20);
    let Change::Put(last) = put(19, 100) else { unreachable!("it is put") };
    let (_dir, left) = killed_with(20);
    change(&left, "db", |bytes| {
        let found = bytes.windows(100).rposition(|window| *window == last.bytes[..]);
        bytes[found.expect("the last entry is in the file as it is") + 50] ^= 1;
    });
    let told = refusal(&left);
    assert!(told.contains("were durable and are not there any more"), "{told}");
    drop(Watermark::create(&left.path().join("log")).unwrap());
    assert!(reopen(&left).1.records.len() < 20, "sled by itself takes it for a write that was cut short");
}

#[test]
fn a_watermark_that_is_missing_or_damaged_is_noticed_and_one_slot_is_enough() {
    let (_dir, left) = killed_with(5);
    change(&left, "synced", |bytes| bytes[0] ^= 1);
    assert_eq!(reopen(&left).1.records.len(), 5, "the other slot is as good");
    let (_dir, left) = killed_with(5);
    change(&left, "synced", |bytes| {
        bytes[0] ^= 1;
        bytes.truncate(4_100);
    });
    assert!(refusal(&left).contains("the file synced beside it is"));
    let (_dir, left) = killed_with(5);
    change(&left, "synced", Vec::clear);
    assert!(refusal(&left).contains("the file synced beside it is"));
    fs::remove_file(left.path().join("log/synced")).unwrap();
    assert!(refusal(&left).contains("is missing that says how far it was synced"));
}

#[test]
fn a_database_that_is_gone_does_not_make_a_new_store_beside_the_old_watermark() {
    let (_dir, left) = killed_with(5);
    fs::remove_file(left.path().join("log/db")).unwrap();
    let _ = fs::read_dir(left.path().join("log")).unwrap().map(Result::unwrap).try_for_each(|entry| {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path())
        } else {
            Ok(())
        }
    });
    let told = refusal(&left);
    assert!(told.contains("were durable and are not there any more"), "{told}");
}

#[test]
fn a_store_of_a_version_that_numbered_nothing_is_opened_and_guarded_from_then_on() {
    let dir = TempDir::new().unwrap();
    {
        let (mut engine, _) = reopen(&dir);
        engine.write(&[put(1, 10)]).unwrap();
        engine.tree.remove(BATCH_KEY).unwrap();
        engine.sync().unwrap();
    }
    fs::remove_file(dir.path().join("log/synced")).unwrap();
    {
        let (mut engine, loaded) = reopen(&dir);
        assert_eq!((loaded.records.len(), engine.batch), (1, 0));
        engine.write(&[put(2, 10)]).unwrap();
        engine.sync().unwrap();
    }
    assert_eq!(reopen(&dir).1.records.len(), 2);
    fs::remove_file(dir.path().join("log/synced")).unwrap();
    assert!(refusal(&dir).contains("is missing"));
}

#[test]
fn a_watermark_that_was_not_finished_is_made_anew() {
    let (_dir, left) = killed_with(5);
    let log = left.path().join("log");
    {
        let (engine, _) = reopen(&left);
        engine.tree.remove(BATCH_KEY).unwrap();
    }
    fs::rename(log.join("synced"), log.join("synced.new")).unwrap();
    change(&left, "synced.new", Vec::clear);
    assert_eq!(reopen(&left).1.records.len(), 5);
    assert!(log.join("synced").exists() && !log.join("synced.new").exists());
}

/// Bytes that this process has handed to the kernel.
fn written() -> usize {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// Writes this, and says how much was written at most between two syncs on the way.
fn widest_window(engine: &mut SledEngine, changes: &[Change]) -> usize {
    let (mut began, mut widest) = (written(), 0);
    for change in changes {
        // As much of it as goes before the next sync, and then that.
        if engine.unsynced_bytes + written_by(change) > UNSYNCED_BYTES_MAX {
            engine.sync().unwrap();
            widest = widest.max(written() - began);
            began = written();
        }
        engine.write(std::slice::from_ref(change)).unwrap();
    }
    engine.sync().unwrap();
    widest.max(written() - began)
}

/// Not a test: what the child does, whose writing nobody else disturbs.
#[test]
#[ignore = "run by the other test"]
fn child_measures_what_is_written_between_syncs() {
    for bytes in [60, 200, 1_000, 2_500, 4_096, PIECE_BYTES, 15_000, 30_000] {
        let dir = TempDir::new().unwrap();
        let (mut engine, _) = reopen(&dir);
        let entries = (8_000_000 / bytes as u64).min(6_000);
        let changes: Vec<Change> = (0..entries).map(|index| put(index, bytes)).collect();
        let puts = widest_window(&mut engine, &changes);
        let changes: Vec<Change> = (0..entries).map(|index| Change::Delete { index, bytes }).collect();
        let deletes = widest_window(&mut engine, &changes);
        println!("entries of {bytes} bytes: {} KiB to put, {} KiB to delete them", puts >> 10, deletes >> 10);
        assert!(puts.max(deletes) < SEGMENT_BYTES, "{bytes}: {puts}, {deletes}");
    }
    println!("measured");
}

#[test]
fn less_than_a_segment_is_written_between_two_syncs() {
    let child = "store::sled::tests::child_measures_what_is_written_between_syncs";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--ignored", "--exact", child, "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("measured"));
}

#[test]
fn a_long_batch_is_synced_on_its_way_and_comes_back_in_full() {
    let dir = TempDir::new().unwrap();
    let changes: Vec<Change> = (0..400).map(|index| put(index, 1_000)).collect();
    {
        let (mut engine, _) = reopen(&dir);
        engine.write(&changes).unwrap();
        assert!(engine.batch > 10 && engine.unsynced_bytes <= UNSYNCED_BYTES_MAX, "{}", engine.batch);
        assert!(engine.watermark.number > 0, "it was synced");
        engine.sync().unwrap();
    }
    assert_eq!(reopen(&dir).1.records.into_iter().map(Change::Put).collect::<Vec<_>>(), changes);
}

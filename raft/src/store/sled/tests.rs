use super::*;
use tempfile::TempDir;

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

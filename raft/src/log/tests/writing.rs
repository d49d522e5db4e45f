use super::fake_engine::{FakeEngine, Mood, Step, append, append_entries};
use crate::codec::{LoggedCommand, marks};
use crate::replica::raft::{Entry, log_id, vote};
use crate::store::{Change, Mark};
use openraft::EntryPayload;
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_append_is_readable_at_once_and_acknowledged_only_after_the_sync() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    engine.hold();
    let mut appending = append(&mut log, 1, 0..3).await;
    assert_eq!(log.try_get_log_entries(0..10).await.unwrap().len(), 3);
    while engine.steps().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(engine.steps()[..], [Step::Write(_)]), "written, not synced");
    assert!(timeout(Duration::from_millis(50), &mut appending).await.is_err(), "not acknowledged");
    engine.release();
    timeout(PATIENCE, appending).await.unwrap().unwrap().unwrap();
    assert_eq!(engine.syncs(), 1);
}

#[tokio::test]
async fn appends_that_wait_for_a_sync_share_the_next_one() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    engine.hold();
    let mut under_way = Vec::new();
    for index in 0..200 {
        under_way.push(append(&mut log, 1, [index]).await);
    }
    engine.release();
    for appending in under_way {
        timeout(PATIENCE, appending).await.unwrap().unwrap().unwrap();
    }
    assert!(engine.syncs() <= 3, "{} syncs for 200 appends", engine.syncs());
}

#[tokio::test]
async fn a_batch_never_grows_beyond_a_segment_of_the_database() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    let entry = |index: u64, bytes: usize| Entry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(LoggedCommand::from_bytes(vec![7; bytes].into())),
    };
    let small: Vec<Entry> = (0..1_000).map(|index| entry(index, 100)).collect();
    let large: Vec<Entry> = (1_000..1_040).map(|index| entry(index, 100 << 10)).collect();
    for entries in [small, large] {
        timeout(PATIENCE, append_entries(&mut log, entries).await).await.unwrap().unwrap().unwrap();
    }
    let mut entries = 0;
    for step in engine.steps() {
        let Step::Write(changes) = step else { continue };
        let sizes = changes.iter().map(|change| match change {
            Change::Put(record) => record.bytes.len(),
            _ => 0,
        });
        entries += changes.len();
        assert!(changes.len() <= 256 && sizes.sum::<usize>() < 512 << 10);
    }
    assert_eq!(entries, 1_040);
}

#[tokio::test]
async fn a_vote_is_durable_when_it_is_saved_and_precedes_what_follows_it() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    let given = vote(3, 2, false);
    log.save_vote(&given).await.unwrap();
    let mark = Change::Mark(Mark::Vote, marks::encode_vote(&given));
    assert_eq!(engine.steps(), vec![Step::Write(vec![mark]), Step::Sync]);
    assert_eq!(log.read_vote().await.unwrap(), Some(given));
    timeout(PATIENCE, append(&mut log, 3, [0]).await).await.unwrap().unwrap().unwrap();
    let (mut reopened, _) = engine.open();
    assert_eq!(reopened.read_vote().await.unwrap(), Some(given));
}

#[tokio::test]
async fn after_any_failure_everything_fails_and_the_engine_is_left_alone() {
    for mood in [Mood::FailsToWrite, Mood::FailsToSync, Mood::Panics] {
        let engine = FakeEngine::new();
        let (mut log, latch) = engine.open();
        timeout(PATIENCE, append(&mut log, 1, [0]).await).await.unwrap().unwrap().unwrap();
        engine.set_mood(mood);
        let failed = timeout(PATIENCE, append(&mut log, 1, [1]).await).await.unwrap().unwrap();
        assert!(failed.is_err(), "{mood:?}");
        let reason = timeout(PATIENCE, latch.tripped()).await.unwrap();
        assert!(reason.contains("the log in unused") && reason.contains("check the disk"), "{reason}");
        engine.set_mood(Mood::Works);
        let before = engine.steps();
        let refused = timeout(PATIENCE, append(&mut log, 1, [2]).await).await.unwrap().unwrap();
        assert!(refused.is_err(), "{mood:?}: no retry");
        assert!(log.save_vote(&vote(2, 1, false)).await.is_err());
        assert_eq!(engine.steps(), before, "{mood:?}: never called again");
        timeout(PATIENCE, log.close()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_log_closes() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    engine.hold();
    let appending = append(&mut log, 1, 0..5).await;
    log.save_committed(Some(log_id(1, 3))).await.unwrap();
    engine.release();
    log.close().await;
    timeout(PATIENCE, appending).await.unwrap().unwrap().unwrap();
    let (mut reopened, _) = engine.open();
    assert_eq!(reopened.try_get_log_entries(0..9).await.unwrap().len(), 5);
    assert_eq!(reopened.read_committed().await.unwrap(), Some(log_id(1, 3)));
}

/// Pieces that were deleted before this entry was written.
fn pieces_before(steps: &[Step], entry: u64) -> usize {
    let has = |changes: &[Change]| {
        changes.iter().any(|change| matches!(change, Change::Put(record) if record.index == entry))
    };
    let before = steps.iter().take_while(|step| !matches!(step, Step::Write(changes) if has(changes)));
    before.filter(|step| matches!(step, Step::Write(changes) if deletes(changes))).count()
}

fn deletes(changes: &[Change]) -> bool {
    changes.iter().all(|change| matches!(change, Change::Delete { .. }))
}

#[tokio::test]
async fn however_much_is_to_be_deleted_a_vote_does_not_wait_for_it_and_entries_do_for_some() {
    for votes in [false, true] {
        let engine = FakeEngine::new();
        let (mut log, _) = engine.open();
        timeout(PATIENCE, append(&mut log, 1, 0..20_000).await).await.unwrap().unwrap().unwrap();
        engine.hold();
        let before = engine.steps().len();
        log.purge(log_id(1, 19_990)).await.unwrap();
        while engine.steps().len() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // They are in the queue while the purge is synced, the vote last.
        let appending = append(&mut log, 1, [20_000]).await;
        let mut voter = log.clone();
        let voting = tokio::spawn(async move {
            if votes {
                voter.save_vote(&vote(3, 2, false)).await.unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        engine.release();
        timeout(PATIENCE, appending).await.unwrap().unwrap().unwrap();
        timeout(PATIENCE, voting).await.unwrap().unwrap();
        let pieces = pieces_before(&engine.steps()[before..], 20_000);
        assert_eq!(pieces, if votes { 0 } else { 16 });
        log.close().await;
    }
}

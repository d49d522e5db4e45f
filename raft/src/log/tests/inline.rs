//! The log without a thread, as in a simulation.

use super::fake_engine::{FakeEngine, Mood, Step, append};
use crate::blocking::{Blocking, Work};
use crate::replica::raft::{log_id, vote};
use openraft::storage::RaftLogStorage as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const SYNC: Duration = Duration::from_millis(10);

fn slow_disk() -> Blocking {
    Blocking::inline(|work| if work == Work::LogSync { SYNC } else { Duration::ZERO })
}

#[tokio::test(start_paused = true)]
async fn an_append_is_acknowledged_when_the_simulated_sync_has_taken_its_time() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open_with(&slow_disk());
    let started = Instant::now();
    let mut appending = append(&mut log, 1, 0..3).await;
    assert!(timeout(SYNC / 2, &mut appending).await.is_err(), "not acknowledged");
    assert!(matches!(engine.steps()[..], [Step::Write(_)]), "written, not synced");
    appending.await.unwrap().unwrap();
    assert_eq!((engine.syncs(), started.elapsed()), (1, SYNC));
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_sync_shares_the_next_one() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open_with(&slow_disk());
    let started = Instant::now();
    let mut under_way = vec![append(&mut log, 1, [0]).await];
    sleep(SYNC / 2).await;
    for index in 1..100 {
        under_way.push(append(&mut log, 1, [index]).await);
    }
    let (saved, ()) = tokio::join!(
        async {
            let mut log = log.clone();
            log.save_vote(&vote(3, 2, false)).await
        },
        sleep(SYNC * 5)
    );
    saved.unwrap();
    for appending in under_way {
        appending.await.unwrap().unwrap();
    }
    assert_eq!(engine.syncs(), 2, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_fails_everything_from_then_on() {
    for mood in [Mood::FailsToWrite, Mood::FailsToSync, Mood::Panics] {
        let engine = FakeEngine::new();
        let (mut log, latch) = engine.open_with(&slow_disk());
        append(&mut log, 1, [0]).await.await.unwrap().unwrap();
        engine.set_mood(mood);
        assert!(append(&mut log, 1, [1]).await.await.unwrap().is_err(), "{mood:?}");
        assert!(latch.reason().is_some());
        engine.set_mood(Mood::Works);
        let before = engine.steps();
        assert!(log.save_vote(&vote(2, 1, false)).await.is_err());
        assert_eq!(engine.steps(), before, "{mood:?}: never called again");
        log.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_written_before_the_log_closes() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open_with(&slow_disk());
    let appending = append(&mut log, 1, 0..5).await;
    log.save_committed(Some(log_id(1, 3))).await.unwrap();
    log.close().await;
    appending.await.unwrap().unwrap();
    let (mut reopened, _) = engine.open();
    assert_eq!(reopened.read_committed().await.unwrap(), Some(log_id(1, 3)));
}

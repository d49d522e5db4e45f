//! Whatever is asked of the log, and wherever a crash cuts what was written, it opens again without a hole and
//! with everything that was acknowledged.

use super::fake_engine::{FakeEngine, Mood, Step, append, content};
use crate::blocking::Blocking;
use crate::codec::marks;
use crate::log::LogStore;
use crate::log::memory::{LoadError, LogMemory};
use crate::replica::raft::{LogId, log_id, vote};
use crate::store::{Change, Loaded, Mark};
use openraft::RaftLogReader as _;
use openraft::storage::RaftLogStorage as _;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Append(u64),
    /// Cuts off this many entries and appends others of the next term.
    Replace(u64),
    Vote,
    /// Purges this many of the entries there are.
    Purge(u64),
    /// As after a snapshot from the leader: purges beyond the end.
    Skip(u64),
    Commit,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1u64..40).prop_map(Op::Append),
        2 => (1u64..10).prop_map(Op::Replace),
        1 => Just(Op::Vote),
        2 => (1u64..60).prop_map(Op::Purge),
        1 => (1u64..20).prop_map(Op::Skip),
        1 => Just(Op::Commit),
    ];
    proptest::collection::vec(op, 1..25)
}

/// What the model knows: everything up to `purged` is gone, entries follow up to `last`.
struct Model {
    term: u64,
    ids: Vec<LogId>,
    purged: Option<LogId>,
}

impl Model {
    fn next(&self) -> u64 {
        self.ids.last().copied().or(self.purged).map_or(0, |id| id.index + 1)
    }

    async fn append(&mut self, log: &mut LogStore, count: u64) {
        let next = self.next();
        self.ids.extend((next..next + count).map(|index| log_id(self.term, index)));
        append(log, self.term, next..next + count).await.await.unwrap().unwrap();
    }

    async fn run(&mut self, log: &mut LogStore, op: &Op) {
        match op {
            Op::Append(count) => self.append(log, *count).await,
            Op::Replace(count) => {
                let keep = self.ids.len().saturating_sub(usize::try_from(*count).unwrap());
                self.ids.truncate(keep);
                log.truncate_after(self.ids.last().copied().or(self.purged)).await.unwrap();
                self.term += 1;
                self.append(log, *count).await;
            }
            Op::Vote => {
                self.term += 1;
                log.save_vote(&vote(self.term, 1, false)).await.unwrap();
            }
            Op::Purge(count) => {
                let count = usize::try_from(*count).unwrap().min(self.ids.len());
                if let Some(upto) = self.ids.drain(..count).next_back() {
                    self.purged = Some(upto);
                    log.purge(upto).await.unwrap();
                }
            }
            Op::Skip(count) => {
                let upto = log_id(self.term, self.next() + count);
                self.ids.clear();
                self.purged = Some(upto);
                log.purge(upto).await.unwrap();
            }
            Op::Commit => log.save_committed(self.ids.last().copied()).await.unwrap(),
        }
    }
}

fn ids(memory: &LogMemory) -> Vec<LogId> {
    memory.range(..).iter().map(|entry| entry.log_id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_crash_leaves_a_log_without_holes_that_has_all_that_was_acknowledged(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let engine = FakeEngine::new();
        let mut model = Model { term: 1, ids: vec![], purged: None };
        let mut acknowledged = vec![(0, vec![], None)];
        runtime.block_on(async {
            let (mut log, _) = engine.open();
            for op in &ops {
                model.run(&mut log, op).await;
                if matches!(op, Op::Append(_) | Op::Replace(_)) {
                    acknowledged.push((engine.steps().len(), model.ids.clone(), model.purged));
                }
            }
            log.close().await;
        });
        let steps = engine.steps();
        for cut in 0..=steps.len() {
            let (memory, _) = LogMemory::load(content(&steps[..cut])).unwrap();
            prop_assert!(memory.committed <= memory.last());
            // Of what was acknowledged before the cut and not purged or replaced since, all is there.
            let (_, kept, _) = acknowledged.iter().rfind(|(at, _, _)| *at <= cut).unwrap();
            let next_at = acknowledged.iter().find(|(at, _, _)| *at > cut).map(|(_, ids, _)| ids);
            let survivors = kept.iter().filter(|id| Some(**id) > memory.purged)
                .filter(|id| next_at.is_none_or(|next| next.contains(id)) && cut < steps.len());
            let found = ids(&memory);
            for id in survivors {
                prop_assert!(found.contains(id), "{id} lost at {cut} of {steps:?}");
            }
        }
        let (memory, garbage) = LogMemory::load(content(&steps)).unwrap();
        prop_assert_eq!(ids(&memory), model.ids);
        prop_assert_eq!(memory.purged, model.purged);
        prop_assert!(garbage.len() <= 2_000);
    }
}

/// A new leader replaces a long tail that was never committed, and says at once that the new entries are
/// committed, while the disk still lags behind.
#[tokio::test]
async fn a_crash_never_makes_a_replaced_tail_look_committed() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    append(&mut log, 1, 0..1_000).await.await.unwrap().unwrap();
    engine.hold();
    let under_way = append(&mut log, 1, [1_000]).await;
    log.truncate_after(Some(log_id(1, 3))).await.unwrap();
    let replacing = append(&mut log, 2, 4..8).await;
    log.save_committed(Some(log_id(2, 7))).await.unwrap();
    engine.release();
    under_way.await.unwrap().unwrap();
    replacing.await.unwrap().unwrap();
    log.close().await;
    let steps = engine.steps();
    for cut in 0..=steps.len() {
        let (memory, _) = LogMemory::load(content(&steps[..cut])).unwrap();
        let committed = memory.committed.map_or(0, |committed| committed.index);
        let stale = ids(&memory).into_iter().find(|id| id.index > 3 && id.leader_id.term == 1);
        assert!(committed <= 3 || stale.is_none(), "{stale:?} looks committed after a crash at {cut}");
    }
    let (mut reopened, _) = engine.open();
    assert_eq!(reopened.read_committed().await.unwrap(), Some(log_id(2, 7)));
}

/// A snapshot is installed over a tail of the replica's own: openraft cuts off everything after what it knows to be
/// committed, which may be entries that this replica has acknowledged and that only a quorum with it has.
#[tokio::test]
async fn what_is_cut_off_for_a_snapshot_is_on_disk_until_the_snapshot_takes_its_place() {
    for reaches in [400, 998, 1_200] {
        let (engine, snapshot) = (FakeEngine::new(), log_id(3, reaches));
        let (mut log, _) = engine.open();
        append(&mut log, 1, 0..1_000).await.await.unwrap().unwrap();
        log.truncate_after(Some(log_id(1, 3))).await.unwrap();
        // Whatever else is written meanwhile.
        log.purge(log_id(1, 2)).await.unwrap();
        log.save_committed(Some(log_id(1, 3))).await.unwrap();
        log.save_vote(&vote(3, 2, true)).await.unwrap();
        let before = engine.steps().len();
        log.purge(snapshot).await.unwrap();
        append(&mut log, 3, [reaches + 1]).await.await.unwrap().unwrap();
        log.close().await;
        let steps = engine.steps();
        let (memory, _) = LogMemory::load(content(&steps[..before])).unwrap();
        assert_eq!(ids(&memory).len(), 997, "nothing has taken its place");
        for cut in before..=steps.len() {
            let (mut memory, _) = LogMemory::load(content(&steps[..cut])).unwrap();
            // The snapshot was durable before the log was told to purge.
            memory.go_on_from(snapshot);
            assert!(memory.has(snapshot), "after a crash at {cut}");
            assert!(ids(&memory).iter().all(|id| id.leader_id.term == 3), "after a crash at {cut}");
        }
        let (memory, _) = LogMemory::load(content(&steps)).unwrap();
        assert_eq!((memory.purged, ids(&memory)), (Some(snapshot), vec![log_id(3, reaches + 1)]));
    }
}

/// What a killed process wrote is read again, whether it was synced or not, and counts as acknowledged from then on.
#[tokio::test]
async fn what_is_read_at_the_start_is_durable_before_anything_is_said_of_it() {
    let written = Step::Write(vec![Change::Mark(Mark::Committed, marks::encode_log_id(None))]);
    let engine = FakeEngine::with_steps(vec![written]);
    let (log, _) = engine.open();
    assert_eq!(engine.syncs(), 1);
    log.close().await;
    engine.set_mood(Mood::FailsToSync);
    assert!(engine.try_open(&Blocking::on_threads()).is_err());
}

#[tokio::test]
async fn a_log_goes_on_from_a_snapshot_unless_it_has_its_last_entry() {
    for (snapshot, stays) in [
        (log_id(1, 3), true),
        (log_id(1, 9), true),
        (log_id(2, 9), false),
        (log_id(2, 7), false),
        (log_id(1, 12), false),
        (log_id(2, 12), false),
        // Purged before.
        (log_id(1, 1), true),
    ] {
        let engine = FakeEngine::new();
        let (mut log, _) = engine.open();
        append(&mut log, 1, 0..10).await.await.unwrap().unwrap();
        log.purge(log_id(1, 2)).await.unwrap();
        log.go_on_from(snapshot).await.unwrap();
        log.close().await;
        let (memory, _) = LogMemory::load(content(&engine.steps())).unwrap();
        let expected = if stays { (log_id(1, 2), 7) } else { (snapshot, 0) };
        assert_eq!((memory.purged.unwrap(), ids(&memory).len()), expected, "{snapshot}");
    }
    let (log, _) = FakeEngine::new().open();
    log.go_on_from(log_id(1, 3)).await.unwrap();
    assert_eq!(log.end(), None, "openraft purges a log without entries by itself");
}

#[test]
fn a_mark_that_names_an_entry_that_is_not_here_counts_for_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = FakeEngine::new();
    runtime.block_on(async {
        let (mut log, _) = engine.open();
        append(&mut log, 1, 0..10).await.await.unwrap().unwrap();
        log.close().await;
    });
    for (mark, counts) in [(log_id(1, 9), true), (log_id(2, 7), false), (log_id(1, 10), false)] {
        let mut loaded = content(&engine.steps());
        loaded.marks = vec![(Mark::Committed, marks::encode_log_id(Some(mark)))];
        let (memory, _) = LogMemory::load(loaded).unwrap();
        assert_eq!(memory.committed, counts.then_some(mark), "{mark}");
    }
}

#[test]
fn a_hole_or_a_damaged_entry_is_noticed_at_the_start() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = FakeEngine::new();
    runtime.block_on(async {
        let (mut log, _) = engine.open();
        append(&mut log, 1, 0..10).await.await.unwrap().unwrap();
        log.close().await;
    });
    let whole = || content(&engine.steps());
    assert!(LogMemory::load(whole()).is_ok());
    let mut hole = whole();
    hole.records.remove(4);
    assert!(matches!(LogMemory::load(hole), Err(LoadError::Hole { expected: 4, found: 5 })));
    let mut headless = whole();
    headless.records.remove(0);
    assert!(LogMemory::load(headless).is_err());
    let mut damaged = whole();
    let mut bytes = damaged.records[7].bytes.to_vec();
    bytes[3] ^= 1;
    damaged.records[7].bytes = bytes.into();
    assert!(matches!(LogMemory::load(damaged), Err(LoadError::Entry(7, _))));
    let mark = Loaded { marks: vec![(Mark::Vote, vec![1; 25])], ..whole() };
    assert!(matches!(LogMemory::load(mark), Err(LoadError::Mark(Mark::Vote, _))));
}

#[tokio::test]
async fn what_an_interrupted_purge_left_is_deleted_later_and_never_comes_back() {
    let engine = FakeEngine::new();
    let (mut log, _) = engine.open();
    append(&mut log, 1, 0..2_500).await.await.unwrap().unwrap();
    log.purge(log_id(1, 2_399)).await.unwrap();
    log.close().await;
    // The crash: right after the mark, before any deletion.
    let marked = Change::Mark(Mark::Purged, marks::encode_log_id(Some(log_id(1, 2_399))));
    let at = engine
        .steps()
        .iter()
        .position(|step| matches!(step, Step::Write(changes) if changes.contains(&marked)))
        .unwrap();
    let crashed = FakeEngine::with_steps(engine.steps()[..=at].to_vec());
    assert_eq!(content(&crashed.steps()).records.len(), 2_500);
    let (mut log, _) = crashed.open();
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 100);
    append(&mut log, 1, [2_500]).await.await.unwrap().unwrap();
    let mut deletions = vec![];
    for _ in 0..2_000 {
        deletions = crashed.steps().iter().map(deleted).filter(|count| *count > 0).collect();
        if deletions.iter().sum::<usize>() == 2_400 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(deletions.iter().sum::<usize>(), 2_400);
    assert!(deletions.iter().all(|count| *count <= 128), "little by little: {deletions:?}");
}

fn deleted(step: &Step) -> usize {
    match step {
        Step::Write(changes) => {
            changes.iter().filter(|change| matches!(change, Change::Delete { .. })).count()
        }
        Step::Sync => 0,
    }
}

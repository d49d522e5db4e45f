use crate::cluster::{Cluster, PATIENCE, command, eventually, simulate};
use crate::disk::MemoryDisk;
use futures::future::join_all;
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::members::{MemberChange, MemberError, RefusalKind};
use mux_raft::replica::SnapshotConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Commands under way at the same time.
const AT_ONCE: u64 = 20;

/// Commits this many, half at the leader and half at a follower.
async fn commit(cluster: &Cluster, commands: u64) {
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for _ in 0..commands / AT_ONCE {
        let under_way = (0..AT_ONCE)
            .map(|number| cluster.commit(if number % 2 == 0 { leader } else { follower }, command()));
        join_all(under_way).await;
    }
}

/// None of the threads that a replica has in production. The names are cut by the system.
fn threads_of_a_replica() -> Vec<String> {
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| ["mux-log", "archive", "tokio"].iter().any(|own| name.contains(own))).collect()
}

#[test]
fn three_replicas_on_one_thread_commit_what_leader_and_follower_propose() {
    let ((), took) = simulate(async {
        let mut cluster = Cluster::start(3).await;
        commit(&cluster, 1_000).await;
        let (index, _) = cluster.converged().await;
        assert!(index > 1_000);
        assert_eq!(threads_of_a_replica(), Vec::<String>::new());
        cluster.stop_all().await;
        assert!(cluster.disks.values().all(|disk| !disk.is_unsynced()), "an orderly end syncs all");
    });
    assert!(took > Duration::from_millis(300), "an election and a thousand commands take time: {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn the_feature_level_rises_although_members_answer_late() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        for address in cluster.members.values() {
            cluster.wires.slow_standings(address, Duration::from_secs(2));
        }
        assert!((1..=3).all(|id| cluster.status(id).feature_level == 1), "it is too late to see anything");
        cluster.at_the_highest_level().await;
        cluster.stop_all().await;
    });
}

/// One member answers at once, another after seconds. Meanwhile the first is started with an older program again: its answer
/// was once counted all the same, and the level left it behind.
#[test]
fn nobody_who_goes_back_to_an_older_program_while_others_are_waited_for_is_left_behind() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
        let (late, back) = (others[0], others[1]);
        cluster.wires.slow_standings(&cluster.members[&late], Duration::from_secs(3));
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(cluster.status(leader).feature_level, 1, "it is too late to see anything");
        cluster.stop(back).await;
        cluster.older.insert(back, 1);
        cluster.start_one(back).await;
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            let level = cluster.status(leader).feature_level;
            assert_eq!(level, 1, "replica {back} knows no higher level");
            sleep(Duration::from_millis(50)).await;
        }
        cluster.stop(back).await;
        cluster.older.clear();
        cluster.start_one(back).await;
        cluster.at_the_highest_level().await;
        cluster.stop_all().await;
    });
}

/// Whoever asked for the change waits for so long only, and is to hear the refusal, not that the outcome is unknown.
#[test]
fn a_newcomer_that_is_not_there_is_refused_in_time_however_late_that_is_known() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        cluster.at_the_highest_level().await;
        let (leader, address) = (cluster.leader().await, "nobody:1");
        for late in [Duration::ZERO, Duration::from_millis(2_900), Duration::from_secs(60)] {
            cluster.wires.slow_standings(address, late);
            let asked = Instant::now();
            let change = MemberChange::AddLearner { id: 4, address: address.into() };
            let answer = cluster.running[&leader].change_members(change).await;
            let Err(MemberError::Refused(refusal)) = answer else { panic!("{late:?}: {answer:?}") };
            assert_eq!(refusal.kind, RefusalKind::NotYet, "{refusal:?}");
            assert!(asked.elapsed() < Duration::from_millis(5_500), "{late:?}: after {:?}", asked.elapsed());
        }
        cluster.stop_all().await;
    });
}

/// A process that stood still may wake when the time that a proposal has is over.
#[test]
fn a_proposal_whose_time_is_over_is_not_written() {
    simulate(async {
        let mut cluster = Cluster::prepare(3);
        cluster.timing.propose = Duration::ZERO;
        cluster.start_all().await;
        // The leader's first entry is none of a proposal's.
        eventually("the new leader has written", || (1..=3).all(|id| cluster.status(id).applied >= 2)).await;
        let leader = cluster.leader().await;
        let before = cluster.status(leader).last_log_index;
        let answer = cluster.running[&leader].propose(command(), None).await;
        assert!(matches!(answer, Err(ProposeError::Unavailable(_))), "{answer:?}");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(cluster.status(leader).last_log_index, before);
        cluster.stop_all().await;
    });
}

/// What a snapshot names of the archive was once fetched from those only who were members when it was made.
#[test]
fn a_newcomer_catches_up_by_a_snapshot_that_names_nobody_who_is_still_there() {
    simulate(async {
        let mut cluster = Cluster::prepare(1);
        cluster.snapshot = SnapshotConfig { logs_since_last: 100, keep_logs: 1, purge_batch: 1 };
        cluster.start_all().await;
        cluster.at_the_highest_level().await;
        cluster.archive(1, 0..60).await;
        eventually("the log begins after a snapshot", || cluster.status(1).purged > 50).await;
        for (leaving, joining) in [(1, 2), (2, 3)] {
            cluster.members.insert(joining, format!("replica-{joining}:1"));
            cluster.disks.insert(joining, MemoryDisk::new(u8::try_from(joining).unwrap()));
            cluster.archives.insert(joining, Arc::default());
            cluster.start_one(joining).await;
            let address = cluster.members[&joining].clone();
            for (asked, change) in [
                (leaving, MemberChange::AddLearner { id: joining, address }),
                (leaving, MemberChange::Promote { id: joining }),
                (joining, MemberChange::Remove { id: leaving, force: true }),
            ] {
                let until = Instant::now() + PATIENCE;
                while let Err(error) = cluster.running[&asked].change_members(change.clone()).await {
                    assert!(Instant::now() < until, "{change:?}: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
            let made = cluster.status(leaving).snapshot;
            assert_eq!(
                cluster.status(joining).snapshot,
                made,
                "there is a newer one, which names who is there"
            );
            cluster.stop(leaving).await;
            cluster.members.remove(&leaving);
        }
        assert!(cluster.running[&3].archive_records_fetched() >= 20, "with the archive");
        cluster.stop_all().await;
    });
}

#[test]
fn a_replica_that_is_restarted_has_what_it_had_and_catches_up() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        commit(&cluster, 100).await;
        cluster.converged().await;
        let restarted = cluster.follower().await;
        let before = cluster.status(restarted).applied;
        cluster.stop(restarted).await;
        commit(&cluster, 100).await;
        cluster.start_one(restarted).await;
        // The last of what was known to be committed is learnt again from the leader.
        let state = cluster.running[&restarted].cell();
        assert!(state.read(|state| state.applied().index) + 20 >= before);
        cluster.leader().await;
        let (index, _) = cluster.converged().await;
        assert!(index >= before + 100);
        cluster.stop_all().await;
    });
}

#[test]
fn the_whole_cluster_comes_back_after_all_were_stopped() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        commit(&cluster, 100).await;
        let before = cluster.converged().await;
        cluster.stop_all().await;
        cluster.start_all().await;
        // Alike they are at once, with what they knew to be committed; then comes the new leader's first entry.
        eventually("they go on", || cluster.running.keys().all(|id| cluster.status(*id).applied > before.0))
            .await;
        cluster.converged().await;
        cluster.stop_all().await;
    });
}

/// A replica is away while the others archive invoices, make snapshots and purge the log it would need. It is started
/// again and has all of it.
pub(crate) async fn come_back_by_snapshot() {
    let mut cluster = Cluster::prepare(3);
    cluster.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 10, purge_batch: 1 };
    cluster.start_all().await;
    cluster.at_the_highest_level().await;
    let lagging = cluster.follower().await;
    let behind = cluster.status(lagging).applied;
    cluster.stop(lagging).await;
    let leader = cluster.leader().await;
    cluster.archive(leader, 0..100).await;
    commit(&cluster, 1_200).await;
    eventually("the leader's log begins after what the other has", || {
        cluster.status(leader).purged > behind + 1_000
    })
    .await;
    cluster.start_one(lagging).await;
    cluster.converged().await;
    eventually("it came by snapshot", || cluster.status(lagging).snapshot > behind).await;
    assert!(cluster.running[&lagging].archive_records_fetched() >= 100, "with the archive");
    let ends = [lagging, leader].map(|id| cluster.running[&id].cell().archive().end().unwrap());
    assert_eq!(ends[0], ends[1]);
    cluster.stop_all().await;
}

#[test]
fn a_replica_that_lags_behind_the_purged_log_catches_up_by_snapshot_and_archive() {
    simulate(come_back_by_snapshot());
}

#[test]
fn a_leader_that_stops_is_replaced() {
    simulate(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        cluster.stop(leader).await;
        assert_ne!(cluster.leader().await, leader);
        commit(&cluster, 20).await;
        cluster.stop_all().await;
    });
}

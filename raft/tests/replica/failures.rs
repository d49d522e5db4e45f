use crate::cluster::{Cluster, PATIENCE, command, eventually};
use crate::engine::Faults;
use futures::future::join_all;
use mux_raft::consensus::{Consensus as _, ProposeError};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn with_faults(cluster: &mut Cluster) -> Vec<Faults> {
    let faults: Vec<Faults> = cluster.configs.keys().map(|_| Faults::default()).collect();
    cluster.engines =
        cluster.configs.keys().copied().zip(faults.iter().map(|one| Arc::new(one.clone()) as _)).collect();
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_proposals_and_reads_end_as_unavailable_in_time() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    cluster.stop(others[0]).await;
    cluster.commit(leader).await;
    cluster.stop(others[1]).await;
    eventually("the leader notices", || !cluster.status(leader).leads && !cluster.status(leader).quorum)
        .await;
    // Until its lease ends it may still append what it then cannot commit: those end as unknown.
    let unavailable =
        async { while !matches!(cluster.propose(leader).await, Err(ProposeError::Unavailable(_))) {} };
    tokio::time::timeout(PATIENCE, unavailable).await.expect("its lease ends");
    let started = Instant::now();
    let (proposed, read) = tokio::join!(cluster.propose(leader), cluster.replica(leader).read_barrier());
    assert!(matches!(proposed, Err(ProposeError::Unavailable(_))), "{proposed:?}");
    assert!(matches!(read, Err(ProposeError::Unavailable(_))), "{read:?}");
    assert!(started.elapsed() < Duration::from_secs(8), "within the deadline of 5 s");
    cluster.start_one(others[0]).await;
    cluster.commit(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_is_not_committed_in_time_is_unknown_and_may_still_be_committed() {
    let mut cluster = Cluster::prepare(1);
    let faults = with_faults(&mut cluster);
    cluster.configs.get_mut(&1).unwrap().timing.propose = Duration::from_millis(500);
    cluster.start_all().await;
    cluster.commit(1).await;
    let applied = || cluster.replica(1).state().read(|state| state.applied().index);
    faults[0].hold();
    // The leader's tick may be the one that waits.
    let proposed = cluster.propose(1).await;
    assert!(matches!(proposed, Err(ProposeError::Unknown(_))), "{proposed:?}");
    assert!(faults[0].holds());
    let before = applied();
    let last = cluster.status(1).last_log_index;
    assert!(last > before, "it is in the log, but not applied before it is durable");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(applied(), before, "nor later");
    faults[0].release();
    eventually("it is committed after all", || applied() >= last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_io_error_stops_the_replica_and_the_others_go_on() {
    let mut cluster = Cluster::prepare(3);
    let faults = with_faults(&mut cluster);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    faults[usize::try_from(leader).unwrap() - 1].fail();
    // Its followers alone may commit it; the leader's own disk does not count then.
    let _ = cluster.propose(leader).await;
    let reason = tokio::time::timeout(PATIENCE, cluster.replica(leader).stopped()).await.unwrap();
    assert!(reason.contains("syncing the log: Input/output error"), "{reason}");
    eventually("it says so", || cluster.status(leader).fatal.as_deref() == Some(reason.as_str())).await;
    assert!(!cluster.status(leader).leads);
    let refused = cluster.propose(leader).await;
    assert!(matches!(refused, Err(ProposeError::Fatal(_))), "{refused:?}");
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    cluster.commit(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_proposals_share_syncs() {
    let mut cluster = Cluster::prepare(3);
    let faults = with_faults(&mut cluster);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.commit(follower).await;
    let before: Vec<(usize, usize)> = faults.iter().map(Faults::counts).collect();
    let started = Instant::now();
    for id in [leader, follower] {
        join_all((0..500).map(|_| cluster.commit(id))).await;
    }
    println!("1000 proposals in {:?}", started.elapsed());
    for (id, (faults, (puts, syncs))) in (1..).zip(faults.iter().zip(before)) {
        let (puts, syncs) = (faults.counts().0 - puts, faults.counts().1 - syncs);
        println!("replica {id}: {puts} entries, {syncs} syncs");
        assert!(id != leader || puts >= 1_000);
        assert!(syncs * 3 < puts.max(900), "replica {id}: {syncs} syncs for {puts} entries");
    }
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_leader_acknowledges_nothing_and_follows_when_it_returns() {
    let cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    let committed = cluster.commit(old).await;
    cluster.isolate(old);
    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    let proposed = cluster.propose(old).await;
    assert!(matches!(proposed, Err(ProposeError::Unknown(_) | ProposeError::Unavailable(_))), "{proposed:?}");
    assert!(cluster.replica(old).read_barrier().await.is_err(), "no stale linearizable read");
    let new = cluster.leader_among(&others).await;
    let next = cluster.commit(new).await;
    assert!(next.at.term > committed.at.term && next.at.index > committed.at.index);
    assert!(!cluster.status(old).quorum);
    cluster.links.heal();
    cluster.leader().await;
    cluster.commit(old).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_to_a_replica_that_was_shut_down_end_at_once() {
    let mut cluster = Cluster::start(1).await;
    cluster.commit(1).await;
    let replica = cluster.running.remove(&1).unwrap();
    let under_way = (0..50).map(|_| replica.propose(command(), None));
    let (results, ()) = tokio::join!(join_all(under_way), replica.shutdown());
    for result in results {
        assert!(!matches!(result, Err(ProposeError::Unavailable(_))), "{result:?}");
    }
    let started = Instant::now();
    let refused = replica.propose(command(), None).await;
    assert!(matches!(refused, Err(ProposeError::Fatal(_))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
    replica.shutdown().await;
}

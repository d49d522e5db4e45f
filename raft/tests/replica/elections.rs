use crate::cluster::{Cluster, command, eventually, request_id, timing};
use mux_raft::consensus::Consensus as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_single_replica_commits_and_recovers() {
    let mut cluster = Cluster::start(1).await;
    let first = cluster.commit(1).await;
    cluster.stop(1).await;
    cluster.start_one(1).await;
    assert_eq!(cluster.leader().await, 1);
    let second = cluster.commit(1).await;
    assert!(second.at.index > first.at.index && second.at.term > first.at.term, "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_elect_and_take_proposals_anywhere() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for id in 1..=3 {
        let committed = cluster.commit(id).await;
        let applied = cluster.replica(id).state().read(|state| state.applied());
        assert!(applied >= committed.at, "applied where it was proposed");
        assert_eq!(committed.at.term, cluster.status(leader).term);
    }
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_the_leader_and_it_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for _ in 0..20 {
        cluster.commit(leader).await;
    }
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    let committed = cluster.commit(next).await;
    cluster.start_one(leader).await;
    cluster.leader().await;
    cluster.commit(leader).await;
    let (index, _) = cluster.converged().await;
    assert!(index > committed.at.index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_recovers_the_same_state() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for number in 0..50 {
        cluster.ask_as(leader, command(), request_id(number)).await;
    }
    let (before, _) = cluster.converged().await;
    cluster.stop_all().await;
    cluster.start_all().await;
    cluster.leader().await;
    cluster.replica(1).read_barrier().await.unwrap();
    let recovered = cluster.replica(1).state().read(|state| state.applied().index);
    assert!(recovered >= before, "{recovered} < {before}");
    cluster.commit(2).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_replica_does_not_depose_the_leader_when_it_returns() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let term = cluster.status(leader).term;
    cluster.isolate(follower);
    eventually("the isolated follower knows that it is alone", || !cluster.status(follower).quorum).await;
    // Several election timeouts: without pre-vote its term would grow meanwhile.
    tokio::time::sleep(timing().election_max * 4).await;
    assert_eq!(cluster.status(follower).term, term, "it asks before it runs");
    cluster.links.heal();
    let committed = cluster.commit(follower).await;
    assert_eq!(committed.at.term, term);
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.status(leader).term, term);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_barrier_at_a_follower_waits_for_what_was_committed_before() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    for _ in 0..50 {
        let committed = cluster.commit(leader).await;
        let index = cluster.replica(follower).read_barrier().await.unwrap();
        assert!(index >= committed.at.index);
        let applied = cluster.replica(follower).state().read(|state| state.applied().index);
        assert!(applied >= committed.at.index);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_request_is_applied_once() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let first = cluster.ask_as(leader, command(), request_id(1)).await;
    let follower = cluster.follower().await;
    let again = cluster.ask_as(follower, command(), request_id(1)).await;
    assert_eq!(first.reply, again.reply);
    assert!(again.at > first.at);
}

/// Whoever looks at a replica that has just begun to lead, or at any other, must not see more applied than committed.
#[tokio::test(flavor = "multi_thread")]
async fn no_status_says_that_more_is_applied_than_committed() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let watch = |cluster: &Cluster, id: u64| {
        let mut statuses = cluster.replica(id).status();
        tokio::spawn(async move {
            let mut seen = 0;
            while statuses.changed().await.is_ok() {
                let (applied, committed) = {
                    let status = statuses.borrow_and_update();
                    (status.applied, status.committed)
                };
                assert!(applied <= committed, "applied {applied}, committed {committed}");
                seen += 1;
            }
            seen
        })
    };
    let mut watches: Vec<_> = (1..=3).map(|id| watch(&cluster, id)).collect();
    for _ in 0..100 {
        cluster.commit(leader).await;
    }
    cluster.stop(leader).await;
    cluster.start_one(leader).await;
    watches.push(watch(&cluster, leader));
    let next = cluster.leader().await;
    for _ in 0..100 {
        cluster.commit(next).await;
    }
    cluster.stop_all().await;
    drop(cluster);
    for watch in watches {
        assert!(watch.await.unwrap() > 10);
    }
}

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::consensus::{Consensus as _, ProposeError};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_to_the_voter_that_was_asked_for() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let target = cluster.follower().await;
    let moved = cluster.replica(leader).transfer_leader(Some(target)).await.unwrap();
    assert_eq!(moved, target);
    eventually("all know it", || (1..=3).all(|id| cluster.status(id).leader == Some(target))).await;
    cluster.commit(leader).await;
    let anybody = cluster.replica(target).transfer_leader(None).await.unwrap();
    assert_ne!(anybody, target);
    eventually("all know it", || (1..=3).all(|id| cluster.status(id).leader == Some(anybody))).await;
    let bystander = (1..=3).find(|id| *id != anybody).unwrap();
    let next = cluster.replica(bystander).transfer_leader(Some(bystander)).await.unwrap();
    assert_eq!(next, bystander, "any replica passes the wish on");
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_not_handed_to_itself_a_stranger_or_one_that_is_gone() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let gone = cluster.follower().await;
    cluster.stop(gone).await;
    for target in [leader, 9, gone] {
        let refused = cluster.replica(leader).transfer_leader(Some(target)).await;
        assert!(matches!(refused, Err(ProposeError::Unavailable(_))), "{target}: {refused:?}");
    }
    assert_eq!(cluster.leader().await, leader, "and nothing has happened");
    cluster.commit(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_clock_five_hours_ahead_moves_no_timer_and_costs_it_the_lead() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let log_time = || cluster.replica(1).state().read(|state| state.time_ms());
    let before = log_time();
    assert!(before > 1_700_000_000_000, "log time is wall time: {before}");
    cluster.clocks[&leader].set_offset_ms(5 * 3_600_000);
    tokio::time::timeout(PATIENCE, async {
        loop {
            let _ = cluster.propose(leader).await;
            let advanced = log_time() - before;
            assert!(advanced < 60_000, "log time jumped by {advanced} ms");
            if cluster.status(leader).leader.is_some_and(|now| now != leader) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it hands over");
    cluster.commit(leader).await;
    assert!(log_time() - before < 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_clock_hours_behind_never_turns_log_time_back_and_costs_it_the_lead() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let log_time = || cluster.replica(1).state().read(|state| state.time_ms());
    let before = log_time();
    cluster.clocks[&leader].set_offset_ms(-7 * 3_600_000);
    let mut last = before;
    tokio::time::timeout(PATIENCE, async {
        while cluster.status(leader).leader.is_none_or(|now| now == leader) {
            let _ = cluster.propose(leader).await;
            let now = log_time();
            assert!(now >= last && now - before < 60_000, "from {last} to {now}, {before} at first");
            last = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it hands over");
    cluster.commit(leader).await;
    assert!(log_time() >= last && log_time() - before < 60_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_clock_that_jumps_by_hours_changes_nothing_and_the_leader_stays() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let log_time = || cluster.replica(leader).state().read(|state| state.time_ms());
    let (before, term) = (log_time(), cluster.status(leader).term);
    let follower = cluster.follower().await;
    for hours in [9, -9, 0] {
        cluster.clocks[&follower].set_offset_ms(hours * 3_600_000);
        let from = log_time();
        // Clocks are compared once a second.
        eventually("log time goes on", || log_time() >= from + 2_000).await;
        assert!(log_time() - before < 60_000, "{hours}");
        cluster.commit(follower).await;
    }
    assert_eq!((cluster.status(leader).term, cluster.leader().await), (term, leader));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_time_advances_while_nobody_proposes() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let log_time = || cluster.replica(leader).state().read(|state| state.time_ms());
    let before = log_time();
    eventually("ticks", || log_time() >= before + 2_000).await;
}

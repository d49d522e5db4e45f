use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::engine::Faults;
use mux_raft::consensus::{Consensus as _, ProposeError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    let mut cluster = Cluster::prepare(3);
    for config in cluster.configs.values_mut() {
        // One that has gone counts as heard from for this long.
        config.timing.election_max = Duration::from_secs(4);
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let gone = cluster.follower().await;
    cluster.converged().await;
    cluster.isolate(gone);
    let refused = async |target| match cluster.replica(leader).transfer_leader(Some(target)).await {
        Err(ProposeError::Unavailable(reason)) => reason,
        other => panic!("{target}: {other:?}"),
    };
    // The latter if log time went on in this moment.
    let is_gone =
        |reason: &str| reason.contains("does not answer") || reason.contains("not at the tip of the log");
    let reason = refused(gone).await;
    assert!(is_gone(&reason), "{reason}");
    let reason = refused(leader).await;
    assert!(reason.contains("leads already"), "{reason}");
    let reason = refused(9).await;
    assert!(reason.contains("is not a voter"), "{reason}");
    cluster.stop(gone).await;
    let reason = cluster.replica(leader).transfer_leader(Some(gone)).await.unwrap_err().to_string();
    assert!(is_gone(&reason), "{reason}");
    assert_eq!(cluster.leader().await, leader, "and nothing has happened");
    cluster.commit(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_one_that_cannot_lead_ends_with_an_error_and_with_a_leader() {
    let mut cluster = Cluster::prepare(3);
    let faults: BTreeMap<u64, Faults> = (1..=3).map(|id| (id, Faults::default())).collect();
    cluster.engines = faults.iter().map(|(id, one)| (*id, Arc::new(one.clone()) as _)).collect();
    cluster.start_all().await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let target = cluster.follower().await;
    let started = Instant::now();
    let message = loop {
        assert!(started.elapsed() < PATIENCE);
        let leader = cluster.leader_among(&[1, 2, 3]).await;
        assert_ne!(leader, target);
        cluster.converged().await;
        // It answers and has all entries, but cannot store its own vote.
        faults[&target].hold();
        let moved = cluster.replica(leader).transfer_leader(Some(target)).await;
        let Err(ProposeError::Unavailable(message)) = moved else { panic!("{moved:?}") };
        // An entry came between: it is not tried at all.
        if !message.contains("at the tip of the log") {
            break message;
        }
        faults[&target].release();
    };
    let others: Vec<u64> = (1..=3).filter(|id| *id != target).collect();
    let now = cluster.leader_among(&others).await;
    cluster.commit(now).await;
    assert!(
        message.contains(&format!("replica {target} did not take over; replica {now} leads now")),
        "{message}"
    );
    faults[&target].release();
    cluster.leader().await;
    cluster.converged().await;
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

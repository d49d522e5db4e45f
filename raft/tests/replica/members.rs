use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::Command;
use mux_raft::members::{MemberChange, MemberError, RefusalKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn remove(id: u64) -> MemberChange {
    MemberChange::Remove { id, force: false }
}

fn force(id: u64) -> MemberChange {
    MemberChange::Remove { id, force: true }
}

/// Asks for a change that must be refused, and returns what was said.
async fn refused(cluster: &Cluster, asked: u64, change: MemberChange) -> (RefusalKind, String) {
    match cluster.replica(asked).change_members(change.clone()).await {
        Err(MemberError::Refused(refusal)) => (refusal.kind, refusal.text),
        other => panic!("{change:?}: {other:?}"),
    }
}

async fn raised(cluster: &Cluster) {
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let level = || cluster.status(leader).feature_level;
    eventually("the level rises", || level() >= Command::RetireReplica { replica: 1 }.level()).await;
}

/// Waits until the leader misses a member.
async fn missed(cluster: &Cluster, leader: u64, id: u64) {
    let started = Instant::now();
    while cluster.replica(leader).members().await.unwrap().iter().any(|view| view.id == id && view.reachable)
    {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn members(cluster: &Cluster, asked: u64) -> Vec<(u64, bool)> {
    cluster.status(asked).members.iter().map(|(id, member)| (*id, member.voter)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_learns_before_it_votes_and_every_refusal_reaches_whoever_asked() {
    let mut cluster = Cluster::founded(3, 4).await;
    raised(&cluster).await;
    let follower = cluster.follower().await;
    let address = cluster.configs[&4].listen.to_string();
    let add = |address: &str| MemberChange::AddLearner { id: 4, address: address.into() };
    let (kind, text) = refused(&cluster, follower, add(&address)).await;
    assert!(kind == RefusalKind::NotYet && text.contains("start it before it is added"), "{text}");
    cluster.start_one(4).await;
    // The founders' address is answered by a founder, whose certificate says so.
    let (_, text) = refused(&cluster, follower, add("127.0.0.1:1")).await;
    assert!(text.contains("replica 4 at 127.0.0.1:1 does not answer"), "{text}");
    cluster.replica(follower).change_members(add(&address)).await.unwrap();
    eventually("a learner", || members(&cluster, follower).contains(&(4, false))).await;
    let list = cluster.replica(follower).members().await.unwrap();
    assert!(list.iter().any(|view| view.id == 4 && !view.voter), "{list:?}");
    assert_eq!(list.iter().filter(|view| view.leader).count(), 1);
    cluster.join(follower, 4).await;
    eventually("a voter", || members(&cluster, 4) == [(1, true), (2, true), (3, true), (4, true)]).await;
    let (kind, text) = refused(&cluster, 4, MemberChange::Promote { id: 9 }).await;
    assert!(kind == RefusalKind::NotFound && text.contains("member add 9"), "{text}");
    let warnings = cluster.replica(4).change_members(remove(1)).await.unwrap().warnings;
    assert_eq!(warnings, Vec::<String>::new());
    let (kind, text) = refused(&cluster, 4, MemberChange::AddLearner { id: 1, address }).await;
    assert!(kind == RefusalKind::Exists && text.contains("replica 1 was removed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_behind_or_gone_is_not_promoted() {
    let mut cluster = Cluster::founded(3, 4).await;
    let leader = cluster.leader().await;
    cluster.start_one(4).await;
    let address = cluster.configs[&4].listen.to_string();
    cluster.replica(leader).change_members(MemberChange::AddLearner { id: 4, address }).await.unwrap();
    eventually("it learns", || members(&cluster, 4).contains(&(4, false))).await;
    eventually("and the leader knows", || cluster.status(leader).matched.get(&4).is_some_and(|at| *at > 0))
        .await;
    cluster.stop(4).await;
    missed(&cluster, leader, 4).await;
    let (kind, text) = refused(&cluster, leader, MemberChange::Promote { id: 4 }).await;
    assert!(kind == RefusalKind::NotYet && text.contains("replica 4 does not answer"), "{text}");
    for _ in 0..150 {
        cluster.commit(leader).await;
    }
    let list = cluster.replica(leader).members().await.unwrap();
    let view = list.iter().find(|view| view.id == 4).unwrap();
    assert!(!view.reachable && view.lag.is_some_and(|lag| lag >= 150), "{view:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_is_replaced_under_a_new_id_while_load_goes_on() {
    let mut cluster = Cluster::founded(3, 4).await;
    raised(&cluster).await;
    let dead = cluster.follower().await;
    let asked = (1..=3).find(|id| *id != dead).unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (replica, stop, done) =
            (Arc::clone(&cluster.running[&asked]), Arc::clone(&stop), Arc::clone(&done));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let committed = replica.propose(crate::cluster::command(), None).await;
                done.fetch_add(u64::from(committed.is_ok()), Ordering::Relaxed);
            }
        })
    };
    cluster.stop(dead).await;
    cluster.start_one(4).await;
    cluster.join(asked, 4).await;
    let before = done.load(Ordering::Relaxed);
    assert!(before > 0);
    cluster.replica(asked).change_members(remove(dead)).await.unwrap();
    eventually("load goes on", || done.load(Ordering::Relaxed) > before + 20).await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let (_, text) = refused(
        &cluster,
        asked,
        MemberChange::AddLearner { id: dead, address: cluster.configs[&dead].listen.to_string() },
    )
    .await;
    assert!(text.contains("an id never comes back"), "{text}");
    // It carries the cluster when another goes.
    let other = (1..=3).find(|id| ![asked, dead].contains(id)).unwrap();
    cluster.stop(other).await;
    cluster.commit(4).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_hands_over_first_and_stays_quiet_afterwards() {
    let mut cluster = Cluster::founded(4, 4).await;
    raised(&cluster).await;
    let leader = cluster.leader().await;
    cluster.replica(leader).change_members(remove(leader)).await.unwrap();
    let others: Vec<u64> = (1..=4).filter(|id| *id != leader).collect();
    let next = cluster.leader_among(&others).await;
    let term = cluster.status(next).term;
    eventually("it notices", || cluster.status(leader).removed.is_some()).await;
    let reason = cluster.status(leader).removed.unwrap();
    assert!(reason.contains("was removed from the cluster"), "{reason}");
    assert!(!cluster.status(leader).quorum && !cluster.status(leader).leads);
    assert_eq!(cluster.status(leader).fatal, None);
    // Started again, it finds out again, and disturbs nobody meanwhile.
    cluster.stop(leader).await;
    cluster.start_one(leader).await;
    eventually("it notices again", || cluster.status(leader).removed.is_some()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((cluster.status(next).term, cluster.status(next).leader), (term, Some(next)));
    // With a new disk it is refused all the same.
    cluster.stop(leader).await;
    std::fs::remove_dir_all(&cluster.configs[&leader].data_dir).unwrap();
    cluster.start_one(leader).await;
    let reason = tokio::time::timeout(PATIENCE, cluster.replica(leader).stopped()).await.unwrap();
    assert!(reason.contains("join under a new"), "{reason}");
    cluster.commit(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_cost_the_quorum_is_refused_even_with_force() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let down = cluster.follower().await;
    let healthy = (1..=3).find(|id| ![leader, down].contains(id)).unwrap();
    let (kind, text) = refused(&cluster, leader, remove(down)).await;
    assert!(kind == RefusalKind::NeedsForce && text.contains("the next failure stops the cluster"), "{text}");
    cluster.stop(down).await;
    missed(&cluster, leader, down).await;
    for change in [remove(healthy), force(healthy), remove(leader), force(leader)] {
        let (kind, text) = refused(&cluster, healthy, change).await;
        assert_eq!(kind, RefusalKind::Impossible, "{text}");
        assert!(text.contains(&format!("bring back, or remove, replica {down}")), "{text}");
    }
    cluster.commit(healthy).await;
    let warnings = cluster.replica(healthy).change_members(remove(down)).await.unwrap().warnings;
    assert!(warnings[0].contains("2 of 2 voters answer, 2 are needed"), "{warnings:?}");
    let (kind, text) = refused(&cluster, healthy, remove(leader)).await;
    assert!(kind == RefusalKind::NeedsForce && text.contains("1 of 1 voters answer"), "{text}");
    let warnings = cluster.replica(healthy).change_members(force(leader)).await.unwrap().warnings;
    assert!(warnings[0].contains("1 of 1 voters answer"), "{warnings:?}");
    let (kind, text) = refused(&cluster, healthy, force(healthy)).await;
    assert!(kind == RefusalKind::Impossible && text.contains("last voter"), "{text}");
    cluster.commit(healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_at_a_time() {
    let mut cluster = Cluster::founded(3, 5).await;
    let leader = cluster.leader().await;
    cluster.start_one(4).await;
    cluster.start_one(5).await;
    let change = |id: u64| {
        let (replica, address) =
            (Arc::clone(&cluster.running[&leader]), cluster.configs[&id].listen.to_string());
        async move { replica.change_members(MemberChange::AddLearner { id, address }).await }
    };
    let started = Instant::now();
    loop {
        let outcomes = [tokio::spawn(change(4)), tokio::spawn(change(5)), tokio::spawn(change(4))];
        let outcomes = futures::future::join_all(outcomes).await;
        let done = outcomes.into_iter().all(|outcome| match outcome.unwrap() {
            Ok(_) => true,
            Err(MemberError::Refused(refusal)) => {
                assert!(refusal.text.contains("another change of the members is under way"), "{refusal}");
                false
            }
            Err(error) => panic!("{error}"),
        });
        if done {
            break;
        }
        assert!(started.elapsed() < PATIENCE);
    }
    eventually("all five", || members(&cluster, leader).len() == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_hears_who_is_about_to_stop_and_does_not_hand_leadership_to_him() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let leaving = cluster.follower().await;
    cluster.replica(leaving).leave();
    eventually("the leader knows", || cluster.status(leader).leaving.contains(&leaving)).await;
    let next = cluster.replica(leader).transfer_leader(None).await.unwrap();
    assert!(next != leaving && next != leader);
    eventually("the next one knows too", || cluster.status(next).leaving.contains(&leaving)).await;
}

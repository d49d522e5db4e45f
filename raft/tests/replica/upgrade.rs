use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::engine::Faults;
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::machine::{Command, State};
use mux_raft::members::MemberChange;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn level(cluster: &Cluster, id: u64) -> u16 {
    cluster.replica(id).state().read(State::feature_level)
}

fn needs_level_2() -> Command {
    Command::SetRetention { keep_finished_ms: Some(3_600_000) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_reaches_the_highest_level_by_itself() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    eventually("the level rises", || (1..=3).all(|id| level(&cluster, id) == COMMAND_FORMAT)).await;
    eventually("and all know who runs what", || {
        (1..=3).all(|id| {
            let status = cluster.status(id);
            status.feature_level == COMMAND_FORMAT
                && status.members.len() == 3
                && status.members.values().all(|member| {
                    member.program.as_ref().is_some_and(|program| {
                        program.version == env!("CARGO_PKG_VERSION")
                            && program.feature_level_max == COMMAND_FORMAT
                    })
                })
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_old_member_keeps_the_level_down_until_it_is_upgraded() {
    let mut cluster = Cluster::prepare(3);
    cluster.levels.insert(2, 1);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    // Wherever it is proposed, and whoever leads: it says who is in the way.
    let refused = async |cluster: &Cluster| {
        let mut refusal = String::new();
        for _ in 0..200 {
            refusal = match cluster.replica(2).propose(needs_level_2(), None).await {
                Err(ProposeError::Unavailable(reason)) => reason,
                other => panic!("{other:?}"),
            };
            if refusal.contains("replica 2 runs muxd") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            refusal.contains("replica 2 runs muxd") && refusal.contains("needs feature level 2"),
            "{refusal}"
        );
    };
    refused(&cluster).await;
    for _ in 0..3 {
        cluster.commit(leader).await;
    }
    let other = if leader == 3 { 1 } else { 3 };
    cluster.replica(leader).transfer_leader(Some(other)).await.unwrap();
    cluster.leader().await;
    refused(&cluster).await;
    // Several rounds of asking.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!((1..=3).all(|id| level(&cluster, id) == 1), "it works on at level 1");
    cluster.commit(other).await;
    // Nor while it is away: it may come back as it was.
    cluster.stop(2).await;
    cluster.leader().await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!([1, 3].iter().all(|id| level(&cluster, *id) == 1));
    cluster.levels.clear();
    cluster.start_one(2).await;
    eventually("the level rises", || (1..=3).all(|id| level(&cluster, id) == COMMAND_FORMAT)).await;
    let leader = cluster.leader().await;
    cluster.ask(leader, needs_level_2()).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_too_old_for_the_cluster_is_not_added() {
    let mut cluster = Cluster::prepare(2);
    for config in cluster.configs.values_mut() {
        config.initial_members.remove(&2);
    }
    cluster.start_one(1).await;
    eventually("the level rises", || level(&cluster, 1) == COMMAND_FORMAT).await;
    let address = cluster.configs[&2].listen.to_string();
    let add = MemberChange::AddLearner { id: 2, address };
    let absent = cluster.replica(1).change_members(add.clone()).await.unwrap_err();
    assert!(absent.to_string().contains("start it before it is added"), "{absent}");
    cluster.levels.insert(2, 1);
    cluster.start_one(2).await;
    let old = cluster.replica(1).change_members(add.clone()).await.unwrap_err();
    assert!(old.to_string().contains("needs muxd 0.3.0 or later; replica 2 runs muxd"), "{old}");
    assert_eq!(cluster.status(1).members.len(), 1);
    cluster.stop(2).await;
    cluster.levels.clear();
    cluster.start_one(2).await;
    cluster.join(1, 2).await;
    cluster.commit(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_too_old_stops_and_names_the_version_needed_and_does_so_again() {
    let mut cluster = Cluster::start(1).await;
    cluster.leader().await;
    let later = Command::RaiseFeatureLevel { level: COMMAND_FORMAT + 1, version: "7.8.9".into() };
    let outcome = cluster.replica(1).propose(later, None).await.unwrap_err();
    assert!(matches!(outcome, ProposeError::Unknown(_)), "it is in the log: {outcome}");
    let reason = tokio::time::timeout(PATIENCE, cluster.replica(1).stopped()).await.unwrap();
    assert!(reason.contains("needs muxd 7.8.9 or later"), "{reason}");
    eventually("the status says so", || cluster.status(1).fatal.is_some_and(|fatal| fatal == reason)).await;
    cluster.stop(1).await;
    let reason = match cluster.try_start(1).await {
        Err(error) => error.to_string(),
        Ok(replica) => tokio::time::timeout(PATIENCE, replica.stopped()).await.unwrap(),
    };
    assert!(reason.contains("needs muxd 7.8.9 or later"), "{reason}");
}

/// A cluster of one is about to rise to a new level, and the entry that says so is not durable yet when an old replica is to
/// be added. False: the level had risen before its disk could be held.
async fn an_old_one_is_added_while_the_level_rises() -> bool {
    let (mut cluster, disk) = (Cluster::prepare(2), Faults::default());
    for config in cluster.configs.values_mut() {
        config.initial_members.remove(&2);
    }
    cluster.engines.insert(1, Arc::new(disk.clone()));
    cluster.levels = BTreeMap::from([(1, 1), (2, 1)]);
    cluster.start_one(1).await;
    cluster.leader_among(&[1]).await;
    cluster.commit(1).await;
    cluster.start_one(2).await;
    cluster.stop(1).await;
    cluster.levels.remove(&1);
    cluster.start_one(1).await;
    let applied = |cluster: &Cluster| cluster.replica(1).state().read(|state| state.applied().term);
    eventually("it leads again", || {
        let status = cluster.status(1);
        status.leads && applied(&cluster) == status.term
    })
    .await;
    disk.hold();
    // It asks every second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let rises = level(&cluster, 1) == 1;
    let address = cluster.configs[&2].listen.to_string();
    let adding = cluster.replica(1).change_members(MemberChange::AddLearner { id: 2, address });
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        disk.release();
    };
    let (added, ()) = tokio::join!(adding, releasing);
    let refusal = added.unwrap_err().to_string();
    assert!(refusal.contains("needs muxd 0.3.0 or later; replica 2 runs muxd"), "{refusal}");
    assert_eq!((level(&cluster, 1), cluster.status(1).members.len()), (COMMAND_FORMAT, 1));
    cluster.stop_all().await;
    rises
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_too_old_is_not_added_either_while_the_level_rises() {
    for _ in 0..10 {
        if an_old_one_is_added_while_the_level_rises().await {
            return;
        }
    }
    panic!("it was never early enough");
}

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::consensus::Consensus as _;
use mux_raft::members::MemberChange;
use std::time::Duration;

fn wipe(cluster: &Cluster, id: u64) {
    std::fs::remove_dir_all(&cluster.configs[&id].data_dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_founded_when_a_majority_is_there_and_the_rest_joins_later() {
    let mut cluster = Cluster::prepare(3);
    cluster.start_one(1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(cluster.status(1).members.len(), 0, "one of three founds nothing");
    cluster.start_one(3).await;
    cluster.leader().await;
    cluster.commit(3).await;
    cluster.start_one(2).await;
    cluster.leader().await;
    cluster.commit(2).await;
    // The late one votes too: without it the other two would be no majority of three each.
    let leader = cluster.leader().await;
    eventually("all caught up", || {
        cluster
            .status(leader)
            .matched
            .get(&2)
            .is_none_or(|matched| *matched + 2 > cluster.status(leader).committed)
    })
    .await;
    cluster.stop(if leader == 1 { 1 } else { 3 }).await;
    let next = cluster.leader().await;
    cluster.commit(next).await;
}

/// It once waited for a founder to lead.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_finds_a_leader_that_its_configuration_does_not_name() {
    let mut cluster = Cluster::founded(3, 5).await;
    let founder = cluster.leader().await;
    cluster.start_one(4).await;
    cluster.join(founder, 4).await;
    while !cluster.status(4).leads {
        // Refused until it has caught up.
        let _ = cluster.replica(founder).transfer_leader(Some(4)).await;
        cluster.leader().await;
    }
    assert!(!cluster.configs[&5].initial_members.contains_key(&4));
    cluster.start_one(5).await;
    cluster.join(4, 5).await;
    eventually("the fifth has a vote", || {
        cluster.status(5).members.get(&5).is_some_and(|member| member.voter)
    })
    .await;
    assert!(cluster.status(4).leads, "and no founder had to lead for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_its_disk_stops_and_says_why() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let lost = cluster.follower().await;
    cluster.commit(lost).await;
    cluster.stop(lost).await;
    wipe(&cluster, lost);
    cluster.start_one(lost).await;
    let reason = tokio::time::timeout(PATIENCE, cluster.replica(lost).stopped()).await.unwrap();
    assert!(reason.contains("must join under a new id"), "{reason}");
    assert_eq!(cluster.status(leader).fatal, None, "the leader is not impressed");
    cluster.commit(leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_its_disk_does_not_vote_away_what_was_committed() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let (behind, lost) = (others[0], others[1]);
    cluster.commit(leader).await;
    cluster.stop(behind).await;
    let committed = cluster.commit(leader).await;
    cluster.stop(leader).await;
    cluster.stop(lost).await;
    wipe(&cluster, lost);
    cluster.start_one(behind).await;
    cluster.start_one(lost).await;
    // These two are a majority, but one has lost what the other never had.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!cluster.status(behind).leads && !cluster.status(lost).leads);
    cluster.start_one(leader).await;
    let now = cluster.leader_among(&[leader, behind]).await;
    assert_eq!(now, leader, "only it has everything");
    cluster.commit(leader).await;
    let applied = || cluster.replica(behind).state().read(|state| state.applied().index);
    eventually("nothing is lost", || applied() >= committed.at.index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_replica_is_replaced_by_one_with_a_new_id() {
    // The fourth is not among the founders: it is started later, and joins.
    let mut cluster = Cluster::founded(3, 4).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let lost = cluster.follower().await;
    cluster.stop(lost).await;
    cluster.start_one(4).await;
    let follower = (1..=3).find(|id| ![leader, lost].contains(id)).unwrap();
    cluster.join(follower, 4).await;
    cluster.join(leader, 4).await;
    let elsewhere = MemberChange::AddLearner { id: 4, address: "elsewhere:1".into() };
    assert!(cluster.replica(leader).change_members(elsewhere).await.is_err());
    cluster.replica(follower).change_members(MemberChange::Remove { id: lost, force: false }).await.unwrap();
    cluster.commit(4).await;
    eventually("members", || {
        cluster.status(4).members.keys().copied().eq((1..=4).filter(|id| *id != lost))
            && cluster.status(4).members.values().all(|member| member.voter)
    })
    .await;
    // The new one carries the cluster when another goes.
    cluster.stop(follower).await;
    cluster.commit(4).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_joined_later_and_lost_its_disk_does_not_vote_again() {
    let mut cluster = Cluster::founded(3, 4).await;
    let leader = cluster.leader().await;
    cluster.start_one(4).await;
    cluster.join(leader, 4).await;
    cluster.commit(4).await;
    cluster.stop(4).await;
    wipe(&cluster, 4);
    cluster.start_one(4).await;
    let reason = tokio::time::timeout(PATIENCE, cluster.replica(4).stopped()).await.unwrap();
    assert!(reason.contains("must join under a new id"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_seed_hears_why_nobody_speaks_with_it() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs.get_mut(&3).unwrap().cluster_id = [0xc2; 32];
    cluster.start_all().await;
    cluster.leader_among(&[1, 2]).await;
    let why = "which has another seed";
    eventually("it knows why", || {
        let refusals = cluster.status(3).refusals;
        refusals.len() == 2 && refusals.values().all(|refusal| refusal.contains(why))
    })
    .await;
    eventually("and so do they", || cluster.status(1).refusals.contains_key(&3)).await;
    cluster.stop(3).await;
    // Its data directory belongs to the other cluster from its first start on.
    std::fs::remove_dir_all(&cluster.configs[&3].data_dir).unwrap();
    cluster.configs.get_mut(&3).unwrap().cluster_id = crate::cluster::CLUSTER_ID;
    cluster.start_one(3).await;
    cluster.leader().await;
    cluster.commit(3).await;
    eventually("nobody refuses any more", || (1..=3).all(|id| cluster.status(id).refusals.is_empty())).await;
}

use crate::cluster::{Cluster, PATIENCE, eventually};
use crate::probation::turned_away;
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::command::COMMAND_FORMAT;
use mux_raft::members::MemberChange;
use std::collections::BTreeMap;
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
    cluster.lead(founder, 4).await;
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

/// A chart that scales a cluster up rewrites the configurations of all: they name the new ones before these are added.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_all_configurations_name_waits_to_be_added() {
    let mut cluster = Cluster::founded(3, 5).await;
    let leader = cluster.leader().await;
    eventually("the level rises", || cluster.status(leader).feature_level == COMMAND_FORMAT).await;
    let everybody: BTreeMap<_, _> =
        cluster.configs.iter().map(|(id, config)| (*id, config.listen.to_string())).collect();
    for config in cluster.configs.values_mut() {
        config.initial_members.clone_from(&everybody);
    }
    // They come up all at once, those that are members with a state to read again.
    cluster.stop_all().await;
    cluster.start_all().await;
    let asked = cluster.leader_among(&[1, 2, 3]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in [4, 5] {
        let status = cluster.status(id);
        assert_eq!((status.removed, status.fatal), (None, None), "replica {id}");
        assert!(!cluster.status(asked).members.contains_key(&id));
    }
    // Waiting, one is started again: it goes on waiting.
    cluster.stop(5).await;
    cluster.start_one(5).await;
    for id in [4, 5] {
        cluster.join(asked, id).await;
    }
    eventually("all vote", || {
        (1..=5).all(|id| cluster.status(id).members.values().filter(|member| member.voter).count() == 5)
    })
    .await;
    cluster.leader().await;
    cluster.commit(5).await;
    // Removed is removed, whatever the configurations say.
    let leaver = if cluster.status(4).leads { 5 } else { 4 };
    let other = cluster.leader().await;
    cluster.replica(other).change_members(MemberChange::Remove { id: leaver, force: false }).await.unwrap();
    eventually("it is told", || cluster.status(leaver).removed.is_some()).await;
    let address = everybody[&leaver].clone();
    let again = cluster.replica(other).change_members(MemberChange::AddLearner { id: leaver, address }).await;
    assert!(again.unwrap_err().to_string().contains("was removed"));
    cluster.stop(leaver).await;
    wipe(&cluster, leaver);
    cluster.start_one(leaver).await;
    tokio::time::timeout(PATIENCE, cluster.replica(leaver).stopped()).await.unwrap();
}

/// The log of the first version remembers no removals: a first member that is none now was removed, to be sure.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_first_level_a_first_member_that_is_none_is_taken_for_a_removed_one() {
    let mut cluster = Cluster::prepare(4);
    cluster.levels = (1..=4).map(|id| (id, 1)).collect();
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let removed = cluster.follower().await;
    let asked = (1..=4).find(|id| ![leader, removed].contains(id)).unwrap();
    let change = MemberChange::Remove { id: removed, force: false };
    let warnings = cluster.replica(asked).change_members(change).await.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("never reuse")), "{warnings:?}");
    let address = cluster.configs[&removed].listen.to_string();
    let add = MemberChange::AddLearner { id: removed, address };
    let refused = cluster.replica(asked).change_members(add).await.unwrap_err();
    assert!(refused.to_string().contains("was removed"), "{refused}");
}

/// Found by the simulation (seed 25 of 60 s): it asked only those that it knew, waited for them for ever, and without its
/// vote nobody could lead.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_while_members_changed_votes_for_one_that_it_does_not_know() {
    let (mut cluster, leader, away, gone) = without_one(4).await;
    cluster.start_one(4).await;
    cluster.join(leader, 4).await;
    cluster.replica(leader).change_members(MemberChange::Remove { id: gone, force: true }).await.unwrap();
    let committed = cluster.commit(4).await;
    cluster.stop(gone).await;
    cluster.stop(leader).await;
    // Of the three members one is lost. Of those that the second knows, both are.
    cluster.start_one(away).await;
    assert_eq!(cluster.leader_among(&[away, 4]).await, 4, "only it has everything");
    cluster.commit(away).await;
    let applied = || cluster.replica(away).state().read(|state| state.applied().index);
    eventually("nothing is lost", || applied() >= committed.at.index).await;
}

/// A leader without a majority asks for no votes: what it sends is all that one hears of it that was away.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_finds_a_leader_in_office_that_it_does_not_know() {
    let (mut cluster, founder, away, gone) = without_one(4).await;
    cluster.start_one(4).await;
    cluster.join(founder, 4).await;
    cluster.lead(founder, 4).await;
    cluster.replica(4).change_members(MemberChange::Remove { id: gone, force: true }).await.unwrap();
    let committed = cluster.commit(4).await;
    cluster.stop(gone).await;
    cluster.stop(founder).await;
    cluster.start_one(away).await;
    cluster.commit(away).await;
    let applied = || cluster.replica(away).state().read(|state| state.applied().index);
    eventually("nothing is lost", || applied() >= committed.at.index).await;
}

/// Who answers may be too few of those that vote now: they name the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_asks_whomever_the_others_name() {
    let (mut cluster, founder, away, gone) = without_one(5).await;
    for id in [4, 5] {
        cluster.start_one(id).await;
        cluster.join(founder, id).await;
    }
    cluster.lead(founder, 4).await;
    cluster.commit(4).await;
    cluster.stop(gone).await;
    cluster.stop(5).await;
    // Of five, three are there: one that knows nobody but the first, the first, and the leader.
    cluster.start_one(away).await;
    cluster.commit(away).await;
}

/// It once took what all that it knew said for everything, although most of those that vote now were not among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_does_not_take_all_that_it_knows_for_a_majority() {
    let (mut cluster, founder, away, third) = without_one(6).await;
    for id in [4, 5, 6] {
        cluster.start_one(id).await;
        cluster.join(founder, id).await;
    }
    cluster.converged().await;
    cluster.stop_all().await;
    for id in [founder, third, away] {
        cluster.start_one(id).await;
    }
    // Of six that vote, the three that it knows are there.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = turned_away(&cluster, away).await;
    assert!(told.contains("it asks the others"), "{told}");
    cluster.start_one(4).await;
    cluster.commit(away).await;
}

/// Three founders, further ones prepared: the cluster, its leader, one that was stopped, and the third.
async fn without_one(count: u64) -> (Cluster, u64, u64, u64) {
    let mut cluster = Cluster::founded(3, count).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let (away, third) = (others[0], others[1]);
    cluster.commit(leader).await;
    cluster.stop(away).await;
    (cluster, leader, away, third)
}

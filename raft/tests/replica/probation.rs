//! A replica that came with an empty disk takes entries, but does not vote until it has all that the cluster had then.

use crate::cluster::{CLUSTER_ID, Cluster, PATIENCE, command, eventually, timing};
use crate::identity::{connect, copy, header, stops};
use futures::future::join_all;
use mux_proto::mux::raft::v1::VoteRequest;
use mux_proto::mux::raft::v1::raft_transport_client::RaftTransportClient;
use mux_raft::consensus::{Consensus as _, ProposeError};
use mux_raft::members::{MemberChange, MemberError, RefusalKind};
use mux_raft::types::{LogIndex, ReplicaId};
use std::time::{Duration, Instant};

/// What a candidate is told that asks a replica for its vote, and shows none: if the replica may vote, that is malformed.
pub(crate) async fn turned_away(cluster: &Cluster, id: ReplicaId) -> String {
    // Nobody whose data directory the replica could know.
    let (stranger, name) = (99, "replica-99.mux".to_owned());
    let files = cluster.authority.issue(&cluster.dir.path().join("stranger"), &[name]);
    let mut client = RaftTransportClient::new(connect(cluster, id, &files, true));
    let request = VoteRequest { header: header(CLUSTER_ID, stranger, id), ..VoteRequest::default() };
    client.vote(request).await.unwrap_err().message().to_owned()
}

/// Waits until a replica only takes entries: by then the mark of that is on its disk.
async fn catches_up(cluster: &Cluster, id: ReplicaId) {
    let started = Instant::now();
    loop {
        let told = turned_away(cluster, id).await;
        if told.contains("catches up before it votes") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn applied(cluster: &Cluster, id: ReplicaId) -> LogIndex {
    cluster.replica(id).state().read(|state| state.applied().index)
}

/// The first of three leads and has a long tail that nobody else has. The fourth asked it, and votes when it has as much.
/// Then the first is gone, and its tail with it: this far the fourth must come.
async fn one_that_votes_late(tail: usize) -> (Cluster, LogIndex) {
    let mut cluster = Cluster::prepare(4);
    for config in cluster.configs.values_mut() {
        config.initial_members.retain(|id, _| *id <= 3);
    }
    // It goes on leading without the others for longer than any of this takes.
    let patient = &mut cluster.configs.get_mut(&1).unwrap().timing;
    (patient.election_max, patient.propose) = (PATIENCE, Duration::from_secs(2));
    for id in 1..=3 {
        cluster.start_one(id).await;
    }
    let leader = cluster.leader().await;
    cluster.lead(leader, 1).await;
    let committed = cluster.commit(1).await.at.index;
    cluster.stop(2).await;
    cluster.stop(3).await;
    for outcome in join_all((0..tail).map(|_| cluster.propose(1))).await {
        assert!(matches!(outcome, Err(ProposeError::Unknown(_))), "{outcome:?}");
    }
    let all = committed + tail as LogIndex;
    eventually("all of them are in its log", || cluster.status(1).last_log_index >= all).await;
    let upto = cluster.status(1).last_log_index;
    cluster.start_one(4).await;
    catches_up(&cluster, 4).await;
    cluster.stop(1).await;
    cluster.configs.get_mut(&1).unwrap().timing = timing();
    cluster.start_one(2).await;
    cluster.start_one(3).await;
    (cluster, upto)
}

/// Found by the simulation (seed 244): it was made a voter as soon as its log was long enough, and was then the one that a
/// majority lacked when the leader was gone that had the rest for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_becomes_a_voter_only_when_it_may_vote() {
    // A leader adds five entries a second by itself.
    let tail = 400;
    let (mut cluster, upto) = one_that_votes_late(tail).await;
    let leader = cluster.leader_among(&[2, 3]).await;
    let address = cluster.configs[&4].listen.to_string();
    let asked = cluster.replica(leader);
    let started = Instant::now();
    let mut change = MemberChange::AddLearner { id: 4, address };
    loop {
        let promotes = matches!(change, MemberChange::Promote { .. });
        match asked.change_members(change.clone()).await {
            Ok(_) if promotes => panic!("a voter that does not vote, at {} of {upto}", applied(&cluster, 4)),
            Ok(_) => change = MemberChange::Promote { id: 4 },
            Err(error) if error.to_string().contains("cannot vote yet") => break,
            // It is added, or catches up.
            Err(MemberError::Refused(refusal)) => assert_eq!(refusal.kind, RefusalKind::NotYet, "{refusal}"),
            Err(MemberError::Propose(_)) => {}
        }
        assert!(started.elapsed() < PATIENCE, "{change:?}");
    }
    eventually("it has all that there is", || applied(&cluster, 4) >= cluster.status(leader).committed).await;
    assert!(applied(&cluster, 4) < upto, "but not what the first had");
    assert!(!cluster.status(leader).members[&4].voter);
    join_all((0..tail).map(|_| asked.propose(command(), None))).await;
    cluster.join(leader, 4).await;
    assert!(applied(&cluster, 4) >= upto);
    // Of four voters three are left, which need its vote.
    cluster.start_one(1).await;
    cluster.leader_among(&[1, 2, 3, 4]).await;
    cluster.stop(leader).await;
    cluster.commit(4).await;
}

/// The mark that it does not vote yet once stood for the question what it had confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_its_own_disk_is_refused_also_if_it_was_catching_up_then() {
    let mut cluster = Cluster::founded(3, 4).await;
    let leader = cluster.leader().await;
    let (data, image) = (cluster.configs[&4].data_dir.clone(), cluster.dir.path().join("image"));
    // Nobody has added it: it has nothing yet.
    cluster.start_one(4).await;
    catches_up(&cluster, 4).await;
    cluster.stop(4).await;
    copy(&data, &image);
    cluster.start_one(4).await;
    cluster.join(leader, 4).await;
    cluster.commit(4).await;
    cluster.stop(4).await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&image, &data);
    cluster.start_one(4).await;
    let reason = stops(cluster.replica(4)).await;
    assert!(reason.contains("the data directory is an older copy"), "{reason}");
    let others = cluster.leader_among(&[1, 2, 3]).await;
    cluster.commit(others).await;
    assert!((1..=3).all(|id| cluster.status(id).fatal.is_none()));
}

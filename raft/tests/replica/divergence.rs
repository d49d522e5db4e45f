//! A replica whose state differs from the others' does not go on.

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::consensus::Consensus as _;
use mux_raft::machine::State;

/// Changes the state of a replica behind its back, as broken memory would.
fn damage(cluster: &Cluster, id: u64) {
    cluster.replica(id).cell().write(|state| {
        let (hash, mut bytes) = (state.chain_hash(), state.encode_snapshot());
        let at = bytes.windows(hash.len()).position(|window| window == hash).unwrap();
        bytes[at] ^= 1;
        bytes.truncate(bytes.len() - 4);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        *state = State::decode_snapshot(&bytes).unwrap();
    });
}

async fn stops(cluster: &Cluster, id: u64) -> String {
    tokio::time::timeout(PATIENCE, cluster.replica(id).stopped()).await.expect("it goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_differs_stops_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    let follower = cluster.follower().await;
    cluster.commit(follower).await;
    damage(&cluster, follower);
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    let reason = stops(&cluster, follower).await;
    assert!(reason.contains("that of the leader") && reason.contains("under a new id"), "{reason}");
    cluster.stop(follower).await;
    cluster.commit(leader).await;
    cluster.converged().await;
    // What it has on disk was never touched: it agrees when it has read it again.
    cluster.start_one(follower).await;
    cluster.commit(follower).await;
    cluster.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_differs_from_all_others_is_the_one_to_stop() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.commit(leader).await;
    damage(&cluster, leader);
    cluster.commit(leader).await;
    let reason = stops(&cluster, leader).await;
    assert!(reason.contains("that of a majority"), "{reason}");
    cluster.stop(leader).await;
    let next = cluster.leader().await;
    cluster.commit(next).await;
    cluster.converged().await;
    assert!(cluster.running.values().all(|replica| replica.status().borrow().fatal.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_that_differs_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let silent = (1..=3).find(|id| ![leader, follower].contains(id)).unwrap();
    cluster.commit(leader).await;
    cluster.stop(silent).await;
    damage(&cluster, follower);
    cluster.commit(leader).await;
    stops(&cluster, follower).await;
    eventually("no quorum is left", || !cluster.status(leader).quorum).await;
}

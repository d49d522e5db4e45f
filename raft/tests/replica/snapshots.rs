use crate::cluster::{Cluster, command, eventually};
use futures::future::join_all;
use mux_raft::consensus::Consensus as _;
use mux_raft::replica::SnapshotConfig;
use std::path::PathBuf;

fn frequent(cluster: &mut Cluster) {
    for config in cluster.configs.values_mut() {
        config.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 10, purge_batch: 1 };
    }
}

fn snapshot_files(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let dir = cluster.configs[&id].data_dir.join("snapshots");
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_behind_the_purged_log_catches_up_by_snapshot() {
    let mut cluster = Cluster::prepare(3);
    frequent(&mut cluster);
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let lagging = cluster.follower().await;
    cluster.commit(lagging).await;
    let behind = cluster.status(lagging).applied;
    cluster.stop(lagging).await;
    for _ in 0..6 {
        let under_way = (0..50).map(|_| cluster.replica(leader).propose(command(), None));
        for result in join_all(under_way).await {
            result.unwrap();
        }
    }
    eventually("the leader has a snapshot far ahead", || cluster.status(leader).snapshot > behind + 200)
        .await;
    cluster.start_one(lagging).await;
    cluster.commit(lagging).await;
    // The status follows what it reports a moment later.
    eventually("it came by snapshot", || cluster.status(lagging).snapshot > behind).await;
    cluster.converged().await;
    eventually("one snapshot is kept", || snapshot_files(&cluster, lagging).len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_snapshot_and_log_to_the_same_state() {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    for _ in 0..4 {
        let under_way = (0..40).map(|_| cluster.replica(1).propose(command(), None));
        for result in join_all(under_way).await {
            result.unwrap();
        }
    }
    eventually("a snapshot", || cluster.status(1).snapshot > 100).await;
    // Nothing but the leader's ticks can follow; stop at a known position.
    let replica = cluster.running.remove(&1).unwrap();
    replica.shutdown().await;
    let before = replica.state().read(|state| (state.applied(), state.chain_hash()));
    // An unfinished snapshot of a crash does not matter.
    std::fs::write(cluster.configs[&1].data_dir.join("snapshots/9.tmp"), b"half").unwrap();
    // Without its peers' votes it stays where its own disk brings it: look before it leads again.
    cluster.start_one(1).await;
    let recovered = cluster.replica(1).state().read(|state| (state.applied(), state.chain_hash()));
    assert!(recovered.0 <= before.0 || recovered.0.term > before.0.term);
    if recovered.0 == before.0 {
        assert_eq!(recovered.1, before.1);
    }
    cluster.commit(1).await;
    assert_eq!(snapshot_files(&cluster, 1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_prevents_the_start() {
    let mut cluster = Cluster::prepare(1);
    frequent(&mut cluster);
    cluster.start_all().await;
    for result in join_all((0..120).map(|_| cluster.replica(1).propose(command(), None))).await {
        result.unwrap();
    }
    eventually("a snapshot", || cluster.status(1).snapshot > 50).await;
    cluster.stop(1).await;
    let path = snapshot_files(&cluster, 1).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() - 10;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = cluster.try_start(1).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

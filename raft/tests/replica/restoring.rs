//! A whole replica on the data directory that is made from a backup.

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::backup::{BackupFrames, BackupLabel, RestorePlan, restore_new_cluster};
use mux_raft::consensus::Consensus as _;

/// A restored replica that voted in term 1 with a last entry of a later one stopped at its first election.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_later_term_becomes_a_cluster_that_elects_a_leader_and_commits() {
    let mut cluster = Cluster::start(1).await;
    for _ in 0..3 {
        cluster.commit(1).await;
        cluster.stop(1).await;
        cluster.start_one(1).await;
    }
    let last = cluster.commit(1).await.at;
    assert!(last.term > 2, "every start is an election: {}", last.term);
    let backup = cluster.dir.path().join("backup");
    let frames = BackupFrames::of(cluster.replica(1).state(), [0xc1; 32], BackupLabel::default(), 1, 0);
    std::fs::write(&backup, frames.map(Result::unwrap).collect::<Vec<_>>().concat()).unwrap();
    cluster.stop(1).await;

    let config = cluster.configs.get_mut(&1).unwrap();
    config.cluster_id = [0xee; 32];
    config.data_dir = config.data_dir.with_extension("restored");
    let plan = RestorePlan {
        backup,
        data_dir: config.data_dir.clone(),
        cluster_id: config.cluster_id,
        replica: 1,
        address: config.listen.to_string(),
    };
    restore_new_cluster(&plan).unwrap();

    cluster.start_one(1).await;
    eventually("it leads", || cluster.status(1).leads).await;
    let first = tokio::time::timeout(PATIENCE, cluster.commit(1)).await.unwrap().at;
    assert!(first.term > last.term && first.index > last.index, "{first:?} after {last:?}");
    cluster.stop(1).await;
    cluster.start_one(1).await;
    cluster.commit(1).await;
}

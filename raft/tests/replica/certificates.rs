use crate::cluster::{Authority, Cluster};
use mux_raft::types::ReplicaId;
use std::path::PathBuf;

/// Writes a file of each replica and has it read.
fn put(cluster: &Cluster, file: impl Fn(ReplicaId) -> (PathBuf, String)) {
    for id in cluster.running.keys() {
        let (path, text) = file(*id);
        std::fs::write(path, text).unwrap();
    }
    for (id, replica) in &cluster.running {
        assert_eq!(replica.reload_certificates(), Ok(true), "replica {id}");
    }
}

/// Every replica gets an entry through, over connections that were made with what was read last.
async fn works(cluster: &Cluster) {
    for id in cluster.running.keys() {
        cluster.commit(*id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_their_authority_are_exchanged_while_the_cluster_runs() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    let other = Authority::new();
    let both = format!("{}{}", cluster.authority.pem(), other.pem());
    let only = other.pem();
    let paths = |cluster: &Cluster, id: ReplicaId| cluster.configs[&id].tls.clone();

    put(&cluster, |id| (paths(&cluster, id).ca, both.clone()));
    // both authorities are trusted
    works(&cluster).await;
    for id in 1..=3 {
        let issued =
            other.issue(&cluster.dir.path().join(format!("new-{id}")), &[format!("replica-{id}.mux")]);
        let own = paths(&cluster, id);
        std::fs::copy(issued.cert, own.cert).unwrap();
        std::fs::copy(issued.key, own.key).unwrap();
    }
    for replica in cluster.running.values() {
        assert_eq!(replica.reload_certificates(), Ok(true));
        assert_eq!(replica.reload_certificates(), Ok(false), "nothing has changed since");
    }
    // certificates of the new authority
    works(&cluster).await;
    put(&cluster, |id| (paths(&cluster, id).ca, only.clone()));
    // only the new authority is trusted
    works(&cluster).await;

    // Connections to a replica that was restarted are all new.
    cluster.stop(2).await;
    cluster.start_one(2).await;
    // a replica is new
    works(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_used_change_nothing() {
    let mut cluster = Cluster::start(3).await;
    cluster.leader().await;
    let tls = cluster.configs[&1].tls.clone();
    let sound = std::fs::read(&tls.cert).unwrap();
    let foreign = std::fs::read(&cluster.configs[&2].tls.cert).unwrap();
    for wrong in [b"no certificate".to_vec(), foreign, Vec::new()] {
        std::fs::write(&tls.cert, wrong).unwrap();
        assert!(cluster.running[&1].reload_certificates().is_err());
    }
    // All connections to replica 2 are made anew, with what replica 1 still has in use.
    cluster.stop(2).await;
    cluster.start_one(2).await;
    // replica 1 goes on
    works(&cluster).await;
    std::fs::write(&tls.cert, sound).unwrap();
    assert_eq!(cluster.running[&1].reload_certificates(), Ok(false));
}

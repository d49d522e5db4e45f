//! Files that were cut or changed while the replica was down: it must not come up as if nothing had happened.

use crate::cluster::{Cluster, PATIENCE, eventually};
use mux_raft::replica::{SnapshotConfig, StartError};
use mux_raft::types::ReplicaId;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Why a replica does not start on this directory, or does not go on once it has heard of the others.
async fn refusal(cluster: &mut Cluster, id: ReplicaId) -> String {
    match cluster.try_start(id).await {
        Err(error @ StartError::Storage(_)) => error.to_string(),
        Err(error) => panic!("not a failure of the disk: {error}"),
        Ok(replica) => {
            let reason = tokio::time::timeout(PATIENCE, replica.stopped()).await.expect("it goes on");
            replica.shutdown().await;
            reason
        }
    }
}

/// The file of this ending below a directory.
fn find(dir: &Path, ending: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() {
            find(&path, ending)
        } else {
            path.to_string_lossy().ends_with(ending).then_some(path)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_cut_file_of_the_data_directory_stops_the_replica_and_says_what_to_do() {
    let mut cluster = Cluster::prepare(3);
    for config in cluster.configs.values_mut() {
        config.snapshot = SnapshotConfig { logs_since_last: 50, keep_logs: 20, purge_batch: 10 };
    }
    cluster.start_all().await;
    let leader = cluster.leader().await;
    for _ in 0..120 {
        cluster.commit(leader).await;
    }
    let victim = cluster.follower().await;
    eventually("it has a snapshot", || cluster.status(victim).snapshot > 0).await;
    cluster.stop(victim).await;
    let data = cluster.configs[&victim].data_dir.clone();
    let sound = data.with_extension("sound");
    copy(&data, &sound);
    for ending in ["log/db", "log/conf", ".snap", "records.redb"] {
        for cut in [true, false] {
            std::fs::remove_dir_all(&data).unwrap();
            copy(&sound, &data);
            let file = find(&data, ending).unwrap();
            let mut bytes = std::fs::read(&file).unwrap();
            if cut {
                bytes.truncate(bytes.len() / 2);
            } else {
                let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
                bytes[last / 2..=last].iter_mut().for_each(|byte| *byte ^= 0x55);
            }
            if ending == "records.redb" && !cut {
                // Nothing may be written there: what counts is in its head.
                bytes[..320].iter_mut().for_each(|byte| *byte ^= 0x55);
            }
            std::fs::write(&file, bytes).unwrap();
            let told = refusal(&mut cluster, victim).await;
            println!("{ending} {cut}: {told}");
            assert!(told.contains("new id"), "{ending} {cut}: {told}");
            let named = told.contains(&data.display().to_string()) || told.contains("entry");
            assert!(named, "{ending} {cut}: {told}");
        }
    }
    std::fs::remove_dir_all(&data).unwrap();
    copy(&sound, &data);
    cluster.start_one(victim).await;
    cluster.commit(leader).await;
    cluster.converged().await;
}

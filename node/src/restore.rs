//! `muxd restore --new-cluster`: the data directory of a new cluster's first replica, from a backup.

use crate::config::Config;
use crate::keys::{ClusterKeys, ClusterSeed};
use mux_raft::backup::{Restoration, RestorePlan, inspect, restore_new_cluster};
use mux_raft::machine::level::{VOIDED, version_of};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Restores a backup into this configuration's data directory, and says what to do next. `void_open`: see
/// [`RestorePlan::void_open`].
///
/// # Errors
/// What is wrong, and what to do about it. Nothing was changed.
pub fn restore(
    config_path: &Path,
    config: &Config,
    backup: PathBuf,
    void_open: bool,
) -> Result<String, String> {
    let cluster = &config.cluster;
    let seed = ClusterSeed::load(&cluster.seed_file).map_err(|error| error.to_string())?;
    let keys = ClusterKeys::derive(&seed);
    drop(seed);
    let address = cluster.initial_members.get(&cluster.replica_id).ok_or_else(|| {
        format!(
            "{}: cluster.initial_members does not name replica {}: it will be the new cluster's first member",
            config_path.display(),
            cluster.replica_id
        )
    })?;
    if cluster.initial_members.len() > 1 {
        // Started with an empty directory, the others would found a second cluster of this name.
        return Err(format!(
            "{}: cluster.initial_members must name replica {} alone: the new cluster begins with it, and the others \
             are added under ids that the old one never had",
            config_path.display(),
            cluster.replica_id
        ));
    }
    let found = inspect(&backup).map_err(|error| error.to_string())?.header.label;
    let own = keys.node_pubkey().to_string();
    if found.node_pubkey != own {
        return Err(format!(
            "{} is of the virtual node {}, but the seed {} is that of {own}: take the seed of the cluster that made \
             the backup",
            backup.display(),
            found.node_pubkey,
            cluster.seed_file.display()
        ));
    }
    if found.network != cluster.network.name() {
        return Err(format!(
            "the backup is of network {}, the configuration of {}",
            found.network,
            cluster.network.name()
        ));
    }
    let plan = RestorePlan {
        backup,
        data_dir: config.raft.data_dir.clone(),
        cluster_id: keys.cluster_id(&cluster.name, cluster.network),
        replica: cluster.replica_id,
        address: address.clone(),
        void_open,
    };
    let restoration = restore_new_cluster(&plan).map_err(|error| error.to_string())?;
    Ok(next_steps(config_path, config, &restoration))
}

fn next_steps(config_path: &Path, config: &Config, restoration: &Restoration) -> String {
    let (header, cluster) = (&restoration.backup.header, &config.cluster);
    let mut text = format!(
        "restored entry {} of cluster {:?} into {} as replica {} of the new cluster {:?}\n\n\
         1. Make sure that no replica of {:?} runs any more.\n\
         2. muxd run --config {}\n\
         3. muxcli status: {} HTLCs are in doubt; nothing is decided until LND has said how each of them ended.\n\
         4. Add others under ids that the old cluster never had, as any new member, where ca.key is:\n     \
         muxd add-replica --dir DIR --id ID --like {}\n",
        header.at.index,
        header.label.cluster_name,
        config.raft.data_dir.display(),
        cluster.replica_id,
        cluster.name,
        header.label.cluster_name,
        config_path.display(),
        restoration.in_doubt,
        config_path.display(),
    );
    // Writing to a string cannot fail.
    let _ = match (restoration.open, restoration.voided) {
        (_, voided) if voided > 0 => writeln!(
            text,
            "\n{voided} open invoices are cancelled, each with an event that says so: what was paid after the backup is not \
             paid again. Every replica of the new cluster must be muxd {} or later.",
            version_of(VOIDED)
        ),
        (0, _) => Ok(()),
        (open, _) => writeln!(
            text,
            "\n{open} invoices are open, also if they were paid after the backup: they could be paid again. To cancel them \
             instead, empty the data directory and restore with --void-open."
        ),
    };
    let _ = writeln!(
        text,
        "\nNot in the backup, and not found by asking: invoices made and payments begun after log time {} ms. \
         Compare with the front nodes' own records. Numbers (add, decision, settle, event) given after it are \
         given again.",
        header.log_time_ms
    );
    text
}

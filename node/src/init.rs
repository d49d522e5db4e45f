//! Makes a new cluster: its seed, its certificates, the clients' macaroon and a configuration per replica.
//!
//! Everything a replica needs lies in one directory, `replica-<id>`, which can be carried to its machine as
//! it is. Nothing is ever overwritten: a seed that is gone takes every outstanding invoice with it.
//! [`write_cluster`] is what `muxd init` calls; the demo and the chaos harness call it too.

mod add_replica;
mod files;
mod pki;
mod plan;
mod render;

pub use add_replica::{AddReplica, AddedReplica, add_replica, next_steps_of_added};
pub use plan::{API_PORT, ClusterPlan, METRICS_PORT, ReplicaPlan};

use crate::api::AdminToken;
use crate::keys::{ClusterKeys, ClusterSeed, SeedError};
use files::{Secrecy, write_new};
use pki::Authority;
use rand::TryRngCore as _;
use std::path::{Path, PathBuf};

/// Why a cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is something already.
    #[error("{} is not empty: muxd init never overwrites; choose another --dir", .0.display())]
    NotEmpty(PathBuf),
    /// The added replica's directory is there already.
    #[error(
        "{} is not empty: a replica's files are never overwritten; give the new replica a number that was never used \
         (--id), or remove that directory if the replica in it was never started",
        .0.display()
    )]
    Taken(PathBuf),
    /// The plan cannot be carried out.
    #[error("{0}")]
    Plan(String),
    /// A file could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The seed could not be written.
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// What [`write_cluster`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFiles {
    /// Where.
    pub dir: PathBuf,
    /// The cluster's seed; a copy is in every replica's directory.
    pub seed: PathBuf,
    /// Certificate authority of the replicas.
    pub ca_cert: PathBuf,
    /// Its key: needed to add replicas, by no running replica.
    pub ca_key: PathBuf,
    /// What clients trust (`--tls-cert`).
    pub api_cert: PathBuf,
    /// What clients send (`--macaroon`).
    pub admin_macaroon: PathBuf,
    /// By replica.
    pub replicas: Vec<ReplicaFiles>,
}

/// One replica's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaFiles {
    /// Its number.
    pub id: u64,
    /// All it needs.
    pub dir: PathBuf,
    /// For `muxd run --config`.
    pub config: PathBuf,
    /// Its data, made at the first start.
    pub data_dir: PathBuf,
}

/// Writes a new cluster's files.
///
/// # Errors
/// [`InitError`]. What was written before an error stays, and the next call refuses the directory.
pub fn write_cluster(plan: &ClusterPlan) -> Result<ClusterFiles, InitError> {
    plan.check()?;
    files::new_dir(&plan.dir)?;
    let seed = ClusterSeed::generate(&mut rand::rngs::OsRng.unwrap_err());
    let macaroon = AdminToken::derive(&ClusterKeys::derive(&seed)).to_file_bytes();
    let authority = Authority::new(&plan.name)?;
    let api = pki::api_certificate(&plan.name, plan.api_hosts())?;

    let dir = &plan.dir;
    let mut written = ClusterFiles {
        dir: dir.clone(),
        seed: dir.join("seed"),
        ca_cert: write_new(dir, "ca.pem", authority.cert_pem().as_bytes(), Secrecy::Public)?,
        ca_key: write_new(dir, "ca.key", authority.key_pem().as_bytes(), Secrecy::Secret)?,
        api_cert: write_new(dir, "api.pem", api.cert.as_bytes(), Secrecy::Public)?,
        admin_macaroon: write_new(dir, "admin.macaroon", &macaroon, Secrecy::Secret)?,
        replicas: Vec::new(),
    };
    seed.create(&written.seed)?;
    for replica in &plan.replicas {
        let own = dir.join(format!("replica-{}", replica.id));
        files::new_dir(&own)?;
        let raft = authority.replica_certificate(replica.id, replica.raft_hosts(&plan.hosts))?;
        seed.create(&own.join("seed"))?;
        write_new(&own, "ca.pem", authority.cert_pem().as_bytes(), Secrecy::Public)?;
        write_new(&own, "raft.pem", raft.cert.as_bytes(), Secrecy::Public)?;
        write_new(&own, "raft.key", raft.key.as_bytes(), Secrecy::Secret)?;
        write_new(&own, "api.pem", api.cert.as_bytes(), Secrecy::Public)?;
        write_new(&own, "api.key", api.key.as_bytes(), Secrecy::Secret)?;
        write_new(&own, "admin.macaroon", &macaroon, Secrecy::Secret)?;
        let config = write_new(&own, "muxd.toml", render::config(plan, replica).as_bytes(), Secrecy::Public)?;
        let data_dir = own.join("data");
        written.replicas.push(ReplicaFiles { id: replica.id, dir: own, config, data_dir });
    }
    Ok(written)
}

/// What to do next, for people.
#[must_use]
pub fn next_steps(plan: &ClusterPlan, written: &ClusterFiles) -> String {
    let mut text = format!(
        "Cluster {:?} ({} replicas, {}) is in {}\n\n\
         1. Back up {} somewhere safe: it is the node key and every preimage.\n\
         2. Keep {} off the replicas' machines; it is only needed to add replicas.\n\
         3. Add your LND nodes ([[front_nodes]]) to each configuration, then start the replicas:\n",
        plan.name,
        plan.replicas.len(),
        plan.network.name(),
        written.dir.display(),
        written.seed.display(),
        written.ca_key.display(),
    );
    for replica in &written.replicas {
        text.push_str(&format!("     muxd run --config {}\n", replica.config.display()));
    }
    let rpc = plan.replicas.first().map_or_else(String::new, ReplicaPlan::api_address);
    text.push_str(&format!(
        "4. Look at it:\n     muxcli --rpc {rpc} --tls-cert {} --macaroon {} status\n",
        written.api_cert.display(),
        written.admin_macaroon.display(),
    ));
    text
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> InitError {
    let path = path.to_owned();
    move |error| InitError::File { path, error }
}

#[cfg(test)]
mod tests;

//! The cluster that is measured, and what all measurements do with it.

use super::{BenchError, Options, usage::CpuMeter};
use crate::cluster::{Cluster, ClusterError, ClusterOptions, Executable, until};
use std::{path::PathBuf, time::Duration};

/// Channels of each simulated LND: room for thousands of HTLCs at a time.
const CHANNELS: u32 = 24;

/// How long the cluster may take to come to what is asked of it.
pub(super) const READY: Duration = Duration::from_secs(60);

/// Starts a fresh cluster for a measurement of this name.
pub(super) async fn start(options: &Options, name: &str) -> Result<Cluster, BenchError> {
    let mut setup = ClusterOptions::new(Executable::this()?);
    setup.channels = CHANNELS;
    setup.for_load = true;
    setup.dir = options.dir.as_ref().map(|dir| dir.join(name));
    if let Some(dir) = setup.dir.as_ref().filter(|dir| dir.exists()) {
        return Err(BenchError::Missing(format!("{} exists already: choose another --dir", dir.display())));
    }
    Ok(Cluster::start(setup).await?)
}

/// Where a cluster's data will be: for the probe of the disk.
pub(super) fn data_root(options: &Options) -> Result<PathBuf, BenchError> {
    match &options.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            Ok(dir.clone())
        }
        None => Ok(std::env::temp_dir()),
    }
}

/// The settings that count, in words.
pub(super) fn settings() -> Vec<(&'static str, String)> {
    let timing = mux_raft::replica::Timing::default();
    vec![
        ("replicas", "3 processes, every acknowledged entry and vote flushed and fdatasynced".into()),
        ("simulated LND nodes", format!("2 processes, {CHANNELS} channels each, TLS, no journal")),
        ("heartbeat", format!("{} ms", timing.heartbeat.as_millis())),
        (
            "election timeout",
            format!("{}–{} ms", timing.election_min.as_millis(), timing.election_max.as_millis()),
        ),
        ("invoices", "stateless, auto-settled, issued ahead; onions by LDK, made ahead".into()),
        ("everything else", "as by default".into()),
    ]
}

/// CPU time from now on, of every process.
pub(super) fn meter(cluster: &Cluster) -> CpuMeter {
    let replicas = cluster.replicas.iter().map(|replica| (replica.name.clone(), replica.process.pid()));
    let lnds = cluster.lnds.iter().map(|lnd| (format!("lnd-{}", lnd.alias), lnd.process.pid()));
    let own = [("bench".to_owned(), std::process::id())];
    CpuMeter::start(replicas.chain(lnds).chain(own).collect())
}

/// Which replica holds each simulated LND's link; waits until no replica holds two.
pub(super) async fn owners(cluster: &mut Cluster) -> Result<Vec<usize>, BenchError> {
    let nodes: Vec<_> = cluster.lnds.iter().map(|lnd| lnd.node).collect();
    let deadline = tokio::time::Instant::now() + READY;
    loop {
        cluster.wait_ready(READY).await.map_err(ClusterError::from)?;
        let mut owners = Vec::new();
        for node in &nodes {
            owners.extend(cluster.owner_of(*node).await);
        }
        let mut distinct = owners.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() == nodes.len() {
            return Ok(owners);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(BenchError::Missing("the links are not spread over the replicas".into()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Hands leadership to this replica and waits until all know.
pub(super) async fn lead(cluster: &mut Cluster, at: usize) -> Result<(), BenchError> {
    let deadline = tokio::time::Instant::now() + READY;
    loop {
        cluster.wait_ready(READY).await.map_err(ClusterError::from)?;
        let leader = cluster.leader().await;
        if leader == Some(at) {
            return Ok(());
        }
        let target = cluster.replicas[at].id;
        let asked = match leader {
            Some(leader) => cluster.replicas[leader].client.transfer_leader(target).await.err(),
            None => None,
        };
        if tokio::time::Instant::now() >= deadline {
            let name = &cluster.replicas[at].name;
            let why = asked.map_or_else(String::new, |error| format!(": {error}"));
            return Err(BenchError::Missing(format!("{name} does not get to lead{why}")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What the LND nodes have received so far, by their channels.
pub(super) async fn received_msat(cluster: &Cluster) -> Result<u64, BenchError> {
    let mut sum = 0;
    for lnd in &cluster.lnds {
        sum += lnd.state().await?.channels.iter().map(|channel| channel.local_msat).sum::<u64>();
    }
    Ok(sum)
}

/// Waits until every replica says that this many invoices are settled.
pub(super) async fn settled_everywhere(cluster: &Cluster, count: u64) -> Result<(), BenchError> {
    for replica in &cluster.replicas {
        let client = &replica.client;
        let what = format!("{} has {count} settled invoices", replica.name);
        until(&what, READY, || async move {
            let status = client.status().await.ok()?;
            let settled = status.invoices_by_state.get("settled").copied().unwrap_or(0);
            (settled == count).then_some(())
        })
        .await
        .map_err(ClusterError::from)?;
    }
    Ok(())
}

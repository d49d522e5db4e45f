//! What it takes until an empty replica has a long history, and what the others do meanwhile.

use super::{
    BenchError,
    drive::Driver,
    mint::{Mint, Shape},
    setup, usage,
};
use crate::{
    cluster::{Cluster, ClusterError},
    story::Story,
};
use serde::Serialize;
use std::time::{Duration, Instant};

/// For all of it.
const LIMIT: Duration = Duration::from_secs(900);

/// Payments that are made ahead for the time that it takes.
const PAYMENTS_MAX: usize = 60_000;

/// See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct CatchUp {
    /// From `member add` of an empty replica that runs until it is a voter, in seconds.
    pub voter_s: f64,
    /// Payments settled a second meanwhile.
    pub payments_per_s: f64,
    /// How long payments were made meanwhile, in seconds: they may end before the replica is a voter.
    pub paying_s: f64,
    /// Offered → settled meanwhile, the 99th percentile in milliseconds.
    pub p99_ms: f64,
    /// Its data directory then, in bytes.
    pub disk_bytes: u64,
    /// Its resident memory then, in bytes.
    pub resident_bytes: u64,
}

/// Adds a replica. Returns what it took, the payments settled meanwhile, and their parts.
pub(super) async fn measure(
    cluster: &mut Cluster,
    (mint, driver): (&Mint, &mut Driver),
    (window, quick): (usize, bool),
    story: &Story,
) -> Result<(CatchUp, u64, u64), BenchError> {
    let payments = mint.make(if quick { window * 2 } else { PAYMENTS_MAX }, Shape::Single).await?;
    let last = cluster.replicas.iter().map(|replica| replica.id).max().unwrap_or(0);
    let (at, address) = Box::pin(cluster.start_another(last + 1, &[])).await?;
    let leader = cluster.leader().await.ok_or_else(|| BenchError::Missing("there is no leader".into()))?;
    let (client, id) = (cluster.replicas[leader].client.clone(), cluster.replicas[at].id);
    story.say(format!("history: replica {id} is added, under payments."));
    let began = Instant::now();
    let adding = async {
        client.add_member(id, &address, LIMIT).await.map_err(ClusterError::from)?;
        Ok::<_, BenchError>(began.elapsed().as_secs_f64())
    };
    let (run, voter_s) = tokio::join!(driver.run(payments, window, LIMIT), adding);
    let (run, voter_s) = (run?, voter_s?);
    if run.counts.failed > 0 {
        return Err(BenchError::Missing(format!("payments failed: {:?}", run.counts.reasons)));
    }
    cluster.wait_ready(setup::READY).await.map_err(ClusterError::from)?;
    let replica = &cluster.replicas[at];
    let caught_up = CatchUp {
        voter_s,
        payments_per_s: run.rate(),
        paying_s: run.elapsed.as_secs_f64(),
        p99_ms: run.offered().p99_ms,
        disk_bytes: usage::disk_bytes(&replica.dir.join("data")),
        resident_bytes: usage::resident_bytes(replica.process.pid()),
    };
    Ok((caught_up, run.counts.settled, run.counts.htlcs_settled))
}

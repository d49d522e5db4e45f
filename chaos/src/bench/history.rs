//! What a long history costs: memory, disk, restart, throughput.
//!
//! The history is made of real payments: stateless invoices, each paid in one part, decided by the cluster and
//! confirmed final by the simulated LND nodes at once. Only payers are spared: see [`super::mint`].

use super::{
    BenchError, Options, Saturation,
    catch_up::{self, CatchUp},
    drive::Driver,
    mint::{Mint, Shape},
    setup,
    throughput::Bench,
    usage,
};
use crate::{
    cluster::{Cluster, ClusterError, until},
    story::Story,
};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Payments made at a time while the history grows.
const CHUNK: usize = 20_000;

/// Payments under way meanwhile.
const WINDOW: usize = 128;

/// For one chunk.
const CHUNK_LIMIT: Duration = Duration::from_secs(600);

/// Measured on the way, so many times.
const POINTS: usize = 10;

/// Payments a second that those made ahead for a measurement must last for.
const RATE_MAX: f64 = 6_000.0;

/// How long a replica may take to restart before that is a failure.
const RESTART: Duration = Duration::from_secs(120);

/// See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct History {
    /// Settled invoices at the end of the filling.
    pub invoices: usize,
    /// How long filling took, in seconds.
    pub filled_s: f64,
    /// Throughput before it.
    pub empty: Saturation,
    /// And after.
    pub full: Saturation,
    /// On the way.
    pub growth: Vec<Point>,
    /// At the end, by replica.
    pub replicas: Vec<Size>,
    /// An empty replica that is added then.
    pub catch_up: CatchUp,
    /// Every replica in turn.
    pub restarts: Vec<Restart>,
    /// What the payments brought the LND nodes, by their channels.
    pub received_msat: u64,
    /// What it must be.
    pub expected_msat: u64,
}

/// The largest replica after this many invoices.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Settled.
    pub invoices: usize,
    /// Resident memory of the largest replica, in bytes.
    pub resident_bytes: u64,
    /// Disk of the largest replica, in bytes.
    pub disk_bytes: u64,
    /// Payments a second since the last point, while more were being prepared.
    pub payments_per_s: f64,
}

/// What one replica takes.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Which.
    pub replica: String,
    /// Resident memory (`VmRSS`), in bytes.
    pub resident_bytes: u64,
    /// Its data directory, in bytes.
    pub disk_bytes: u64,
}

/// A replica that was ended and started again.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// Which.
    pub replica: String,
    /// How it was ended.
    pub signal: &'static str,
    /// From the start of the process until it serves, is in contact with a quorum, and has applied what it had
    /// applied before; in seconds.
    pub ready_s: f64,
    /// Resident memory then, in bytes.
    pub resident_bytes: u64,
}

pub(super) async fn measure(options: &Options, story: &Story) -> Result<History, BenchError> {
    let mut cluster = setup::start(options, "history").await?;
    setup::owners(&mut cluster).await?;
    let (invoices, seconds) = if options.quick { (500, 1) } else { (options.invoices, options.seconds) };
    let window = options.window.unwrap_or(WINDOW);
    let limit = Duration::from_secs(seconds);
    let mint = Mint::open(&cluster).await?;
    let mut bench =
        Bench { cluster: &cluster, mint, driver: Driver::open(&cluster).await?, settled: 0, parts: 0 };
    story.say(format!("history: throughput of the empty cluster, {seconds} s."));
    // Warms everything up and does not count.
    bench.run(Shape::Single, window, limit / 20, RATE_MAX).await?;
    let empty = bench.run(Shape::Single, window, limit, RATE_MAX).await?;
    story.say(format!("history: settling {invoices} invoices."));
    let began = Instant::now();
    let growth = fill(&mut bench, invoices, window, story).await?;
    let filled_s = began.elapsed().as_secs_f64();
    story.say(format!("history: throughput after {invoices} invoices, {seconds} s."));
    let full = bench.run(Shape::Single, window, limit, RATE_MAX).await?;
    let Bench { mint, mut driver, mut settled, mut parts, .. } = bench;
    setup::settled_everywhere(&cluster, settled).await?;
    let replicas = sizes(&cluster);
    let lane = (&mint, &mut driver);
    let (catch_up, more, more_parts) =
        catch_up::measure(&mut cluster, lane, (window, options.quick), story).await?;
    settled += more;
    parts += more_parts;
    setup::settled_everywhere(&cluster, settled).await?;
    let (received_msat, expected_msat) = (setup::received_msat(&cluster).await?, mint.received_msat(parts));
    let mut restarts = Vec::new();
    for signal in ["SIGTERM", "SIGKILL"] {
        for at in 0..cluster.replicas.len() {
            restarts.push(restart(&mut cluster, at, signal, story).await?);
        }
    }
    Ok(History {
        invoices,
        filled_s,
        empty,
        full,
        growth,
        replicas,
        catch_up,
        restarts,
        received_msat,
        expected_msat,
    })
}

/// Settles this many invoices; the next ones are made while the former are paid.
#[allow(clippy::cast_precision_loss, reason = "a rate is no exact number")]
async fn fill(
    bench: &mut Bench<'_>,
    invoices: usize,
    window: usize,
    story: &Story,
) -> Result<Vec<Point>, BenchError> {
    let mut growth = Vec::new();
    let (mut done, mut told, mut since) = (0, 0, Instant::now());
    let mint = bench.mint.clone();
    let mut ready = mint.make(CHUNK.min(invoices), Shape::Single).await?;
    while done < invoices {
        let paid = ready.len();
        let next = CHUNK.min(invoices - done - paid);
        let (run, made) =
            tokio::join!(bench.driver.run(ready, window, CHUNK_LIMIT), mint.make(next, Shape::Single));
        let run = run?;
        if run.counts.failed > 0 {
            return Err(BenchError::Missing(format!("payments failed: {:?}", run.counts.reasons)));
        }
        bench.settled += run.counts.settled;
        bench.parts += run.counts.htlcs_settled;
        done += paid;
        ready = made?;
        if done == invoices || (done - told) * POINTS >= invoices {
            let sizes = sizes(bench.cluster);
            let point = Point {
                invoices: done,
                resident_bytes: sizes.iter().map(|size| size.resident_bytes).max().unwrap_or(0),
                disk_bytes: sizes.iter().map(|size| size.disk_bytes).max().unwrap_or(0),
                payments_per_s: (done - told) as f64 / since.elapsed().as_secs_f64(),
            };
            story.say(format!(
                "history: {done} settled; the largest replica has {} MiB in memory, {} MiB on disk.",
                point.resident_bytes >> 20,
                point.disk_bytes >> 20
            ));
            growth.push(point);
            (told, since) = (done, Instant::now());
        }
    }
    Ok(growth)
}

fn sizes(cluster: &Cluster) -> Vec<Size> {
    let size = |replica: &crate::cluster::Replica| Size {
        replica: replica.name.clone(),
        resident_bytes: usage::resident_bytes(replica.process.pid()),
        disk_bytes: usage::disk_bytes(&replica.dir.join("data")),
    };
    cluster.replicas.iter().map(size).collect()
}

async fn restart(
    cluster: &mut Cluster,
    at: usize,
    signal: &'static str,
    story: &Story,
) -> Result<Restart, BenchError> {
    let client = cluster.replicas[at].client.clone();
    let applied = client.status().await.map_err(ClusterError::from)?.applied_index;
    let process = &mut cluster.replicas[at].process;
    if signal == "SIGTERM" {
        process.terminate(RESTART).await.map_err(ClusterError::from)?;
    } else {
        process.kill().await.map_err(ClusterError::from)?;
    }
    let began = Instant::now();
    cluster.restart_replica(at)?;
    let name = cluster.replicas[at].name.clone();
    let (asked, what) = (&client, format!("{name} serves again"));
    until(&what, RESTART, || async move {
        let status = asked.status().await.ok()?;
        (status.quorum && status.applied_index >= applied).then_some(())
    })
    .await
    .map_err(ClusterError::from)?;
    let ready_s = began.elapsed().as_secs_f64();
    let resident_bytes = usage::resident_bytes(cluster.replicas[at].process.pid());
    story.say(format!(
        "history: {name} after {signal}: ready in {ready_s:.2} s, {} MiB.",
        resident_bytes >> 20
    ));
    cluster.wait_ready(setup::READY).await.map_err(ClusterError::from)?;
    Ok(Restart { replica: name, signal, ready_s, resident_bytes })
}

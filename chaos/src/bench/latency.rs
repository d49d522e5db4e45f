//! One payment at a time: how long a front node waits for its SETTLE.

use super::{
    BenchError, Options,
    drive::{Driver, Run},
    mint::{Mint, Shape},
    quantiles::Quantiles,
    setup,
};
use crate::story::Story;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Before the measurement, through each link.
const WARM_UP: usize = 200;

/// Between two payments: low load, and no rhythm with the heartbeats.
const PAUSE: Duration = Duration::from_millis(7);

/// For everything at one link.
const LIMIT: Duration = Duration::from_secs(600);

/// Offered → SETTLE of single-part, auto-settled payments.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Through the front node whose link the leader holds.
    pub owner_is_leader: Quantiles,
    /// Through the one whose link a follower holds.
    pub owner_is_follower: Quantiles,
    /// Of all, settled.
    pub settled: u64,
    /// Of all, not settled.
    pub failed: u64,
}

pub(super) async fn measure(options: &Options, story: &Story) -> Result<Latency, BenchError> {
    let mut cluster = setup::start(options, "latency").await?;
    let deadline = Instant::now() + setup::READY;
    loop {
        let owners = setup::owners(&mut cluster).await?;
        setup::lead(&mut cluster, owners[0]).await?;
        let now = setup::owners(&mut cluster).await?;
        if cluster.leader().await == Some(now[0]) && now[1] != now[0] {
            break;
        }
        if Instant::now() >= deadline {
            return Err(BenchError::Missing("leader and links do not stay where they were put".into()));
        }
    }
    let samples = if options.quick { 50 } else { options.samples };
    story.say(format!("latency: {samples} payments through each link, one at a time."));
    let mint = Mint::open(&cluster).await?;
    let mut driver = Driver::open(&cluster).await?;
    let (warm_up, mut runs) = (WARM_UP.min(samples), [Run::default(), Run::default()]);
    for lane in [0, 1] {
        let payments = mint.make(warm_up, Shape::SingleAt(lane)).await?;
        driver.run(payments, 1, LIMIT).await?;
    }
    let first = mint.make(samples, Shape::SingleAt(0)).await?;
    let second = mint.make(samples, Shape::SingleAt(1)).await?;
    // In turn, so that whatever disturbs the machine disturbs both.
    for pair in first.into_iter().zip(second) {
        for (run, payment) in runs.iter_mut().zip([pair.0, pair.1]) {
            let one = driver.run([payment], 1, LIMIT).await?;
            run.counts.settled += one.counts.settled;
            run.counts.failed += one.counts.failed;
            run.offered_us.extend(one.offered_us);
            tokio::time::sleep(PAUSE).await;
        }
    }
    let [leader, follower] = runs;
    Ok(Latency {
        owner_is_leader: leader.offered(),
        owner_is_follower: follower.offered(),
        settled: leader.counts.settled + follower.counts.settled,
        failed: leader.counts.failed + follower.counts.failed,
    })
}

//! As many payments as the cluster takes, and the making of invoices.

use super::{
    BenchError, Options,
    drive::{Counts, Driver},
    invoices::{self, Creation},
    mint::{Mint, Shape},
    quantiles::Quantiles,
    setup,
    usage::CpuShare,
};
use crate::{cluster::Cluster, story::Story};
use serde::Serialize;
use std::time::Duration;

/// Parts of a split payment.
const PARTS: usize = 4;

/// Payments under way that are tried, least first.
const WINDOWS: [usize; 5] = [32, 64, 128, 256, 512];

/// How long each is tried.
const TRIAL: Duration = Duration::from_secs(4);

/// A window whose payments wait longer than this is too large.
const P99_MAX_MS: f64 = 100.0;

/// Payments of one trial are made for at most this rate, so that the first ones do not run out.
const RATE_AT_FIRST: usize = 4_000;

/// See the [module](self).
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Payments of one part, half through each front node.
    pub single: Saturation,
    /// Payments of four parts, two through each.
    pub four_parts: Saturation,
    /// Invoices made over the API.
    pub invoices: Vec<Creation>,
    /// What all payments brought the LND nodes, by their channels.
    pub received_msat: u64,
    /// What it must be.
    pub expected_msat: u64,
}

/// The most that was got.
#[derive(Clone, Debug, Serialize)]
pub struct Saturation {
    /// Payments under way at a time.
    pub window: usize,
    /// Settled payments a second.
    pub payments_per_s: f64,
    /// How long it went on.
    pub seconds: f64,
    /// From the first part's offer to the interceptor to the last part's answer.
    pub offered_to_settled: Quantiles,
    /// From the first part's being locked in at the LND node, waiting for its turn there included.
    pub locked_to_settled: Quantiles,
    /// What became of the payments.
    pub counts: Counts,
    /// Who used the machine.
    pub cpu: Vec<CpuShare>,
    /// Payments a second and p99 with other windows.
    pub tried: Vec<Trial>,
}

/// One window that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Payments under way at a time.
    pub window: usize,
    /// Settled payments a second.
    pub payments_per_s: f64,
    /// Offered → last answer.
    pub p99_ms: f64,
}

pub(super) async fn measure(options: &Options, story: &Story) -> Result<Throughput, BenchError> {
    let mut cluster = setup::start(options, "throughput").await?;
    setup::owners(&mut cluster).await?;
    let mint = Mint::open(&cluster).await?;
    let mut bench =
        Bench { cluster: &cluster, mint, driver: Driver::open(&cluster).await?, settled: 0, parts: 0 };
    let single = bench.saturate(Shape::Single, options, story).await?;
    let four_parts = bench.saturate(Shape::Parts(PARTS), options, story).await?;
    let (settled, parts) = (bench.settled, bench.parts);
    let expected_msat = bench.mint.received_msat(parts);
    setup::settled_everywhere(&cluster, settled).await?;
    let received_msat = setup::received_msat(&cluster).await?;
    let invoices = invoices::measure(&cluster, options, story).await?;
    Ok(Throughput { single, four_parts, invoices, received_msat, expected_msat })
}

/// A cluster under load, and how much it has settled.
pub(super) struct Bench<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) mint: Mint,
    pub(super) driver: Driver,
    pub(super) settled: u64,
    pub(super) parts: u64,
}

impl Bench<'_> {
    /// Finds the window with the highest rate whose payments do not wait too long, and measures with it.
    pub(super) async fn saturate(
        &mut self,
        shape: Shape,
        options: &Options,
        story: &Story,
    ) -> Result<Saturation, BenchError> {
        story.say(format!("throughput: {shape:?}, looking for the best number of payments under way."));
        let trial = if options.quick { Duration::from_millis(500) } else { TRIAL };
        let windows: Vec<usize> = match options.window {
            Some(window) => vec![window],
            None if options.quick => vec![WINDOWS[0]],
            None => WINDOWS.to_vec(),
        };
        let (mut tried, mut rate) = (Vec::new(), RATE_AT_FIRST as f64);
        // The first trial warms everything up and does not count.
        for window in windows.first().into_iter().chain(&windows) {
            let result = self.run(shape, *window, trial, rate).await?;
            rate = rate.max(result.payments_per_s * 1.5);
            tried.push(result);
        }
        tried.remove(0);
        let good = tried.iter().filter(|result| result.offered_to_settled.p99_ms <= P99_MAX_MS);
        let best = good.max_by(|a, b| a.payments_per_s.total_cmp(&b.payments_per_s));
        let best = best.unwrap_or(&tried[0]);
        let (window, expected) = (best.window, best.payments_per_s * 1.3);
        let seconds = Duration::from_secs(if options.quick { 1 } else { options.seconds });
        story.say(format!("throughput: {shape:?}, {window} under way, {} s.", seconds.as_secs()));
        let mut result = self.run(shape, window, seconds, expected).await?;
        let trial = |result: &Saturation| Trial {
            window: result.window,
            payments_per_s: result.payments_per_s,
            p99_ms: result.offered_to_settled.p99_ms,
        };
        result.tried = tried.iter().map(trial).collect();
        Ok(result)
    }

    /// One measurement with payments made ahead for this rate.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate times a time is a count"
    )]
    pub(super) async fn run(
        &mut self,
        shape: Shape,
        window: usize,
        limit: Duration,
        rate: f64,
    ) -> Result<Saturation, BenchError> {
        let count = ((rate * limit.as_secs_f64()) as usize).max(window);
        let payments = self.mint.make(count, shape).await?;
        let meter = setup::meter(self.cluster);
        let run = self.driver.run(payments, window, limit).await?;
        let cpu = meter.read();
        self.settled += run.counts.settled;
        self.parts += run.counts.htlcs_settled;
        Ok(Saturation {
            window,
            payments_per_s: run.rate(),
            seconds: run.elapsed.as_secs_f64(),
            offered_to_settled: run.offered(),
            locked_to_settled: run.locked(),
            counts: run.counts,
            cpu,
            tried: Vec::new(),
        })
    }
}

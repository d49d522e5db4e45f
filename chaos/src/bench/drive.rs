//! Offers prepared payments to the simulated LND nodes, so many at a time, and keeps the times.

use super::{BenchError, mint::Payment, quantiles::Quantiles};
use crate::cluster::Cluster;
use mux_proto::lndsim::v1::{HtlcBatch, TaggedHtlc, Verdict, VerdictBatch, verdict::Kind};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

/// Batches on their way to a node, or verdicts on their way back.
const BATCHES_MAX: usize = 1_024;

/// Payments that are still open when a measurement ends get this long.
const DRAIN: Duration = Duration::from_secs(60);

/// One simulated LND, as those see it who pay through it.
struct Lane {
    batches: mpsc::Sender<HtlcBatch>,
    _reader: AbortOnDropHandle<()>,
}

/// A part's end: which payment, and what became of it.
type Ended = Result<VerdictBatch, tonic::Status>;

/// See the [module](self).
pub(super) struct Driver {
    lanes: Vec<Lane>,
    ended: mpsc::Receiver<Ended>,
    next: u64,
}

/// What became of the payments of one measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Offered.
    pub payments: u64,
    /// Every part was settled.
    pub settled: u64,
    /// At least one part was not.
    pub failed: u64,
    /// Their parts, all told.
    pub htlcs: u64,
    /// The same by front node.
    pub htlcs_by_node: Vec<u64>,
    /// Parts that were settled.
    pub htlcs_settled: u64,
    /// Why parts were not settled.
    pub reasons: BTreeMap<String, u64>,
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) counts: Counts,
    /// From the first part's offer to the interceptor to the last part's answer, per settled payment.
    pub(super) offered_us: Vec<u64>,
    /// From the first part's being locked in to the last part's answer.
    pub(super) locked_us: Vec<u64>,
    /// From the first offer to the last answer.
    pub(super) elapsed: Duration,
}

impl Run {
    /// Settled payments a second.
    #[allow(clippy::cast_precision_loss, reason = "a rate is no exact number")]
    pub(super) fn rate(&self) -> f64 {
        self.counts.settled as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }

    pub(super) fn offered(&self) -> Quantiles {
        Quantiles::of(self.offered_us.clone())
    }

    pub(super) fn locked(&self) -> Quantiles {
        Quantiles::of(self.locked_us.clone())
    }
}

/// A payment under way.
struct Open {
    parts_left: usize,
    locked_us: u64,
    offered_us: u64,
    ended_us: u64,
    all_settled: bool,
}

impl Driver {
    pub(super) async fn open(cluster: &Cluster) -> Result<Self, BenchError> {
        let (ended_to, ended) = mpsc::channel(BATCHES_MAX);
        let mut lanes = Vec::new();
        for lnd in &cluster.lnds {
            let (batches, outgoing) = mpsc::channel(BATCHES_MAX);
            let mut verdicts = lnd
                .control()
                .offer_batches(ReceiverStream::new(outgoing))
                .await
                .map_err(|status| BenchError::Missing(format!("{}: {status}", lnd.alias)))?
                .into_inner();
            let ended_to = ended_to.clone();
            let reader = tokio::spawn(async move {
                while let Some(ended) = verdicts.message().await.transpose() {
                    let over = ended.is_err();
                    if ended_to.send(ended).await.is_err() || over {
                        return;
                    }
                }
            });
            lanes.push(Lane { batches, _reader: AbortOnDropHandle::new(reader) });
        }
        Ok(Self { lanes, ended, next: 0 })
    }

    /// Keeps `window` payments under way until there are no more or the time is over, then waits for the rest.
    pub(super) async fn run(
        &mut self,
        payments: impl IntoIterator<Item = Payment>,
        window: usize,
        limit: Duration,
    ) -> Result<Run, BenchError> {
        let mut payments = payments.into_iter().fuse();
        let mut run = Run::default();
        let mut open = HashMap::with_capacity(window);
        let began = Instant::now();
        let mut over = false;
        let mut last = began;
        loop {
            over |= began.elapsed() >= limit;
            let room = if over { 0 } else { window.saturating_sub(open.len()) };
            let fresh: Vec<Payment> = payments.by_ref().take(room).collect();
            over |= fresh.len() < room;
            self.offer(fresh, &mut open, &mut run.counts).await?;
            if open.is_empty() {
                break;
            }
            let deadline = if over { last.max(began) + DRAIN } else { Instant::now() + DRAIN };
            for verdict in self.verdicts(deadline, open.len()).await? {
                note(&mut run, &mut open, &verdict);
            }
            last = Instant::now();
        }
        run.elapsed = last - began;
        Ok(run)
    }

    /// The next verdicts; waits for at least one.
    async fn verdicts(&mut self, deadline: Instant, open: usize) -> Result<Vec<Verdict>, BenchError> {
        let missing = |what: &str| BenchError::Missing(format!("{what}: {open} payments have no end"));
        let next = tokio::time::timeout_at(deadline, self.ended.recv()).await;
        let next = next.map_err(|_| missing("no verdict in time"))?.ok_or_else(|| missing("no LND left"))?;
        let mut all = next.map_err(|status| missing(&status.to_string()))?.verdicts;
        while let Ok(more) = self.ended.try_recv() {
            all.extend(more.map_err(|status| missing(&status.to_string()))?.verdicts);
        }
        Ok(all)
    }

    async fn offer(
        &mut self,
        payments: Vec<Payment>,
        open: &mut HashMap<u64, Open>,
        counts: &mut Counts,
    ) -> Result<(), BenchError> {
        let mut batches = vec![Vec::new(); self.lanes.len()];
        counts.htlcs_by_node.resize(self.lanes.len(), 0);
        for payment in payments {
            let tag = self.next;
            self.next += 1;
            counts.payments += 1;
            counts.htlcs += u64::try_from(payment.parts.len()).unwrap_or(0);
            let parts_left = payment.parts.len();
            let (locked_us, offered_us) = (u64::MAX, u64::MAX);
            open.insert(tag, Open { parts_left, locked_us, offered_us, ended_us: 0, all_settled: true });
            for part in payment.parts {
                counts.htlcs_by_node[part.lane] += 1;
                batches[part.lane].push(TaggedHtlc { tag, htlc: Some(part.htlc) });
            }
        }
        for (lane, htlcs) in self.lanes.iter().zip(batches) {
            if !htlcs.is_empty() {
                let gone = |_| BenchError::Missing("a simulated LND takes no more HTLCs".into());
                lane.batches.send(HtlcBatch { htlcs }).await.map_err(gone)?;
            }
        }
        Ok(())
    }

    /// Begins a payment and does not wait for its end; see [`Driver::next_ends`].
    pub(super) async fn begin(&mut self, payment: Payment) -> Result<u64, BenchError> {
        let tag = self.next;
        self.offer(vec![payment], &mut HashMap::new(), &mut Counts::default()).await?;
        Ok(tag)
    }

    /// Verdicts on parts of payments that were begun, if there are any before the deadline.
    pub(super) async fn next_ends(&mut self, deadline: Instant) -> Result<Vec<Verdict>, BenchError> {
        match tokio::time::timeout_at(deadline, self.ended.recv()).await {
            Err(_) => Ok(Vec::new()),
            Ok(Some(Ok(batch))) => Ok(batch.verdicts),
            Ok(Some(Err(status))) => Err(BenchError::Missing(format!("a simulated LND: {status}"))),
            Ok(None) => Err(BenchError::Missing("no simulated LND is left".into())),
        }
    }
}

fn note(run: &mut Run, open: &mut HashMap<u64, Open>, verdict: &Verdict) {
    let Some(payment) = open.get_mut(&verdict.tag) else { return };
    payment.parts_left = payment.parts_left.saturating_sub(1);
    payment.locked_us = payment.locked_us.min(verdict.added_unix_us);
    payment.ended_us = payment.ended_us.max(verdict.ended_unix_us);
    if verdict.offered_unix_us > 0 {
        payment.offered_us = payment.offered_us.min(verdict.offered_unix_us);
    }
    if verdict.kind() == Kind::Settled {
        run.counts.htlcs_settled += 1;
    } else {
        payment.all_settled = false;
        let reason = format!("{} {}", verdict.kind().as_str_name(), verdict.reason);
        *run.counts.reasons.entry(reason.trim().to_owned()).or_default() += 1;
    }
    if payment.parts_left > 0 {
        return;
    }
    if payment.all_settled {
        run.counts.settled += 1;
        run.offered_us.push(payment.ended_us.saturating_sub(payment.offered_us));
        run.locked_us.push(payment.ended_us.saturating_sub(payment.locked_us));
    } else {
        run.counts.failed += 1;
    }
    open.remove(&verdict.tag);
}

/// The machine's clock, which the simulated LND nodes use too.
pub(super) fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

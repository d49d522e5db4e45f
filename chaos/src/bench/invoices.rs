//! Making invoices over the API, as a shop does.

use super::{BenchError, Options, quantiles::Quantiles};
use crate::{cluster::Cluster, story::Story};
use futures::{StreamExt as _, stream};
use mux_proto::mux::v1::{AddInvoiceRequest, add_invoice_request::What};
use serde::Serialize;
use std::time::Instant;

/// Calls under way at a time, over all replicas in turn.
const CALLS: usize = 32;

/// Invoices of each kind.
const COUNT: usize = 10_000;

/// Invoices of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Creation {
    /// Stored (in the log before it is handed out) or stateless.
    pub kind: &'static str,
    /// Calls under way at a time.
    pub calls: usize,
    /// Made.
    pub made: usize,
    /// A second.
    pub per_s: f64,
    /// Call to answer.
    pub answered: Quantiles,
}

pub(super) async fn measure(
    cluster: &Cluster,
    options: &Options,
    story: &Story,
) -> Result<Vec<Creation>, BenchError> {
    let count = if options.quick { 60 } else { COUNT };
    story.say(format!("invoices: {count} stored and {count} stateless ones, {CALLS} calls at a time."));
    Ok(vec![make(cluster, count, false).await?, make(cluster, count, true).await?])
}

#[allow(clippy::cast_precision_loss, reason = "a rate is no exact number")]
async fn make(cluster: &Cluster, count: usize, stateless: bool) -> Result<Creation, BenchError> {
    let clients: Vec<_> = cluster.replicas.iter().map(|replica| replica.client.clone()).collect();
    let began = Instant::now();
    let mut calls = stream::iter(0..count)
        .map(|number| {
            let client = clients[number % clients.len()].clone();
            tokio::spawn(async move {
                let request = AddInvoiceRequest {
                    amount_msat: 100_000,
                    what: Some(What::Description("benchmark".into())),
                    stateless,
                    ..AddInvoiceRequest::default()
                };
                let began = Instant::now();
                client.add_invoice(request).await.map(|_| began.elapsed())
            })
        })
        .buffer_unordered(CALLS);
    let mut samples = Vec::with_capacity(count);
    while let Some(ended) = calls.next().await {
        let took = ended.map_err(|error| BenchError::Missing(error.to_string()))?;
        let took = took.map_err(crate::cluster::ClusterError::from)?;
        samples.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
    Ok(Creation {
        kind: if stateless { "stateless" } else { "stored" },
        calls: CALLS,
        made: samples.len(),
        per_s: samples.len() as f64 / began.elapsed().as_secs_f64(),
        answered: Quantiles::of(samples),
    })
}

//! The metrics: names, kinds, labels, meanings, and how they are handed out.

mod entries;
mod page;

pub use entries::CATALOGUE;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
pub use page::markdown;

/// Seconds; from a commit on a fast disk to a call that waits for a decision.
const DURATION_BUCKETS: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds; an HTLC waits for the rest of its set, and for an application that holds it.
const ANSWER_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 3_600.0];

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// A value of now.
    Gauge,
    /// Observations in fixed buckets.
    Histogram,
}

/// A metric as it is promised to dashboards and alerts.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Begins with `mux_`, or with `process_` where every exporter has the same.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// `seconds`, `bytes`; nothing where the name says what is counted.
    pub unit: Option<Unit>,
    /// Labels, each with a bounded set of values.
    pub labels: &'static [&'static str],
    /// In a sentence.
    pub help: &'static str,
}

/// Makes the process's recorder.
///
/// # Errors
/// A text: there is a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    let duration = Matcher::Suffix("_seconds".to_owned());
    let answer = Matcher::Full("mux_htlc_answer_duration_seconds".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(duration, &DURATION_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(answer, &ANSWER_BUCKETS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| error.to_string())?;
    describe();
    Ok(handle)
}

/// Tells the recorder what each metric means.
pub fn describe() {
    for Metric { name, kind, unit, help, .. } in CATALOGUE {
        match (kind, unit) {
            (Kind::Counter, Some(unit)) => describe_counter!(*name, *unit, *help),
            (Kind::Counter, None) => describe_counter!(*name, *help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(*name, *unit, *help),
            (Kind::Gauge, None) => describe_gauge!(*name, *help),
            (Kind::Histogram, Some(unit)) => describe_histogram!(*name, *unit, *help),
            (Kind::Histogram, None) => describe_histogram!(*name, *help),
        }
    }
}

#[cfg(test)]
mod tests;

use super::core::Answer;
use metrics::{counter, gauge, histogram};
use std::time::Duration;

/// The metrics of one link.
pub(super) struct Measure {
    node: String,
    opened: bool,
}

impl Measure {
    pub(super) fn new(alias: &str) -> Self {
        let measure = Self { node: alias.to_owned(), opened: false };
        measure.stream_up(false);
        measure
    }

    pub(super) fn intercepted(&self) {
        counter!("mux_htlc_intercepted_total", "node" => self.node.clone()).increment(1);
    }

    pub(super) fn answered(&self, answer: &Answer) {
        let (action, reason) = answer.action.labels();
        let node = self.node.clone();
        counter!("mux_htlc_verdicts_total", "node" => node, "action" => action, "reason" => reason)
            .increment(1);
        let seconds = Duration::from_millis(answer.waited_ms).as_secs_f64();
        histogram!("mux_htlc_answer_duration_seconds", "node" => self.node.clone()).record(seconds);
    }

    pub(super) fn stream_up(&self, up: bool) {
        gauge!("mux_lnd_stream_up", "node" => self.node.clone()).set(if up { 1.0 } else { 0.0 });
    }

    /// A stream is being opened; the first time is no reconnect.
    pub(super) fn opening(&mut self) {
        if std::mem::replace(&mut self.opened, true) {
            counter!("mux_lnd_stream_reconnects_total", "node" => self.node.clone()).increment(1);
        }
    }

    pub(super) fn alarm(&self) {
        counter!("mux_htlc_rescue_alarms_total", "node" => self.node.clone()).increment(1);
    }

    /// HTLCs that LND offered on this stream and that were not answered.
    pub(super) fn outstanding(&self, held: usize) {
        gauge!("mux_link_outstanding_htlcs", "node" => self.node.clone())
            .set(f64::from(u32::try_from(held).unwrap_or(u32::MAX)));
    }
}

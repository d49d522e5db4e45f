use super::core::Answer;
use metrics::{counter, gauge, histogram};
use mux_raft::machine::State;
use mux_raft::machine::model::LND_INTERCEPT_DELTA;
use mux_raft::types::NodePubkey;
use std::time::{Duration, Instant};

/// How often gauges that cost a walk over the state are set.
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

/// What no deadline looks like in `mux_htlc_min_blocks_to_deadline`.
const NO_DEADLINE_BLOCKS: f64 = 1_000_000.0;

/// The metrics of one link.
pub(super) struct Measure {
    node: String,
    opened: bool,
    gauges_at: Option<Instant>,
}

impl Measure {
    pub(super) fn new(alias: &str) -> Self {
        let measure = Self { node: alias.to_owned(), opened: false, gauges_at: None };
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

    pub(super) fn tick(&mut self, held: usize, node: &NodePubkey, state: &State) {
        if self.gauges_at.is_some_and(|at| at.elapsed() < GAUGES_INTERVAL) {
            return;
        }
        self.gauges_at = Some(Instant::now());
        gauge!("mux_htlc_held", "node" => self.node.clone())
            .set(f64::from(u32::try_from(held).unwrap_or(u32::MAX)));
        let height = state.height_for(node);
        let open = state.unresolved_htlcs(node).filter(|htlc| !htlc.gone);
        let deadline = open.map(|htlc| htlc.incoming_expiry.saturating_sub(LND_INTERCEPT_DELTA)).min();
        let blocks = match (height, deadline) {
            (Some(height), Some(deadline)) => f64::from(deadline) - f64::from(height),
            _ => NO_DEADLINE_BLOCKS,
        };
        gauge!("mux_htlc_min_blocks_to_deadline", "node" => self.node.clone()).set(blocks);
    }
}

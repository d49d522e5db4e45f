//! Gauges that follow from the applied state: read once a second rather than kept.

use crate::api::invoices_by_state;
use mux_raft::machine::State;
use mux_raft::machine::model::{FinalState, InvoiceState, LND_INTERCEPT_DELTA};
use mux_raft::types::BlockHeight;
use std::collections::BTreeSet;

/// Sets looked at for the most urgent deadline: apply waits meanwhile.
const SETS_LOOKED_AT: usize = 2_000;

/// Unresolved HTLCs looked at for each front node: as many as some fifty full channels hold.
const HTLCS_LOOKED_AT: usize = 20_000;

/// Sets the gauges. Remembers which labels it has used, so that what disappears goes to zero.
#[derive(Debug, Default)]
pub struct Sampler {
    aliases: BTreeSet<String>,
}

/// What is read under the state's lock.
struct Seen {
    invoices: Vec<(String, u64)>,
    collecting: usize,
    accepted: usize,
    sequence: u64,
    time_ms: u64,
    unexpected: usize,
    min_blocks: Option<i64>,
    nodes: Vec<SeenNode>,
}

#[derive(Default)]
struct SeenNode {
    alias: String,
    held: u64,
    min_blocks: Option<i64>,
    unresolved: usize,
    unconfirmed: usize,
    healthy: bool,
    height: Option<u32>,
}

impl Sampler {
    /// Reads and sets everything once. `now_ms` is this replica's wall clock.
    pub fn sample(&mut self, read: impl FnOnce(&mut dyn FnMut(&State)), now_ms: u64) {
        let mut seen = None;
        read(&mut |state| seen = Some(Seen::of(state)));
        if let Some(seen) = seen {
            self.record(seen, now_ms);
        }
    }

    fn record(&mut self, seen: Seen, now_ms: u64) {
        metrics::gauge!("mux_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        for (state, invoices) in seen.invoices {
            metrics::gauge!("mux_invoices", "state" => state).set(invoices as f64);
        }
        metrics::gauge!("mux_sets", "state" => "collecting").set(seen.collecting as f64);
        metrics::gauge!("mux_sets", "state" => "accepted").set(seen.accepted as f64);
        metrics::gauge!("mux_event_sequence").set(seen.sequence as f64);
        metrics::gauge!("mux_htlc_unexpected_settles").set(seen.unexpected as f64);
        metrics::gauge!("mux_set_min_blocks_to_deadline").set(blocks_or_infinity(seen.min_blocks));
        if seen.time_ms > 0 {
            let lag_ms = now_ms as f64 - seen.time_ms as f64;
            metrics::gauge!("mux_log_time_lag_seconds").set(lag_ms / 1_000.0);
        }
        let gone = std::mem::take(&mut self.aliases);
        for node in &seen.nodes {
            self.aliases.insert(node.alias.clone());
            record_node(node);
        }
        for alias in gone.difference(&self.aliases) {
            record_node(&SeenNode { alias: alias.clone(), ..SeenNode::default() });
        }
    }
}

/// Infinity: nothing is urgent. An alert on "less than" then stays silent.
fn blocks_or_infinity(blocks: Option<i64>) -> f64 {
    blocks.map_or(f64::INFINITY, |blocks| blocks as f64)
}

fn record_node(node: &SeenNode) {
    let gauge =
        |name: &'static str, value: f64| metrics::gauge!(name, "node" => node.alias.clone()).set(value);
    gauge("mux_htlc_held", node.held as f64);
    gauge("mux_htlc_min_blocks_to_deadline", blocks_or_infinity(node.min_blocks));
    gauge("mux_htlc_unresolved", node.unresolved as f64);
    gauge("mux_htlc_unconfirmed", node.unconfirmed as f64);
    gauge("mux_front_node_healthy", flag(node.healthy));
    if let Some(height) = node.height {
        gauge("mux_front_node_block_height", height.into());
    }
}

impl Seen {
    fn of(state: &State) -> Self {
        let healthy: BTreeSet<_> = state.healthy_front_nodes().map(|front| front.node).collect();
        let (mut collecting, mut accepted) = (0, 0);
        let mut min_blocks: Option<i64> = None;
        for (at, invoice) in state.undecided_sets().enumerate() {
            if invoice.state == InvoiceState::Accepted {
                accepted += 1;
            } else {
                collecting += 1;
            }
            if at < SETS_LOOKED_AT {
                let blocks = blocks_left(state, invoice);
                min_blocks = min_blocks.into_iter().chain(blocks).min();
            }
        }
        // Also those that were removed: what they still owe must not go unseen.
        let nodes = state.all_front_nodes().map(|front| {
            let unresolved = state.unresolved_htlcs(&front.node).take(HTLCS_LOOKED_AT);
            let (mut count, mut unconfirmed) = (0, 0);
            let mut deadline: Option<BlockHeight> = None;
            for htlc in unresolved {
                count += 1;
                if !htlc.gone {
                    let own = htlc.incoming_expiry.saturating_sub(LND_INTERCEPT_DELTA);
                    deadline = Some(deadline.map_or(own, |first| first.min(own)));
                }
                unconfirmed += usize::from(htlc.final_state == FinalState::Unconfirmed);
            }
            let height = state.height_for(&front.node);
            let blocks =
                |(deadline, height): (BlockHeight, BlockHeight)| i64::from(deadline) - i64::from(height);
            SeenNode {
                min_blocks: deadline.zip(height).map(blocks),
                alias: front.alias.clone(),
                held: state.held_count(&front.node),
                unresolved: count,
                unconfirmed,
                healthy: healthy.contains(&front.node),
                height: front.tip.map(|tip| tip.height),
            }
        });
        Self {
            invoices: invoices_by_state(state).into_iter().collect(),
            collecting,
            accepted,
            sequence: state.event_sequence(),
            time_ms: state.time_ms(),
            unexpected: state.unexpected_settles().count(),
            min_blocks,
            nodes: nodes.collect(),
        }
    }
}

/// Of the set under way. Negative: too late.
fn blocks_left(state: &State, invoice: &mux_raft::machine::model::Invoice) -> Option<i64> {
    let deadline = state.settle_deadline_height(&invoice.hash)?;
    let nodes = invoice.set.iter().flat_map(|set| &set.parts).map(|key| key.node);
    let height = nodes.filter_map(|node| state.height_for(&node)).max()?;
    Some(i64::from(deadline) - i64::from(height))
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

//! Which height HTLCs are judged by.
//!
//! * A tip is *fresh* while it was confirmed within [`HEIGHT_FRESH_MS`] of log time and is synced.
//! * The median is taken over the fresh nodes; those further than [`HEIGHT_DEVIATION_MAX`] from it are
//!   flagged and the median is taken again without them. With an even number it is the upper middle one:
//!   too high a height fails payments, too low a one loses money.
//! * Two fresh nodes that disagree leave no majority: the higher counts for both and neither is flagged.
//!   Payments through the lower one may then be refused, which is safe; flagging one of the two would be a
//!   guess, and if the guess were wrong, would leave the cluster with the wrong height alone.
//! * Forgetting goes by the lowest of the heights instead, so that one absurd tip forgets nothing.

use super::model::{FrontNode, FrontNodeMode, HEIGHT_DEVIATION_MAX, HEIGHT_FRESH_MS};
use super::state::State;
use crate::types::{BlockHeight, LogTimeMs, NodePubkey};

/// The least number of fresh nodes that can outvote one of them.
const NODES_TO_FLAG_MIN: usize = 3;

impl State {
    /// The height that HTLCs of this node are judged by: the greater of its own last one and the median of
    /// the nodes whose height is fresh and plausible. `None`: none is known.
    #[must_use]
    pub fn height_for(&self, node: &NodePubkey) -> Option<BlockHeight> {
        let own = self.core.front_nodes.get(node)?.tip.map(|tip| tip.height);
        own.max(self.index.median)
    }

    /// The node's own tip was confirmed lately: the precondition of every decision to settle.
    pub(super) fn has_fresh_height(&self, front: &FrontNode) -> bool {
        is_fresh(front, self.core.time_ms)
    }

    /// The height to accept a new HTLC by: somebody must have confirmed one lately, and the node's own must
    /// be plausible.
    pub(super) fn accept_height(&self, front: &FrontNode) -> Option<BlockHeight> {
        let known = self.has_fresh_height(front) || self.index.median.is_some();
        self.height_for(&front.node).filter(|_| known && !front.height_flagged)
    }

    /// A height that was reached whoever is wrong: the lowest of the node's own and all fresh ones.
    pub(super) fn certain_height(&self, node: &NodePubkey) -> Option<BlockHeight> {
        let front = self.core.front_nodes.get(node)?;
        // One that was removed reports none any more: the others' must do.
        let own = match self.front_node_mode(node) {
            FrontNodeMode::Removed => None,
            FrontNodeMode::Active | FrontNodeMode::Disabled => Some(front.tip?.height),
        };
        let fresh = self.core.front_nodes.values().filter(|front| self.has_fresh_height(front));
        fresh.filter_map(|front| front.tip).map(|tip| tip.height).chain(own).min()
    }

    /// The lowest height that was confirmed lately, by any node.
    pub(super) fn lowest_fresh_height(&self) -> Option<BlockHeight> {
        let fresh = self.core.front_nodes.values().filter(|front| self.has_fresh_height(front));
        fresh.filter_map(|front| front.tip).map(|tip| tip.height).min()
    }

    /// Brings the median and the flags up to the present tips and time.
    pub(super) fn refresh_heights(&mut self) {
        let time_ms = self.core.time_ms;
        let fresh = |front: &FrontNode| front.tip.filter(|_| is_fresh(front, time_ms)).map(|tip| tip.height);
        let all: Vec<_> = self.core.front_nodes.values().filter_map(fresh).collect();
        let can_flag = all.len() >= NODES_TO_FLAG_MIN;
        let Some(first_median) = upper_median(all.clone()) else {
            self.index.median = None;
            self.core.front_nodes.values_mut().for_each(|front| front.height_flagged = false);
            return;
        };
        let is_off = |height: BlockHeight| height.abs_diff(first_median) > HEIGHT_DEVIATION_MAX && can_flag;
        for front in self.core.front_nodes.values_mut() {
            front.height_flagged = fresh(front).is_some_and(is_off);
        }
        self.index.median = upper_median(all.into_iter().filter(|height| !is_off(*height)).collect());
    }
}

/// Its tip was confirmed lately and is synced.
fn is_fresh(front: &FrontNode, time_ms: LogTimeMs) -> bool {
    front.tip.is_some_and(|tip| tip.synced && time_ms.saturating_sub(tip.confirmed_at_ms) <= HEIGHT_FRESH_MS)
}

fn upper_median(mut heights: Vec<BlockHeight>) -> Option<BlockHeight> {
    heights.sort_unstable();
    heights.get(heights.len().checked_div(2)?).copied()
}

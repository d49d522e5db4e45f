//! Readers for links, APIs, metrics and operators, beyond looking records up.

use super::model::{FrontNode, FrontNodeMode, Htlc, Invoice, InvoiceState};
use super::state::State;
use super::timers::{highest_key, lowest_key};
use crate::types::{BlockHeight, LogTimeMs, NodePubkey, PaymentHash};
use std::collections::BTreeMap;

impl State {
    /// Undecided HTLCs that a front node holds.
    #[must_use]
    pub fn held_count(&self, node: &NodePubkey) -> u64 {
        let channels = self.index.held.range((*node, 0)..=(*node, u64::MAX));
        channels.fold(0, |sum, (_, held)| sum.saturating_add(u64::from(*held)))
    }

    /// Undecided HTLCs that a front node holds on one incoming channel.
    #[must_use]
    pub fn held_on_channel(&self, node: &NodePubkey, chan_id: u64) -> u32 {
        self.index.held.get(&(*node, chan_id)).copied().unwrap_or(0)
    }

    /// HTLCs of a front node whose end is not known yet, whatever their verdict: what must be looked up.
    pub fn unresolved_htlcs(&self, node: &NodePubkey) -> impl Iterator<Item = &Htlc> {
        let keys = self.index.unresolved.range(lowest_key(*node)..=highest_key(*node));
        keys.filter_map(|key| self.core.htlcs.get(key))
    }

    /// HTLCs that LND settled although the cluster never decided so. Each is an incident.
    pub fn unexpected_settles(&self) -> impl Iterator<Item = &Htlc> {
        self.index.unexpected.iter().filter_map(|key| self.core.htlcs.get(key))
    }

    /// Invoices with an undecided set, collecting or accepted.
    pub fn undecided_sets(&self) -> impl Iterator<Item = &Invoice> {
        self.index.sets.iter().filter_map(|hash| self.core.invoices.get(hash))
    }

    /// Invoices whose set is accepted and not decided.
    pub fn accepted_sets(&self) -> impl Iterator<Item = &Invoice> {
        self.undecided_sets().filter(|invoice| invoice.state == InvoiceState::Accepted)
    }

    /// How many invoices are in each state, archived ones included; states without any are missing.
    #[must_use]
    pub fn invoice_counts(&self) -> BTreeMap<InvoiceState, u64> {
        let mut counts = self.index.counts.clone();
        for (state, archived) in &self.more.archived_counts {
            let count = counts.entry(*state).or_default();
            *count = count.saturating_add(*archived);
        }
        counts
    }

    /// Front nodes that new invoices may name: neither disabled nor removed.
    pub fn active_front_nodes(&self) -> impl Iterator<Item = &FrontNode> {
        self.front_nodes().filter(|front| self.front_node_mode(&front.node) == FrontNodeMode::Active)
    }

    /// Front nodes to announce in new invoices: active, live session, fresh and plausible height.
    pub fn healthy_front_nodes(&self) -> impl Iterator<Item = &FrontNode> {
        self.active_front_nodes().filter(|front| {
            self.is_session_live(front) && self.has_fresh_height(front) && !front.height_flagged
        })
    }

    /// Whether a front node's session is confirmed in this term and its owner was heard from lately.
    #[must_use]
    pub fn is_link_live(&self, node: &NodePubkey) -> bool {
        self.front_node(node).is_some_and(|front| self.is_session_live(front))
    }

    /// The height at which the undecided set of an invoice is failed, and from which it cannot be decided:
    /// the first of its parts' deadlines. `None`: it has no undecided set.
    #[must_use]
    pub fn settle_deadline_height(&self, hash: &PaymentHash) -> Option<BlockHeight> {
        let invoice = self.core.invoices.get(hash).filter(|invoice| !invoice.state.is_decided())?;
        let parts = invoice.set.iter().flat_map(|set| &set.parts);
        let margin_blocks = self.core.settings.margin_blocks;
        parts.filter_map(|key| self.core.htlcs.get(key)).map(|htlc| htlc.settle_deadline(margin_blocks)).min()
    }

    /// Until when accept and mpp timers wait after a gap in log time.
    #[must_use]
    pub fn grace_until_ms(&self) -> LogTimeMs {
        self.core.grace_until_ms
    }
}

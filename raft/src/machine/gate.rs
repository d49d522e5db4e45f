//! The gate: when the decision to settle a complete set may be taken.
//!
//! Before the decision nothing was revealed and everything can still be failed safely; after it every part
//! must be settled. So each part must be known to be there, reachable, and to have blocks enough, by word
//! that is recent in log time and given in the present leader's term.

use super::apply::Step;
use super::model::{Htlc, Invoice, InvoiceState};
use super::state::State;
use crate::mutant::{Mutant, planted};
use crate::types::{CircuitKey, NodePubkey, PaymentHash, SetId};
use std::collections::BTreeSet;

/// Why a set cannot be decided at the moment, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateReport {
    /// The accepted set.
    pub set_id: Option<SetId>,
    /// Nothing, if the gate is open.
    pub obstacles: Vec<GateObstacle>,
}

/// One thing in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateObstacle {
    /// The part.
    pub key: CircuitKey,
    /// What is wrong with it.
    pub cause: ObstacleCause,
}

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObstacleCause {
    /// LND reported it gone, it went on chain, or it has a verdict already.
    #[error("the HTLC is no longer held")]
    NotHeld,
    /// The cluster was restored from a backup, and LND has not said yet how some HTLCs ended.
    #[error("HTLCs are in doubt after a restoration")]
    Reconciling,
    /// Its front node's stream is down.
    #[error("the link is down")]
    LinkDown,
    /// LND has not offered it again on the present stream.
    #[error("not offered again on the present stream")]
    NotReoffered,
    /// The owner has not confirmed the stream since the leader changed.
    #[error("the link is not confirmed in this term")]
    Unconfirmed,
    /// The owner was not heard from for too long.
    #[error("no news from the link's owner")]
    NoNews,
    /// Its front node's height was not confirmed lately, or the node is not synced.
    #[error("the front node's height is not known")]
    HeightUnknown,
    /// Its front node's height differs from the others'.
    #[error("the front node's height is implausible")]
    HeightImplausible,
    /// Too few blocks left.
    #[error("too few blocks left")]
    Deadline,
    /// Its channel is not active (sets of more than one part).
    #[error("the channel is not active")]
    ChannelInactive,
}

impl State {
    /// What is in the way of deciding the accepted set of this invoice. `None`: there is no accepted set.
    #[must_use]
    pub fn gate_report(&self, hash: &PaymentHash) -> Option<GateReport> {
        let invoice = self.core.invoices.get(hash).filter(|invoice| is_accepted(invoice))?;
        let set_id = invoice.set.as_ref().and_then(|set| set.id);
        Some(GateReport { set_id, obstacles: self.obstacles(invoice).collect() })
    }

    /// Whether the accepted set of this invoice may be decided now.
    pub(super) fn is_gate_open(&self, invoice: &Invoice) -> bool {
        let complete = invoice.set.as_ref().is_some_and(|set| {
            let known = set.parts.iter().filter_map(|key| self.core.htlcs.get(key));
            let sum = known.map(|htlc| u128::from(htlc.outgoing_amount_msat.0)).sum::<u128>();
            !set.parts.is_empty() && sum >= u128::from(set.total_msat.0)
        });
        is_accepted(invoice) && complete && self.obstacles(invoice).next().is_none()
    }

    fn obstacles(&self, invoice: &Invoice) -> impl Iterator<Item = GateObstacle> {
        let parts = invoice.set.as_ref().map_or(0, |set| set.parts.len());
        let keys = invoice.set.iter().flat_map(|set| &set.parts);
        keys.filter_map(move |key| {
            let cause = match self.core.htlcs.get(key) {
                Some(htlc) => self.obstacle(htlc, parts > 1)?,
                None => ObstacleCause::NotHeld,
            };
            Some(GateObstacle { key: *key, cause })
        })
    }

    /// The first thing wrong with a part.
    fn obstacle(&self, htlc: &Htlc, multi_part: bool) -> Option<ObstacleCause> {
        let Some(front) = self.core.front_nodes.get(&htlc.key.node) else {
            return Some(ObstacleCause::LinkDown);
        };
        if planted(Mutant::DeadLinkSettles) && htlc.verdict.is_none() && !self.is_session_live(front) {
            return None;
        }
        let Some(session) = &front.session else { return Some(ObstacleCause::LinkDown) };
        let deadline = htlc.settle_deadline(self.core.settings.margin_blocks);
        if self.is_reconciling() {
            Some(ObstacleCause::Reconciling)
        } else if htlc.gone || htlc.on_chain || htlc.verdict.is_some() {
            Some(ObstacleCause::NotHeld)
        } else if htlc.session != session.id {
            Some(ObstacleCause::NotReoffered)
        } else if session.confirmed_term != self.core.applied.term {
            Some(ObstacleCause::Unconfirmed)
        } else if !self.is_session_live(front) {
            Some(ObstacleCause::NoNews)
        } else if !self.has_fresh_height(front) {
            Some(ObstacleCause::HeightUnknown)
        } else if front.height_flagged {
            Some(ObstacleCause::HeightImplausible)
        } else if self.height_for(&front.node).is_none_or(|height| height >= deadline) {
            Some(ObstacleCause::Deadline)
        } else if multi_part && session.inactive_channels.contains(&htlc.key.chan_id) {
            Some(ObstacleCause::ChannelInactive)
        } else {
            None
        }
    }

    /// Decides every set that waits for its gate and finds it open: those with a part at this node, or all.
    pub(super) fn decide_pending(&mut self, step: &mut Step, node: Option<NodePubkey>) {
        let hashes: BTreeSet<PaymentHash> = match node {
            Some(node) => {
                let range = (node, PaymentHash([0; 32]))..=(node, PaymentHash([0xff; 32]));
                self.index.pending.range(range).map(|(_, hash)| *hash).collect()
            }
            None => self.index.pending.iter().map(|(_, hash)| *hash).collect(),
        };
        for hash in hashes {
            if self.core.invoices.get(&hash).is_some_and(|invoice| self.is_gate_open(invoice)) {
                self.decide(step, hash);
            }
        }
    }
}

fn is_accepted(invoice: &Invoice) -> bool {
    invoice.state == InvoiceState::Accepted
}

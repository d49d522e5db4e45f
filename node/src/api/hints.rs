//! Which front nodes an invoice names.
//!
//! Payers try them in their own order, so the choice only has to be good, and different from invoice to
//! invoice so that no front node carries everything. Only healthy ones, if there are any. If none is (for a second after
//! the leader changed, or because all LNDs are down), whichever there are, and the caller is told: a node that is down
//! now may be back when the invoice is paid, and a cluster that issues nothing in that second is worse.

use super::error::ApiError;
use crate::invoice::Hint;
use crate::link::LinkStatus;
use mux_raft::machine::State;
use mux_raft::machine::model::FrontNode;
use mux_raft::types::{Msat, NodePubkey};

/// What an invoice names, and what there is to say about it.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) hints: Vec<Hint>,
    pub(super) warning: Option<String>,
}

/// At most `count` hops. `links` tells what this replica knows of the nodes' room to receive; `turn` moves
/// from invoice to invoice.
///
/// # Errors
/// [`ApiError::Precondition`] if no front node is registered.
pub(super) fn choose(
    state: &State,
    links: &[LinkStatus],
    amount_msat: Msat,
    count: usize,
    turn: usize,
) -> Result<Chosen, ApiError> {
    let all: Vec<&FrontNode> = state.active_front_nodes().collect();
    if all.is_empty() {
        return Err(ApiError::Precondition(
            "no front node is registered and enabled, so nobody could pay the invoice: configure [[front_nodes]] and \
             wait until a replica has connected, or use `muxcli front-node add` or `enable`"
                .into(),
        ));
    }
    let has_room = |node: &NodePubkey| {
        let known = links.iter().find(|link| link.node == *node).and_then(|link| link.receivable_msat);
        known.is_none_or(|room_msat| room_msat > 0 && room_msat >= amount_msat.0)
    };
    let healthy: Vec<_> = state.healthy_front_nodes().collect();
    let roomy: Vec<_> = healthy.iter().copied().filter(|front| has_room(&front.node)).collect();
    let warning = warning(&all, &healthy, &roomy);
    let from = [roomy, healthy, all].into_iter().find(|some| !some.is_empty()).unwrap_or_default();
    let start = turn.checked_rem(from.len()).unwrap_or(0);
    let chosen = from.iter().cycle().skip(start).take(count.min(from.len()));
    let hints = chosen.map(|front| Hint { node: front.node, policy: front.policy }).collect();
    Ok(Chosen { hints, warning })
}

fn warning(all: &[&FrontNode], healthy: &[&FrontNode], roomy: &[&FrontNode]) -> Option<String> {
    let names =
        |nodes: &[&FrontNode]| nodes.iter().map(|front| front.alias.as_str()).collect::<Vec<_>>().join(", ");
    if healthy.is_empty() {
        return Some(format!(
            "no front node is healthy now ({}): the invoice cannot be paid before one that it names is back; `muxcli status` \
             says why",
            names(all)
        ));
    }
    roomy.is_empty().then(|| {
        format!(
            "no healthy front node ({}) has a channel with room for this amount, as far as this replica knows: it may be \
             paid in parts, or after liquidity has moved",
            names(healthy)
        )
    })
}

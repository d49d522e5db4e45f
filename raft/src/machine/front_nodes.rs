//! Front nodes that are added, disabled and removed while the cluster runs. Level 2.
//!
//! A disabled one keeps its link: what it holds and what invoices promise is still received. One that is removed keeps
//! its record, so that its virtual scids are never used again, its HTLCs find an end by the others' height, and its
//! sessions are counted on if it comes back. From level 3 on undecided sets with a part there are failed; decided ones
//! wait for an operator's word.

use super::apply::Step;
use super::command::ACCESS_BYTES_MAX;
use super::level;
use super::links::{invalid, unknown};
use super::model::{FrontNodeAccess, FrontNodeExtra, FrontNodeMode, FrontNodePolicy, TemporaryCause};
use super::reply::Reply;
use super::sets::SetFailure;
use super::state::State;
use crate::types::{NodePubkey, PaymentHash};

impl State {
    /// What the cluster does with a front node.
    #[must_use]
    pub fn front_node_mode(&self, node: &NodePubkey) -> FrontNodeMode {
        self.more.front_nodes.get(node).map_or(FrontNodeMode::Active, |extra| extra.mode)
    }

    /// How a front node is reached, if the log says so and the node was not removed.
    #[must_use]
    pub fn front_node_access(&self, node: &NodePubkey) -> Option<&FrontNodeAccess> {
        self.more.front_nodes.get(node).and_then(|extra| extra.access.as_ref())
    }

    pub(super) fn put_front_node_access(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        (alias, policy): (&str, FrontNodePolicy),
        access: &FrontNodeAccess,
    ) -> Reply {
        if let Some(why) = unusable(access) {
            return invalid(why.to_owned());
        }
        if self.front_nodes().any(|other| other.alias == alias && other.node != node) {
            return invalid(format!("another front node is called {alias:?}"));
        }
        let reply = self.register_front_node(step, node, alias, policy);
        if reply == Reply::Done {
            let extra = self.more.front_nodes.entry(node).or_default();
            extra.access = Some(access.clone());
            if extra.mode == FrontNodeMode::Removed {
                extra.mode = FrontNodeMode::Active;
            }
        }
        reply
    }

    pub(super) fn set_front_node_disabled(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        disabled: bool,
    ) -> Reply {
        if self.front_node(&node).is_none() {
            return unknown(node);
        }
        let mode = if disabled { FrontNodeMode::Disabled } else { FrontNodeMode::Active };
        self.more.front_nodes.entry(node).or_default().mode = mode;
        step.nodes.insert(node);
        Reply::Done
    }

    pub(super) fn remove_front_node(&mut self, step: &mut Step, node: NodePubkey, force: bool) -> Reply {
        if self.front_node(&node).is_none() {
            return unknown(node);
        }
        let unresolved = self.unresolved_htlcs(&node).count();
        if unresolved > 0 && !force {
            return invalid(format!(
                "front node {node} has {unresolved} HTLCs whose end is not known: disable it and wait until there are \
                 none, or use force, which gives up what they carry"
            ));
        }
        let Some(front) = self.core.front_nodes.get_mut(&node) else { return unknown(node) };
        front.session = None;
        front.assigned = None;
        // Nobody confirms it any more, so it must not count among the heights.
        if let Some(tip) = &mut front.tip {
            tip.synced = false;
        }
        self.more.front_nodes.insert(node, FrontNodeExtra { mode: FrontNodeMode::Removed, access: None });
        step.nodes.insert(node);
        if self.feature_level() >= level::REMOVAL_FAILS_SETS {
            self.fail_sets_at_removed(step);
        }
        Reply::Done
    }

    /// Fails the undecided sets with a part at a front node that was removed: that part is not offered again, so their
    /// gates stay closed. In the entry that removes the node, so that no other part joins in between. A set in doubt
    /// after a restoration stays until LND has said how its other parts ended.
    pub(super) fn fail_sets_at_removed(&mut self, step: &mut Step) {
        let undecided = self.index.sets.iter().copied();
        let lost: Vec<_> = undecided.filter(|hash| self.has_part_at_removed(hash)).collect();
        for hash in lost {
            if !self.is_set_in_doubt(&hash) {
                self.fail_set(step, hash, SetFailure::Temporary(TemporaryCause::FrontNodeRemoved));
            }
        }
    }

    fn has_part_at_removed(&self, hash: &PaymentHash) -> bool {
        let set = self.core.invoices.get(hash).and_then(|invoice| invoice.set.as_ref());
        set.is_some_and(|set| {
            set.parts.iter().any(|key| self.front_node_mode(&key.node) == FrontNodeMode::Removed)
        })
    }
}

fn unusable(access: &FrontNodeAccess) -> Option<&'static str> {
    let endpoints = access
        .endpoints
        .iter()
        .map(|endpoint| endpoint.address.len().saturating_add(endpoint.tls_cert.len()));
    let bytes =
        endpoints.fold(access.macaroon.len().saturating_add(access.zone.len()), usize::saturating_add);
    if access.endpoints.is_empty() {
        return Some("a front node needs an endpoint");
    }
    if access.endpoints.iter().any(|endpoint| endpoint.address.is_empty() || endpoint.tls_cert.is_empty()) {
        return Some("an endpoint needs an address and a certificate");
    }
    if access.macaroon.is_empty() {
        return Some("a front node needs a macaroon's path");
    }
    (bytes > ACCESS_BYTES_MAX)
        .then_some("addresses and certificates together are too long for one entry (6000 bytes)")
}

//! What can be seen of links.

use super::World;
use super::replica_host::ReplicaHost;
use crate::sim::coverage::Condition;
use mux_raft::consensus::Consensus as _;
use mux_raft::types::{NodePubkey, ReplicaId};
use muxd::link::LinkPhase;
use std::collections::BTreeMap;

/// Who had which node's link, as far as it was seen.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<NodePubkey, ReplicaId>);

impl World {
    /// Which replica has this node's link, as far as it was seen.
    pub(super) fn owner_of(&self, node: NodePubkey) -> Option<usize> {
        let owner = self.owners.0.get(&node)?;
        self.hosts.iter().position(|host| host.id() == *owner)
    }

    /// Looks at who has the links, and how they are.
    pub(super) fn look_at_links(&mut self) {
        for host in &self.hosts {
            let Some(seen) = host.replica() else { continue };
            let degraded = seen.links.status().iter().any(|link| link.phase == LinkPhase::Degraded);
            self.coverage.met_times(Condition::LinkDegraded, u64::from(degraded));
        }
        let ahead = self.hosts.iter().filter_map(ReplicaHost::replica);
        let Some(ahead) = ahead.max_by_key(|seen| seen.replica.state().read(|state| state.applied().index))
        else {
            return;
        };
        let owners = &mut self.owners.0;
        let moved: Vec<(NodePubkey, ReplicaId, bool)> = ahead.replica.state().read(|state| {
            let assigned = state.front_nodes().filter_map(|front| Some((front.node, front.assigned?)));
            let new = assigned.filter(|(node, owner)| owners.get(node) != Some(owner));
            new.map(|(node, owner)| (node, owner, state.htlcs_of(&node).next().is_some())).collect()
        });
        for (node, owner, in_flight) in moved {
            let before = owners.insert(node, owner);
            self.trace.event(
                self.now,
                crate::sim::trace::WORLD,
                format_args!("the link of {} is replica {owner}'s", node.short()),
            );
            if before.is_some() && in_flight {
                self.coverage.met(Condition::LinkMoved);
            }
        }
    }
}

use super::liveness::Liveness;
use crate::link::{LinksConfig, is_removed};
use crate::lnd::FrontNodeConfig;
use mux_raft::consensus::RaftStatus;
use mux_raft::machine::model::FrontNode;
use mux_raft::machine::{Command, State};
use mux_raft::types::{LogTimeMs, NodePubkey, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Moves away from a replica that is gone are not rationed like others, but not unlimited either.
const GONE_MOVE_INTERVAL_MS: u64 = 1_000;

/// A front node that the log refuses is not proposed all the time.
const REGISTER_INTERVAL_MS: u64 = 1_000;

/// Decides who holds which link. Pure; milliseconds of a monotonic clock.
#[derive(Debug)]
pub(super) struct Planner {
    config: Arc<LinksConfig>,
    live: Liveness,
    links: BTreeMap<NodePubkey, Memory>,
    zones: BTreeMap<NodePubkey, String>,
    unbalanced_since: Option<u64>,
    registered_at: Option<u64>,
}

/// What is remembered of a link, by this leader.
#[derive(Debug, Default)]
struct Memory {
    moved_at: Option<u64>,
    assigned: Option<ReplicaId>,
    down_since: Option<u64>,
    /// The last report seen, and when it was first seen.
    heard: Option<(LogTimeMs, u64)>,
    /// Owners that could not bring it up.
    tried: BTreeSet<ReplicaId>,
}

/// Why a link has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Unassigned,
    OwnerGone,
    Draining,
    Down,
    Silent,
}

/// It gives its links away: it said so to the leader, or is the leader itself (`draining`).
fn leaves(raft: &RaftStatus, draining: bool, id: ReplicaId) -> bool {
    raft.leaving.contains(&id) || (draining && id == raft.id)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Planner {
    pub(super) fn new(config: Arc<LinksConfig>) -> Self {
        let assign = &config.assign;
        let live =
            Liveness::new(ms(assign.gone_after), ms(assign.never_heard_after), ms(assign.silent_after));
        Self {
            live,
            links: BTreeMap::new(),
            zones: BTreeMap::new(),
            unbalanced_since: None,
            registered_at: None,
            config,
        }
    }

    /// This replica does not lead: nothing it knew is worth anything.
    pub(super) fn reset(&mut self) {
        self.live.reset();
        self.links.clear();
        self.unbalanced_since = None;
        self.registered_at = None;
    }

    /// Who leads instead.
    pub(super) fn led_by(&mut self, leader: ReplicaId) {
        self.live.led_before(leader);
    }

    pub(super) fn observe(&mut self, raft: &RaftStatus, now: u64) {
        self.live.observe(raft, now);
    }

    /// What to propose.
    pub(super) fn plan(
        &mut self,
        state: &State,
        raft: &RaftStatus,
        draining: bool,
        now: u64,
    ) -> Vec<Command> {
        self.learn_zones(state);
        let mut commands = self.register(state, now);
        let mut owners: BTreeMap<NodePubkey, Option<ReplicaId>> =
            state.front_nodes().map(|front| (front.node, front.assigned)).collect();
        for front in state.front_nodes() {
            self.remember(front, now);
            let Some(reason) = self.reason(front, raft, draining, now) else { continue };
            if !self.may_move(front.node, reason, now) {
                continue;
            }
            let Some(target) = self.choose(front, raft, &owners, draining, now) else { continue };
            if front.assigned == Some(target) {
                continue;
            }
            owners.insert(front.node, Some(target));
            commands.push(self.assign(front.node, target, now));
        }
        commands.extend(self.balance(state, raft, &owners, draining, now));
        commands
    }

    /// Front nodes of the configuration that the log does not know, or knows with another alias or policy.
    /// A former policy stays good for the invoices that announced it.
    fn register(&mut self, state: &State, now: u64) -> Vec<Command> {
        if self.registered_at.is_some_and(|at| now.saturating_sub(at) < REGISTER_INTERVAL_MS) {
            return Vec::new();
        }
        let differs = |front: &&FrontNodeConfig| match state.front_node(&front.node) {
            Some(known) => known.policy != front.policy || known.alias != front.alias,
            // An operator's word on the running cluster counts more than a file.
            None => !is_removed(state, &front.node),
        };
        let put = |front: &FrontNodeConfig| Command::PutFrontNode {
            node: front.node,
            alias: front.alias.clone(),
            policy: front.policy,
        };
        let commands: Vec<Command> = self.config.front_nodes.iter().filter(differs).map(put).collect();
        if !commands.is_empty() {
            self.registered_at = Some(now);
        }
        commands
    }

    fn remember(&mut self, front: &FrontNode, now: u64) {
        let memory = self.links.entry(front.node).or_default();
        if memory.assigned != front.assigned {
            memory.assigned = front.assigned;
            memory.down_since = None;
            memory.heard = None;
        }
        let session = front.session.as_ref().filter(|session| Some(session.owner) == front.assigned);
        let Some(session) = session else {
            memory.down_since.get_or_insert(now);
            memory.heard = None;
            return;
        };
        memory.down_since = None;
        if memory.heard.is_none_or(|(at, _)| at != session.heard_at_ms) {
            if memory.heard.is_some() {
                memory.tried.clear();
            }
            memory.heard = Some((session.heard_at_ms, now));
        }
    }

    fn reason(&self, front: &FrontNode, raft: &RaftStatus, draining: bool, now: u64) -> Option<Reason> {
        let Some(owner) = front.assigned else { return Some(Reason::Unassigned) };
        let is_voter = raft.members.get(&owner).is_some_and(|member| member.voter);
        if !is_voter || self.live.is_gone(owner, now) || self.live.is_lagging(owner, now) {
            return Some(Reason::OwnerGone);
        }
        if leaves(raft, draining, owner) {
            return Some(Reason::Draining);
        }
        let memory = self.links.get(&front.node)?;
        let since = |at: u64| now.saturating_sub(at);
        if memory.down_since.is_some_and(|at| since(at) > ms(self.config.assign.down_after)) {
            return Some(Reason::Down);
        }
        let silent = memory.heard.is_some_and(|(_, at)| since(at) > ms(self.config.assign.silent_after));
        silent.then_some(Reason::Silent)
    }

    /// The first move is immediate; further ones are rationed, so that a node that nobody reaches is not
    /// handed round.
    fn may_move(&self, node: NodePubkey, reason: Reason, now: u64) -> bool {
        let Some(moved_at) = self.links.get(&node).and_then(|memory| memory.moved_at) else { return true };
        let interval = match reason {
            Reason::Unassigned | Reason::OwnerGone | Reason::Draining => GONE_MOVE_INTERVAL_MS,
            Reason::Down | Reason::Silent => ms(self.config.assign.move_interval),
        };
        now.saturating_sub(moved_at) >= interval
    }

    /// The healthy voter with the fewest links; of those, one in the node's zone; of those, the one next
    /// to the former owner. Those that could not bring the link up come last.
    fn choose(
        &self,
        front: &FrontNode,
        raft: &RaftStatus,
        owners: &BTreeMap<NodePubkey, Option<ReplicaId>>,
        draining: bool,
        now: u64,
    ) -> Option<ReplicaId> {
        let former = front.assigned;
        let tried = self.links.get(&front.node).map(|memory| &memory.tried);
        self.healthy(raft, draining, now).filter(|id| Some(*id) != former).min_by_key(|id| {
            let links = owners.values().filter(|owner| **owner == Some(*id)).count();
            let failed = tried.is_some_and(|tried| tried.contains(id));
            (failed, links, !self.same_zone(front.node, *id), former.is_some_and(|former| *id < former), *id)
        })
    }

    fn healthy(&self, raft: &RaftStatus, draining: bool, now: u64) -> impl Iterator<Item = ReplicaId> {
        let voters = raft.members.iter().filter(|(_, member)| member.voter).map(|(id, _)| *id);
        voters
            .filter(move |id| !leaves(raft, draining, *id))
            .filter(move |id| !self.live.is_gone(*id, now) && !self.live.is_lagging(*id, now))
    }

    /// Where front nodes run, by this replica's configuration or else by the log.
    fn learn_zones(&mut self, state: &State) {
        let logged = state.front_nodes().filter_map(|front| {
            let access = state.front_node_access(&front.node)?;
            Some((front.node, access.zone.clone()))
        });
        let own = self.config.front_nodes.iter().map(|front| (front.node, front.zone.clone()));
        self.zones = logged.chain(own).collect();
    }

    fn same_zone(&self, node: NodePubkey, replica: ReplicaId) -> bool {
        let zone = self.config.assign.zones.get(&replica);
        self.zones.get(&node).is_some_and(|own| !own.is_empty() && zone == Some(own))
    }

    fn assign(&mut self, node: NodePubkey, target: ReplicaId, now: u64) -> Command {
        let memory = self.links.entry(node).or_default();
        memory.tried.extend(memory.assigned);
        memory.moved_at = Some(now);
        Command::AssignLink { node, replica: Some(target) }
    }

    /// One link from the replica with the most to the one with the fewest, once the difference has been
    /// more than one for long enough: moves cost reconnects.
    fn balance(
        &mut self,
        state: &State,
        raft: &RaftStatus,
        owners: &BTreeMap<NodePubkey, Option<ReplicaId>>,
        draining: bool,
        now: u64,
    ) -> Option<Command> {
        let healthy: Vec<ReplicaId> = self.healthy(raft, draining, now).collect();
        let links = |id: ReplicaId| owners.values().filter(|owner| **owner == Some(id)).count();
        let most = healthy.iter().copied().max_by_key(|id| links(*id))?;
        let fewest = healthy.iter().copied().min_by_key(|id| links(*id))?;
        if links(most) <= links(fewest).saturating_add(1) {
            self.unbalanced_since = None;
            return None;
        }
        let since = *self.unbalanced_since.get_or_insert(now);
        if now.saturating_sub(since) < ms(self.config.assign.balance_after) {
            return None;
        }
        let candidates = state.front_nodes().filter(|front| owners.get(&front.node) == Some(&Some(most)));
        let node = candidates
            .filter(|front| self.may_move(front.node, Reason::Down, now))
            .map(|front| front.node)
            .min_by_key(|node| (self.same_zone(*node, most), !self.same_zone(*node, fewest)))?;
        self.unbalanced_since = None;
        let command = self.assign(node, fewest, now);
        // It was no failure of the former owner.
        self.links.entry(node).or_default().tried.clear();
        Some(command)
    }
}

#[cfg(test)]
mod tests;

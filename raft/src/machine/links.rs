//! Front nodes, who connects to them, and the sessions of their streams.
//!
//! A session number stands for one uninterrupted stream: HTLCs are live only in the session that offered
//! them, so whatever LND did to them while nobody listened cannot be missed. A new leader's term makes all
//! sessions unconfirmed without touching them: `confirmed_term` is compared with the term of the last
//! entry.

use super::apply::Step;
use super::command::{ChainTip, RequestId};
use super::model::{FrontNode, FrontNodeMode, FrontNodePolicy, SESSION_FRESH_MS, Session, Tip};
use super::reply::{Rejection, Reply};
use super::state::State;
use crate::types::{NodePubkey, ReplicaId, SessionId};

/// Streams remembered for each front node, to know late repeats of their `up`.
const FORMER_STREAMS_MAX: usize = 16;

impl State {
    /// By the leader's configuration, which does not bring back what an operator removed.
    pub(super) fn put_front_node(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        alias: &str,
        policy: FrontNodePolicy,
    ) -> Reply {
        if self.front_node_mode(&node) == FrontNodeMode::Removed {
            return invalid(format!("front node {node} was removed"));
        }
        self.register_front_node(step, node, alias, policy)
    }

    pub(super) fn register_front_node(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        alias: &str,
        policy: FrontNodePolicy,
    ) -> Reply {
        let others = self.core.front_nodes.values().filter(|front| front.node != node);
        for front in others {
            if front.policy_of(policy.scid).is_some() {
                return invalid(format!("virtual scid {} belongs to front node {}", policy.scid, front.node));
            }
        }
        step.nodes.insert(node);
        let Some(front) = self.core.front_nodes.get_mut(&node) else {
            self.core.front_nodes.insert(node, new_front_node(node, alias, policy));
            return Reply::Done;
        };
        if front.policy_of(policy.scid).is_some_and(|known| *known != policy) {
            return invalid(format!("virtual scid {} stands for another policy for ever", policy.scid));
        }
        alias.clone_into(&mut front.alias);
        if front.policy != policy {
            front.former_policies.retain(|former| *former != policy);
            let former = std::mem::replace(&mut front.policy, policy);
            front.former_policies.push(former);
        }
        Reply::Done
    }

    pub(super) fn assign_link(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        replica: Option<ReplicaId>,
    ) -> Reply {
        let time_ms = self.core.time_ms;
        if self.front_node(&node).is_none() {
            return unknown(node);
        }
        let Some(front) = self.core.front_nodes.get_mut(&node) else { return unknown(node) };
        front.assigned = replica;
        front.assigned_at_ms = time_ms;
        step.nodes.insert(node);
        Reply::Done
    }

    pub(super) fn link_up(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        replica: ReplicaId,
        stream: RequestId,
    ) -> Reply {
        let (term, time_ms) = (self.core.applied.term, self.core.time_ms);
        let live = self.core.front_nodes.get(&node).is_some_and(|front| self.is_session_live(front));
        let Some(front) = self.core.front_nodes.get_mut(&node) else { return unknown(node) };
        if front.assigned != Some(replica) {
            return Reply::Rejected(Rejection::NotAssigned);
        }
        step.nodes.insert(node);
        if let Some(session) = front.session.as_mut()
            && session.stream == stream
            && session.owner == replica
        {
            session.confirmed_term = term;
            session.heard_at_ms = time_ms;
            return Reply::Session(session.id);
        }
        let former = self.core.former_streams.entry(node).or_default();
        // A late repeat of an `up` must not end the session that followed. Should that one be the ghost,
        // it is not heard from and the repeat succeeds soon.
        if live && former.contains(&stream) {
            return Reply::Rejected(Rejection::StaleSession);
        }
        former.retain(|known| *known != stream);
        former.push_back(stream);
        if former.len() > FORMER_STREAMS_MAX {
            former.pop_front();
        }
        front.last_session = front.last_session.saturating_add(1);
        front.session = Some(Session {
            id: front.last_session,
            owner: replica,
            stream,
            confirmed_term: term,
            heard_at_ms: time_ms,
            inactive_channels: Default::default(),
        });
        Reply::Session(front.last_session)
    }

    pub(super) fn link_report(
        &mut self,
        step: &mut Step,
        node: NodePubkey,
        report: (SessionId, Option<ChainTip>, &[u64]),
    ) -> Reply {
        let (id, tip, inactive_channels) = report;
        let (term, time_ms) = (self.core.applied.term, self.core.time_ms);
        let Some(front) = self.core.front_nodes.get_mut(&node) else { return unknown(node) };
        let Some(session) = front.session.as_mut().filter(|session| session.id == id) else {
            return Reply::Rejected(Rejection::StaleSession);
        };
        if session.confirmed_term != term {
            step.nodes.insert(node);
        }
        session.confirmed_term = term;
        session.heard_at_ms = time_ms;
        session.inactive_channels = inactive_channels.iter().copied().collect();
        if let Some(ChainTip { height, hash, synced }) = tip {
            front.tip = Some(Tip { height, hash, synced, confirmed_at_ms: time_ms });
        }
        Reply::Done
    }

    pub(super) fn link_down(&mut self, step: &mut Step, node: NodePubkey, id: SessionId) -> Reply {
        let Some(front) = self.core.front_nodes.get_mut(&node) else { return unknown(node) };
        if front.session.as_ref().is_some_and(|session| session.id == id) {
            front.session = None;
            step.nodes.insert(node);
        }
        Reply::Done
    }

    /// The node has a session that its owner confirmed in this term and was heard from lately.
    pub(super) fn is_session_live(&self, front: &FrontNode) -> bool {
        front.session.as_ref().is_some_and(|session| {
            let heard = self.core.time_ms.saturating_sub(session.heard_at_ms) <= SESSION_FRESH_MS;
            heard && session.confirmed_term == self.core.applied.term
        })
    }
}

fn new_front_node(node: NodePubkey, alias: &str, policy: FrontNodePolicy) -> FrontNode {
    FrontNode {
        node,
        alias: alias.to_owned(),
        policy,
        former_policies: Vec::new(),
        assigned: None,
        assigned_at_ms: 0,
        last_session: 0,
        session: None,
        tip: None,
        height_flagged: false,
    }
}

pub(super) fn unknown(node: NodePubkey) -> Reply {
    Reply::Rejected(Rejection::UnknownFrontNode(node))
}

pub(super) fn invalid(why: String) -> Reply {
    Reply::Rejected(Rejection::Invalid(why))
}

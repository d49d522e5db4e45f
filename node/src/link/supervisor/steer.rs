//! Whether the stream is open, and what is shown of it.

use super::super::ownership::Desired;
use super::super::status::LinkPhase;
use super::super::stream::Stream;
use super::{CatchUp, Supervisor};
use mux_raft::machine::Command;
use mux_raft::types::ReplicaId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How soon handing over is tried again.
const HANDOVER_RETRY: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Opens or closes the stream as the assignment and the quorum demand.
    pub(super) fn steer(&mut self) {
        let node = self.parts.front.node;
        let assigned = self
            .parts
            .consensus
            .state()
            .read(|state| state.front_node(&node).and_then(|front| front.assigned) == Some(self.raft.id));
        let now = self.now();
        let voter = self.raft.members.get(&self.raft.id).is_some_and(|member| member.voter);
        let mut desired = self.ownership.desired(assigned, voter, self.raft.quorum, now);
        if self.raft.quorum {
            self.ask_caught_up();
            if desired == Desired::Normal && self.catch_up != CatchUp::Done {
                desired = Desired::Keep;
            }
        }
        match (desired, self.stream.is_some()) {
            (Desired::Closed, true) => {
                tracing::info!(front_node = %self.parts.front.alias, assigned, "closing the stream");
                self.close_stream();
            }
            (Desired::Normal | Desired::Degraded, false) if Instant::now() >= self.open_at => {
                if let Some(client) = self.client.clone() {
                    self.measure.opening();
                    self.stream = Some(Stream::open(client, Arc::clone(&self.seat)));
                }
            }
            (Desired::Closed | Desired::Keep | Desired::Normal | Desired::Degraded, _) => {}
        }
        self.set_status(self.phase(desired));
        if assigned && self.raft.quorum && *self.parts.draining.borrow() {
            self.hand_over();
        }
    }

    /// A replica that comes back may have a stale idea of whose the link is. It finds out before it opens a
    /// stream, and long before an assignment that follows an election reaches it.
    fn ask_caught_up(&mut self) {
        if self.catch_up != CatchUp::Needed {
            return;
        }
        self.catch_up = CatchUp::Asked;
        self.jobs.catch_up();
    }

    fn phase(&self, desired: Desired) -> LinkPhase {
        let held = self.stream.as_ref().map(|stream| stream.held);
        match (desired, held, self.client.is_some()) {
            (_, _, false) if self.parts.status.read().phase == LinkPhase::Refused => LinkPhase::Refused,
            (_, _, false) => LinkPhase::Disconnected,
            (Desired::Degraded, Some(true), true) => LinkPhase::Degraded,
            (_, Some(true), true) if self.core.session().is_some() => LinkPhase::Up,
            (_, Some(true), true) => LinkPhase::Joining,
            (Desired::Closed | Desired::Keep, None, true) if self.raft.quorum => LinkPhase::Standby,
            (Desired::Closed | Desired::Keep, None, true) => LinkPhase::Yielding,
            (_, Some(false), true) | (_, None, true) => LinkPhase::Opening,
        }
    }

    pub(super) fn set_status(&self, phase: LinkPhase) {
        let mut status = self.parts.status.write();
        status.phase = phase;
        status.session = self.core.session();
        status.held = self.core.held();
    }

    /// Gives the link to the next voter, unless the leader, who knows better which one lives, was faster.
    fn hand_over(&mut self) {
        let at = *self.handover_at.get_or_insert_with(Instant::now);
        if at.elapsed() < HANDOVER_RETRY {
            return;
        }
        let me = self.raft.id;
        let stays = |id: &ReplicaId| *id != me && !self.raft.leaving.contains(id);
        let voters = || {
            let voters = self.raft.members.iter().filter(|(_, member)| member.voter);
            voters.map(|(id, _)| *id).filter(stays)
        };
        let Some(next) = voters().find(|id| *id > me).or_else(|| voters().next()) else {
            return;
        };
        self.handover_at = Some(Instant::now());
        let command = Command::AssignLink { node: self.parts.front.node, replica: Some(next) };
        tracing::info!(front_node = %self.parts.front.alias, to = next, "handing the link over");
        self.jobs.try_propose(command);
    }
}

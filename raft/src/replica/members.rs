use super::core::Core;
use super::member_wire::{change_to_pb, outcome_from_pb, view_from_pb};
use super::propose::not_processed;
use super::raft::TypeConfig;
use super::roster::ANSWER_MAX;
use crate::consensus::{ProposeError, RaftStatus};
use crate::machine::{Command, State, level};
use crate::members::{
    MemberChange, MemberChanged, MemberError, MemberList, MemberView, Refusal, RefusalKind, judge,
};
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, Instant as _};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::Code;

/// A change in all, hand-over of leadership included.
const CHANGE_MAX: Duration = Duration::from_secs(20);
/// Until one change of the configuration is committed.
const COMMIT_MAX: Duration = Duration::from_secs(8);
/// How long a change that the rules forbid at first is looked at again: a new leader has not heard everybody yet.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long a leader that no quorum has answered of late waits for one.
const QUORUM_MAX: Duration = Duration::from_secs(5);
/// How long a new replica that does not listen or vote yet is asked again: it was started a moment ago, as a rule.
const NEWCOMER_MAX: Duration = Duration::from_secs(3);
/// How long the links of a replica that is removed may take to move.
const LINKS_MOVE_MAX: Duration = Duration::from_secs(5);
/// How long the leader may take to list the members.
const LIST_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// How one try to make a change ended, at the leader.
#[derive(Debug)]
pub(crate) enum Change {
    Made(MemberChanged),
    Failed(MemberError),
    /// Nothing was done: ask the leader.
    NotLeader(String),
}

/// Of a proposal that changes nothing: whether it is in the log does not matter.
fn nothing_done(error: ProposeError) -> Change {
    match error {
        ProposeError::Unknown(text) => Change::NotLeader(text),
        error => error.into(),
    }
}

/// Whether this replica leads, and a quorum has just answered it. Over a bad network it does so now and then, and the change
/// may be what makes that better: who asks again and again from outside may never meet such a moment.
pub(super) async fn leads_with_quorum(mut status: watch::Receiver<RaftStatus>, id: ReplicaId) -> bool {
    let known = status.wait_for(|status| status.leads || status.leader != Some(id));
    // Who waits in vain is told so.
    timeout(QUORUM_MAX, known).await.is_ok_and(|known| known.is_ok_and(|status| status.leads))
}

impl<E: Into<MemberError>> From<E> for Change {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Core {
    /// Makes a change here or at the leader.
    pub(crate) async fn change_members(&self, change: MemberChange) -> Result<MemberChanged, MemberError> {
        let deadline = Instant::now() + CHANGE_MAX;
        loop {
            if let Some(reason) = self.latch.reason() {
                return Err(ProposeError::Fatal(reason).into());
            }
            let outcome = match self.leader() {
                Some(leader) if leader == self.id => self.change_here(&change).await,
                Some(leader) => self.ask_to_change(leader, &change, deadline).await,
                None => Change::NotLeader("no leader is known".into()),
            };
            let reason = match outcome {
                Change::Made(changed) => return Ok(changed),
                Change::Failed(error) => return Err(error),
                Change::NotLeader(reason) => reason,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(ProposeError::Unavailable(reason).into());
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask_to_change(&self, leader: ReplicaId, change: &MemberChange, deadline: Instant) -> Change {
        let mut client = match self.gateway_of(leader) {
            Ok(client) => client,
            Err(status) => return Change::NotLeader(status.message().to_owned()),
        };
        let message = change_to_pb(self.peers.header(leader), change);
        match timeout_at(deadline, client.change_members(message)).await {
            Ok(Ok(answer)) => outcome_from_pb(leader, answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::Unimplemented => {
                ProposeError::Unavailable(format!("leader {leader} runs an older version")).into()
            }
            Ok(Err(status)) if not_processed(&status) => {
                Change::NotLeader(format!("leader {leader}: {}", status.message()))
            }
            Ok(Err(status)) => ProposeError::Unknown(format!("leader {leader}: {}", status.message())).into(),
            Err(_) => ProposeError::Unknown(format!("leader {leader} did not answer in time")).into(),
        }
    }

    /// Makes a change, if this replica leads and the rules allow it.
    pub(crate) async fn change_here(&self, change: &MemberChange) -> Change {
        match self.make(change).await {
            Ok(changed) => {
                tracing::info!(?change, warnings = ?changed.warnings, "members changed");
                Change::Made(changed)
            }
            Err(outcome) => {
                tracing::info!(?change, ?outcome, "members not changed");
                outcome
            }
        }
    }

    async fn make(&self, change: &MemberChange) -> Result<MemberChanged, Change> {
        if !leads_with_quorum(self.status.subscribe(), self.id).await || self.is_handing_over() {
            return Err(Change::NotLeader(
                "no majority answers the leader in time, or leadership is moving".into(),
            ));
        }
        if self.cell.read(State::applied).term != self.metrics().current_term {
            // Which ids are spent is known once everything of the former terms is applied.
            return Err(Change::NotLeader("the new leader has not applied the log yet".into()));
        }
        let Ok(_one) = self.changing.try_lock() else { return Err(another_change().into()) };
        self.finish_former_change().await?;
        let Some(mut warnings) = self.judge(change).await? else { return Ok(MemberChanged::default()) };
        match change {
            MemberChange::AddLearner { id, address } => self.add_learner(*id, address).await?,
            MemberChange::Promote { id } => {
                self.check_may_vote(*id).await?;
                // Who answered before may be gone by now.
                let Some(now) = self.judge(change).await? else { return Ok(MemberChanged::default()) };
                warnings = now;
                let voters = ChangeMembers::AddVoterIds(BTreeSet::from([*id]));
                bounded(self.raft.change_membership(voters, true)).await?;
            }
            MemberChange::Remove { id, .. } if *id == self.id => {
                // Nobody can decide on a change that ends his own office.
                self.hand_over_here(None).await?;
                return Err(Change::NotLeader("leadership has moved".into()));
            }
            MemberChange::Remove { id, .. } => warnings.extend(self.remove(*id).await?),
        }
        Ok(MemberChanged { warnings })
    }

    /// A leader that stopped in the middle of a change leaves two configurations behind.
    async fn finish_former_change(&self) -> Result<(), Change> {
        let membership = self.metrics().membership_config;
        let configurations = membership.membership().get_joint_config();
        match configurations.last() {
            Some(last) if configurations.len() > 1 => {
                let voters = ChangeMembers::ReplaceAllVoters(last.clone());
                bounded(self.raft.change_membership(voters, false)).await
            }
            _ => Ok(()),
        }
    }

    async fn judge(&self, change: &MemberChange) -> Result<Option<Vec<String>>, Refusal> {
        let deadline = Instant::now() + SECOND_LOOK;
        loop {
            let list = MemberList { members: self.member_views(), retired: self.retired() };
            match judge(&list, change) {
                Err(refusal) if worth_a_second_look(refusal.kind) && Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                judgement => return judgement,
            }
        }
    }

    async fn add_learner(&self, id: ReplicaId, address: &str) -> Result<(), Change> {
        let _level_stands = self.joining.lock().await;
        // What is in the log already, and may raise it, is applied after this.
        let term = self.propose(Command::Tick, None).await.map_err(nothing_done)?.at.term;
        let (deadline, answered) = (Instant::now() + NEWCOMER_MAX, Instant::now() + ANSWER_MAX);
        while let Err(error) = self.check_newcomer(id, address, answered).await {
            match error {
                ProposeError::Unavailable(_) if Instant::now() < deadline => sleep(PAUSE).await,
                ProposeError::Unavailable(text) => {
                    return Err(Refusal::new(RefusalKind::NotYet, text).into());
                }
                error => return Err(error.into()),
            }
        }
        if self.metrics().current_term != term {
            // Another leader may have raised it since.
            return Err(Change::NotLeader("leadership is moving".into()));
        }
        bounded(self.raft.add_learner(id, BasicNode::new(address), false)).await
    }

    /// A voter that does not vote yet could be the one that a majority lacks, when the leader that would make it fit is gone.
    async fn check_may_vote(&self, id: ReplicaId) -> Result<(), Change> {
        let Some(address) = self.address_of(id) else { return Ok(()) };
        let deadline = Instant::now() + NEWCOMER_MAX;
        loop {
            let why = match self.standing_of(id, &address).await {
                Ok(standing) if !standing.cannot_vote => return Ok(()),
                Ok(_) => "it has not applied yet what the cluster had when it joined".to_owned(),
                Err(status) => status.message().to_owned(),
            };
            if Instant::now() >= deadline {
                let text = format!("replica {id} cannot vote yet ({why}): try again in a while");
                return Err(Refusal::new(RefusalKind::NotYet, text).into());
            }
            sleep(PAUSE).await;
        }
    }

    /// Its id is spent first, its links go to others, then it goes.
    async fn remove(&self, id: ReplicaId) -> Result<Option<String>, Change> {
        let warning = self.retire(id).await?;
        self.free_links(id).await;
        let ids = BTreeSet::from([id]);
        let is_voter = self.metrics().membership_config.voter_ids().any(|voter| voter == id);
        let change =
            if is_voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        bounded(self.raft.change_membership(change, false)).await?;
        Ok(warning)
    }

    async fn retire(&self, id: ReplicaId) -> Result<Option<String>, Change> {
        let command = Command::RetireReplica { replica: id };
        let level = self.cell.read(State::feature_level);
        if command.needs_level() > level {
            let text = format!(
                "the cluster is at feature level {level} and does not remember ids: never reuse {id}"
            );
            return Ok(Some(text));
        }
        self.propose(command, None).await?;
        Ok(None)
    }

    /// Waits until the leader's planner has given its links to others, and it has heard of that: it hears nothing
    /// after its removal.
    async fn free_links(&self, id: ReplicaId) {
        let deadline = Instant::now() + LINKS_MOVE_MAX;
        while Instant::now() < deadline {
            self.leaving.heard(id);
            let (owns, applied) = self.cell.read(|state| {
                (state.front_nodes().any(|front| front.assigned == Some(id)), state.applied().index)
            });
            let views = self.member_views();
            let view = views.iter().find(|view| view.id == id);
            let hears = view.is_some_and(|view| view.reachable);
            let heard = view.is_some_and(|view| view.matched.is_some_and(|matched| matched >= applied));
            if !owns && (heard || !hears) {
                return;
            }
            sleep(PAUSE).await;
        }
        tracing::warn!(replica = id, "it is removed although its links have not moved yet");
    }

    /// The members as the leader sees them.
    pub(crate) async fn members(&self) -> Result<Vec<MemberView>, ProposeError> {
        let unavailable = |reason: String| ProposeError::Unavailable(reason);
        if self.status.borrow().leads {
            return Ok(self.member_views());
        }
        let leader = self.metrics().current_leader.filter(|leader| *leader != self.id);
        let leader = leader.ok_or_else(|| unavailable("no leader is known".into()))?;
        let failed = |reason: &str| unavailable(format!("leader {leader}: {reason}"));
        let mut client = self.gateway_of(leader).map_err(|status| failed(status.message()))?;
        let message = pb::ListMembersRequest { header: Some(self.peers.header(leader)) };
        match timeout(LIST_MAX, client.list_members(message)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                if !answer.leads {
                    return Err(failed("it leads no more"));
                }
                Ok(answer.members.into_iter().map(view_from_pb).collect())
            }
            Ok(Err(status)) => Err(failed(status.message())),
            Err(_) => Err(failed("no answer in time")),
        }
    }

    /// The same, at the leader.
    pub(crate) fn member_views(&self) -> Vec<MemberView> {
        let metrics = self.metrics();
        let voters: BTreeSet<ReplicaId> = metrics.membership_config.voter_ids().collect();
        let leaving = self.leaving.known(self.id);
        let last = metrics.last_log_index.unwrap_or(0);
        let view = |(id, node): (&ReplicaId, &BasicNode)| {
            let me = *id == self.id;
            let matched = metrics.replication.as_ref().and_then(|peers| peers.get(id).copied().flatten());
            let matched = if me { Some(last) } else { matched.map(|matched| matched.index) };
            let heard = metrics.heartbeat.as_ref().and_then(|peers| peers.get(id).copied().flatten());
            let heard = if me { Some(Duration::ZERO) } else { heard.map(|heard| heard.elapsed()) };
            MemberView {
                id: *id,
                address: node.addr.clone(),
                voter: voters.contains(id),
                leader: me,
                matched,
                lag: matched.map(|matched| last.saturating_sub(matched)),
                heard_ms: heard.map(|heard| u64::try_from(heard.as_millis()).unwrap_or(u64::MAX)),
                reachable: heard.is_some_and(|heard| heard <= self.timing.election_max),
                leaving: leaving.contains(id),
            }
        };
        metrics.membership_config.nodes().map(view).collect()
    }

    /// Ids that were members once. The log remembers them from level [`level::ARCHIVE`] on. Before that a leader that knows
    /// where the log stands takes a first member that is none now for one that was removed, which wrongs one that a
    /// configuration names before it is added.
    pub(crate) fn retired(&self) -> BTreeSet<ReplicaId> {
        let (mut retired, level, applied) = self
            .cell
            .read(|state| (state.retired_replicas().clone(), state.feature_level(), state.applied()));
        let metrics = self.metrics();
        let knows = self.status.borrow().leads && applied.term == metrics.current_term;
        if level < level::ARCHIVE && knows {
            let membership = metrics.membership_config;
            retired.extend(self.initial_members.keys().filter(|id| membership.get_node(id).is_none()));
        }
        retired
    }
}

/// What a new leader may see differently in a moment. An operator's mistake stays one.
fn worth_a_second_look(kind: RefusalKind) -> bool {
    match kind {
        RefusalKind::NotYet | RefusalKind::Impossible | RefusalKind::NeedsForce => true,
        RefusalKind::Invalid | RefusalKind::NotFound | RefusalKind::Exists => false,
    }
}

fn another_change() -> Refusal {
    let text = "another change of the members is under way; try again when it is done (muxcli member list)";
    Refusal::new(RefusalKind::NotYet, text)
}

type Written<T> = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

async fn bounded<T>(change: impl Future<Output = Written<T>>) -> Result<(), Change> {
    match timeout(COMMIT_MAX, Box::pin(change)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::Fatal(error))) => Err(ProposeError::Fatal(error.to_string()).into()),
        Ok(Err(RaftError::APIError(error))) => Err(failed(error)),
        Err(_) => Err(ProposeError::Unknown("the change is not committed yet".into()).into()),
    }
}

fn failed(error: ClientWriteError<TypeConfig>) -> Change {
    match error {
        ClientWriteError::LogEntryDiscarded(_) => ProposeError::Unknown(error.to_string()).into(),
        ClientWriteError::ForwardToLeader(_) => Change::NotLeader("leadership is moving".into()),
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => another_change().into(),
        error => ProposeError::Unavailable(error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(leader: ReplicaId, leads: bool) -> RaftStatus {
        RaftStatus { leader: Some(leader), leads, ..RaftStatus::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_quorum_answers_late_waits_for_it_and_nobody_else_does() {
        assert!(leads_with_quorum(watch::channel(status(1, true)).1, 1).await);
        // Whoever waits for more than this was not to.
        let soon = Duration::from_millis(10);
        let follower = watch::channel(status(2, false));
        assert!(!timeout(soon, leads_with_quorum(follower.1, 1)).await.expect("another one leads"));

        for (later, leads) in [(status(1, true), true), (status(2, false), false)] {
            let (now, known) = watch::channel(status(1, false));
            let waiting = tokio::spawn(leads_with_quorum(known, 1));
            sleep(QUORUM_MAX / 2).await;
            assert!(!waiting.is_finished(), "no quorum has answered");
            now.send_replace(later);
            assert_eq!(timeout(soon, waiting).await.expect("it is known").unwrap(), leads);
        }

        let (_now, known) = watch::channel(status(1, false));
        let started = Instant::now();
        assert!(!leads_with_quorum(known, 1).await);
        assert_eq!(started.elapsed(), QUORUM_MAX);
    }
}

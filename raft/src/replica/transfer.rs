use super::core::Core;
use crate::consensus::ProposeError;
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long the target may take to catch up while no new proposals are taken.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long the target may take to lead.
const TAKE_OVER: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(10);

impl Core {
    /// Hands leadership over, or asks the leader to.
    pub(crate) async fn transfer_leader(&self, target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        match self.metrics().current_leader {
            Some(leader) if leader != self.id => self.ask_to_hand_over(leader, target).await,
            _ => self.hand_over_here(target).await,
        }
    }

    async fn ask_to_hand_over(
        &self,
        leader: ReplicaId,
        target: Option<ReplicaId>,
    ) -> Result<ReplicaId, ProposeError> {
        use pb::hand_over_response::Outcome;
        let unavailable = |reason: &str| ProposeError::Unavailable(format!("leader {leader}: {reason}"));
        let mut client = self.gateway_of(leader).map_err(|status| unavailable(status.message()))?;
        let header = Some(self.peers.header(leader));
        let message = pb::HandOverRequest { header, target: target.unwrap_or(0) };
        match timeout(CATCH_UP + TAKE_OVER * 2, client.hand_over(message)).await {
            Err(_) => Err(unavailable("no answer in time; leadership may still move")),
            Ok(Err(status)) => Err(unavailable(status.message())),
            Ok(Ok(answer)) => match answer.into_inner().outcome {
                Some(Outcome::Leader(now)) => Ok(now),
                Some(Outcome::Unavailable(reason)) => Err(unavailable(&reason)),
                None => Err(unavailable("its answer is empty")),
            },
        }
    }

    /// Hands leadership to a voter whose log is at the tip and waits until somebody else leads. Once openraft
    /// is triggered there is no way back: it refuses writes until another replica leads.
    pub(crate) async fn hand_over_here(&self, target: Option<ReplicaId>) -> Result<ReplicaId, ProposeError> {
        let unavailable = |reason: String| ProposeError::Unavailable(reason);
        let metrics = self.metrics();
        if metrics.current_leader != Some(self.id) {
            let leader = metrics.current_leader.map_or_else(|| "nobody known".into(), |id| id.to_string());
            return Err(unavailable(format!("this replica does not lead; the leader is {leader}")));
        }
        if target == Some(self.id) {
            return Err(unavailable(format!("replica {} leads already", self.id)));
        }
        let voters: Vec<ReplicaId> = metrics.membership_config.voter_ids().collect();
        if let Some(target) = target
            && !voters.contains(&target)
        {
            return Err(unavailable(format!("replica {target} is not a voter")));
        }
        let _no_proposals = self.hand_over().ok_or_else(|| unavailable("already under way".into()))?;
        let chosen = self.wait_for_tip(target, &voters).await?;
        self.raft
            .trigger()
            .transfer_leader(chosen)
            .await
            .map_err(|error| ProposeError::Fatal(error.to_string()))?;
        let leads = self.wait_for_other_leader(chosen).await?;
        match target {
            Some(target) if target != leads => {
                Err(unavailable(format!("replica {target} did not take over; replica {leads} leads now")))
            }
            _ => Ok(leads),
        }
    }

    /// The target, or any voter, once it has everything that is in the log here, and answers.
    async fn wait_for_tip(
        &self,
        target: Option<ReplicaId>,
        voters: &[ReplicaId],
    ) -> Result<ReplicaId, ProposeError> {
        let deadline = Instant::now() + CATCH_UP;
        let leaving = self.leaving.known(self.id);
        let mut silent = None;
        loop {
            let metrics = self.metrics();
            let is_at_tip = |id: &ReplicaId| {
                let matched = metrics.replication.as_ref().and_then(|peers| peers.get(id).copied().flatten());
                matched.map(|id| id.index) == metrics.last_log_index && self.heard_from(&metrics, *id)
            };
            let at_tip: Vec<ReplicaId> = voters
                .iter()
                .copied()
                .filter(|id| *id != self.id && target.is_none_or(|target| target == *id))
                .filter(|id| target.is_some() || !leaving.contains(id))
                .filter(is_at_tip)
                .collect();
            for id in at_tip {
                // It may have gone since it was heard from, and there is no way back once it is asked to lead.
                match self.answers(id).await {
                    Ok(()) => return Ok(id),
                    Err(reason) => silent = Some(format!("replica {id} does not answer: {reason}")),
                }
            }
            if Instant::now() >= deadline {
                let who = target.map_or_else(|| "no other voter".into(), |id| format!("replica {id}: not"));
                let behind = || format!("{who} at the tip of the log");
                return Err(ProposeError::Unavailable(silent.unwrap_or_else(behind)));
            }
            sleep(PAUSE).await;
        }
    }

    async fn answers(&self, id: ReplicaId) -> Result<(), String> {
        let address = self.address_of(id).ok_or("its address is not known")?;
        match self.standing_of(id, &address).await {
            Ok(_) => Ok(()),
            Err(status) => Err(status.message().to_owned()),
        }
    }

    /// Whether a follower answered lately; a dead one may have been at the tip when it died.
    pub(crate) fn heard_from(
        &self,
        metrics: &openraft::RaftMetrics<super::raft::TypeConfig>,
        id: ReplicaId,
    ) -> bool {
        let acked = metrics.heartbeat.as_ref().and_then(|peers| peers.get(&id).copied().flatten());
        acked.is_some_and(|acked| acked.elapsed() <= self.timing.election_max)
    }

    async fn wait_for_other_leader(&self, chosen: ReplicaId) -> Result<ReplicaId, ProposeError> {
        let deadline = Instant::now() + TAKE_OVER;
        let mut changes = self.raft.metrics();
        loop {
            let leader = changes.borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| *leader != self.id) {
                return Ok(leader);
            }
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                let reason = format!("replica {chosen} does not lead yet; leadership may still move");
                return Err(ProposeError::Unavailable(reason));
            }
        }
    }
}

use super::core::Core;
use super::raft::TypeConfig;
use crate::consensus::ProposeError;
use crate::types::ReplicaId;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// A new member copies the whole state before it votes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

impl Core {
    /// Adds a replica: first as a learner, until it has caught up, then as a voter. May be repeated.
    pub(crate) async fn add_member(&self, id: ReplicaId, address: String) -> Result<(), ProposeError> {
        self.must_lead()?;
        if id == 0 || address.is_empty() {
            return Err(ProposeError::Unavailable("a member needs an id other than 0 and an address".into()));
        }
        let membership = self.metrics().membership_config;
        if let Some(known) = membership.get_node(&id)
            && known.addr != address
        {
            let reason = format!("replica {id} is a member already, at {}", known.addr);
            return Err(ProposeError::Unavailable(reason));
        }
        if membership.get_node(&id).is_none() {
            self.check_newcomer(id, &address).await?;
        }
        bounded(self.raft.add_learner(id, BasicNode::new(address), true)).await?;
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        bounded(self.raft.change_membership(voters, true)).await
    }

    /// Removes a replica. Its id must never be used again.
    pub(crate) async fn remove_member(&self, id: ReplicaId) -> Result<(), ProposeError> {
        self.must_lead()?;
        let membership = self.metrics().membership_config;
        if membership.get_node(&id).is_none() {
            return Err(ProposeError::Unavailable(format!("replica {id} is not a member")));
        }
        if membership.voter_ids().all(|voter| voter == id) {
            return Err(ProposeError::Unavailable(format!("replica {id} is the last voter")));
        }
        let ids = BTreeSet::from([id]);
        if membership.voter_ids().any(|voter| voter == id) {
            bounded(self.raft.change_membership(ChangeMembers::RemoveVoters(ids), false)).await
        } else {
            bounded(self.raft.change_membership(ChangeMembers::RemoveNodes(ids), false)).await
        }
    }

    fn must_lead(&self) -> Result<(), ProposeError> {
        match self.metrics().current_leader {
            Some(leader) if leader == self.id => Ok(()),
            Some(leader) => Err(ProposeError::Unavailable(format!("replica {leader} leads: ask it"))),
            None => Err(ProposeError::Unavailable("no leader is known".into())),
        }
    }
}

type Written<T> = Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

async fn bounded<T>(change: impl Future<Output = Written<T>>) -> Result<(), ProposeError> {
    match timeout(CHANGE_TIMEOUT, Box::pin(change)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::Fatal(error))) => Err(ProposeError::Fatal(error.to_string())),
        Ok(Err(RaftError::APIError(error @ ClientWriteError::LogEntryDiscarded(_)))) => {
            Err(ProposeError::Unknown(error.to_string()))
        }
        Ok(Err(RaftError::APIError(error))) => Err(ProposeError::Unavailable(error.to_string())),
        Err(_) => Err(ProposeError::Unknown("the change is not committed yet".into())),
    }
}

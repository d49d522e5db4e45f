use super::core::Core;
use crate::consensus::ProposeError;
use crate::mutant::{Mutant, planted};
use crate::types::{LogIndex, ReplicaId};
use mux_proto::mux::raft::v1 as pb;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Why the leader's read index could not be had this time.
#[derive(Debug)]
pub(crate) struct NoReadIndex {
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) reason: String,
}

impl Core {
    /// Waits until everything committed before the call is applied here. Asks the leader, who asks a quorum;
    /// no lease is trusted.
    pub(crate) async fn read_barrier(&self) -> Result<LogIndex, ProposeError> {
        let deadline = Instant::now() + self.timing.propose;
        let mut hint = None;
        if planted(Mutant::StaleRead) {
            return Ok(self.cell.read(|state| state.applied().index));
        }
        loop {
            if let Some(reason) = self.latch.reason() {
                return Err(ProposeError::Fatal(reason));
            }
            let tried = match hint.take().or_else(|| self.leader()) {
                Some(leader) if leader == self.id => self.read_index_here(deadline).await,
                Some(leader) => self.read_index_of(leader, deadline).await,
                None => Err(NoReadIndex { leader: None, reason: "no leader is known".into() }),
            };
            let reason = match tried {
                Ok(index) if self.applied(index, deadline).await => return Ok(index),
                Ok(index) => format!("entry {index} is not applied here yet"),
                Err(failure) => {
                    hint = failure.leader;
                    failure.reason
                }
            };
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(ProposeError::Unavailable(reason));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The read index, if this replica leads and a quorum confirms it.
    pub(crate) async fn read_index_here(&self, deadline: Instant) -> Result<LogIndex, NoReadIndex> {
        let nobody = |reason: String| NoReadIndex { leader: None, reason };
        match timeout_at(deadline, self.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await {
            Err(_) => Err(nobody("no quorum confirmed the leader in time".into())),
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(NoReadIndex { leader: forward.leader_id, reason: "leadership has moved".into() })
            }
            Ok(Err(error)) => Err(nobody(error.to_string())),
        }
    }

    async fn read_index_of(&self, leader: ReplicaId, deadline: Instant) -> Result<LogIndex, NoReadIndex> {
        use pb::read_index_response::Outcome;
        let nobody = |reason: String| NoReadIndex { leader: None, reason };
        let mut client = self.gateway_of(leader).map_err(|status| nobody(status.message().to_owned()))?;
        let message = pb::ReadIndexRequest { header: Some(self.peers.header(leader)) };
        // A leader that does not answer may not be the leader any more: try again within the deadline.
        let once = deadline.min(Instant::now() + self.timing.election_max * 2);
        match timeout_at(once, client.read_index(message)).await {
            Err(_) => Err(nobody(format!("leader {leader} did not answer in time"))),
            Ok(Err(status)) => Err(nobody(format!("leader {leader}: {}", status.message()))),
            Ok(Ok(response)) => match response.into_inner().outcome {
                Some(Outcome::Index(index)) => Ok(index),
                Some(Outcome::Unavailable(reason)) => Err(nobody(reason)),
                None => Err(nobody("the leader's answer is empty".into())),
            },
        }
    }
}

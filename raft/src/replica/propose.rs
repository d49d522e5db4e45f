use super::core::Core;
use super::raft::{TypeConfig, position};
use crate::codec::LoggedCommand;
use crate::consensus::{Committed, ProposeError};
use crate::machine::command::COMMAND_FORMAT;
use crate::machine::{Command, Envelope, LogPosition, Reply, RequestId};
use crate::mutant::{Mutant, planted};
use crate::network::{Lane, MESSAGE_BYTES_MAX, PeerChannel};
use crate::trace;
use crate::trace_step;
use crate::types::ReplicaId;
use bytes::Bytes;
use futures::FutureExt as _;
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::leader_gateway_client::LeaderGatewayClient;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, RaftError};
use std::error::Error as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Status};
use tracing::Instrument as _;

/// Between two tries while nobody takes the proposal.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// No new try with less time than this left: it would only end as unknown.
const LAST_TRY: Duration = Duration::from_millis(200);
/// While the log clock is not ready.
const CLOCK_PAUSE: Duration = Duration::from_millis(10);
/// The store cuts entries in pieces, but one batch must hold a whole entry.
const COMMAND_BYTES_MAX: usize = 128 << 10;

/// How one try to get a command into the log ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    Committed(Committed),
    /// Certainly not in the log; somebody else may take it.
    NotLeader {
        leader: Option<ReplicaId>,
        reason: String,
    },
    /// Certainly not in the log, and trying again does not help.
    Refused(String),
    /// May or may not be in the log.
    Unknown(String),
}

/// Counts a proposal as under way until it is dropped, whoever drops it.
struct Pending(metrics::Gauge);

impl Pending {
    fn begin() -> Self {
        let gauge = metrics::gauge!("mux_raft_proposals_pending");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// A command on its way from a follower to the leader.
pub(crate) fn encode_request(
    command: &Command,
    request_id: Option<RequestId>,
) -> Result<Bytes, postcard::Error> {
    postcard::to_stdvec(&(command.level(), request_id, command)).map(Bytes::from)
}

/// See [`encode_request`]. `None`: a format this program does not know, or no command.
pub(crate) fn decode_request(bytes: &[u8]) -> Option<(Option<RequestId>, Command)> {
    let (format, rest) = postcard::take_from_bytes::<u16>(bytes).ok()?;
    if format > COMMAND_FORMAT {
        return None;
    }
    match postcard::take_from_bytes::<(Option<RequestId>, Command)>(rest) {
        Ok((request, [])) => Some(request),
        Ok(_) | Err(_) => None,
    }
}

impl Core {
    /// Gets a command into the log, here or at the leader, and waits until it is applied here.
    pub(crate) async fn propose(
        &self,
        command: Command,
        request_id: Option<RequestId>,
    ) -> Result<Committed, ProposeError> {
        let started = Instant::now();
        let deadline = started + self.timing.propose;
        let pending = Pending::begin();
        let span = tracing::debug_span!("proposal");
        let context = trace::current().map(|caller| trace::begin(&span, Some(caller)));
        let proposing = trace::scope(context, self.propose_until(command, request_id, deadline));
        let result = proposing.instrument(span).await;
        drop(pending);
        match &result {
            Ok(Committed { at, .. }) => {
                trace_step!(context, term = at.term, index = at.index, "proposal committed and applied");
            }
            Err(error) => trace_step!(context, %error, "proposal failed"),
        }
        let failed = match &result {
            Ok(_) => None,
            Err(ProposeError::Unavailable(_)) => Some("unavailable"),
            Err(ProposeError::Unknown(_)) => Some("unknown"),
            Err(ProposeError::Fatal(_)) => Some("fatal"),
        };
        match failed {
            None => metrics::counter!("mux_raft_proposals_committed_total").increment(1),
            Some(outcome) => {
                metrics::counter!("mux_raft_proposals_failed_total", "outcome" => outcome).increment(1);
            }
        }
        metrics::histogram!("mux_raft_proposal_duration_seconds").record(started.elapsed().as_secs_f64());
        result
    }

    async fn propose_until(
        &self,
        command: Command,
        request_id: Option<RequestId>,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let unavailable = |reason: &str| ProposeError::Unavailable(reason.to_owned());
        let _place = timeout_at(deadline, self.proposals.acquire())
            .await
            .map_err(|_| unavailable("too many proposals are under way"))?
            .map_err(|_| ProposeError::Fatal(self.latch.reason().unwrap_or_else(|| "shut down".into())))?;
        let request =
            encode_request(&command, request_id).map_err(|error| unavailable(&error.to_string()))?;
        let mut hint = None;
        loop {
            if let Some(reason) = self.latch.reason() {
                return Err(ProposeError::Fatal(reason));
            }
            let attempt = match hint.take().or_else(|| self.leader()) {
                Some(leader) if leader == self.id => self.propose_here(&command, request_id, deadline).await,
                Some(leader) => self.forward(leader, &request, deadline).await,
                None => Attempt::NotLeader { leader: None, reason: "no leader is known".into() },
            };
            let reason = match attempt {
                Attempt::Committed(committed) => return self.applied_here(committed, deadline).await,
                Attempt::Refused(reason) => return Err(ProposeError::Unavailable(reason)),
                Attempt::Unknown(reason) => return Err(ProposeError::Unknown(reason)),
                Attempt::NotLeader { leader, reason } => {
                    hint = leader;
                    reason
                }
            };
            tracing::trace!(%reason, leader = ?hint, "proposal not taken");
            if Instant::now() + LAST_TRY >= deadline {
                return Err(ProposeError::Unavailable(reason));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The caller reads its own write from its own state: it must be applied here.
    async fn applied_here(&self, committed: Committed, deadline: Instant) -> Result<Committed, ProposeError> {
        let index = if planted(Mutant::AnswerBeforeApply) { 0 } else { committed.at.index };
        let stopped = self.latch.tripped();
        tokio::select! {
            biased;
            applied = self.applied(index, deadline) => if applied { Ok(committed) } else {
                Err(ProposeError::Unknown(format!("committed as entry {index}, but not applied here yet")))
            },
            // Not Fatal, which callers may take for "nothing happened": it is in the log for good.
            reason = stopped => Err(ProposeError::Unknown(format!("committed as entry {index}; {reason}"))),
        }
    }

    /// Stamps and appends, if this replica leads, and waits until the entry is applied.
    pub(crate) async fn propose_here(
        &self,
        command: &Command,
        request_id: Option<RequestId>,
        deadline: Instant,
    ) -> Attempt {
        let level = self.cell.read(crate::machine::State::feature_level);
        if command.needs_level() > level {
            let (needed, why) = (command.needs_level(), self.held_back_by(level));
            return Attempt::Refused(format!(
                "this needs feature level {needed}, the cluster is at {level}: {why}"
            ));
        }
        let time_ms = loop {
            let (leader, term) = self.look(|metrics| (metrics.current_leader, metrics.current_term));
            if leader != Some(self.id) || self.is_handing_over() {
                let leader = leader.filter(|leader| *leader != self.id);
                return Attempt::NotLeader { leader, reason: "leadership is moving".into() };
            }
            let applied_ms = self.cell.read(crate::machine::State::time_ms);
            if let Some(time_ms) = self.time.stamp(term, applied_ms) {
                break time_ms;
            }
            if Instant::now() + CLOCK_PAUSE >= deadline {
                let reason = "the log clock waits for a majority of wall clocks to agree";
                return Attempt::Refused(reason.into());
            }
            sleep(CLOCK_PAUSE).await;
        };
        // Whoever waits may have been waiting, or standing still, for longer than it was to.
        if Instant::now() >= deadline {
            return Attempt::Refused("no time is left to write it".into());
        }
        let envelope = Envelope { format: command.level(), time_ms, request_id, command: command.clone() };
        #[cfg(feature = "mutants")]
        let foretold = self.foretold.foretell(self, &envelope);
        let command = match LoggedCommand::new(envelope) {
            Ok(command) if command.bytes().len() <= COMMAND_BYTES_MAX => command,
            Ok(command) => return Attempt::Refused(format!("{command} is too large")),
            Err(error) => return Attempt::Refused(error.to_string()),
        };
        #[cfg(feature = "mutants")]
        if let Some(committed) = foretold {
            let raft = self.raft.clone();
            tokio::spawn(async move { raft.client_write(command).await });
            return Attempt::Committed(committed);
        }
        // openraft panics now and then when it is asked why it has stopped by two at once (0.10.0-alpha.37). Nothing is
        // left to be broken by that: this replica ends.
        let written = AssertUnwindSafe(self.raft.client_write(command)).catch_unwind();
        match timeout_at(deadline, written).await {
            Err(_) => Attempt::Unknown("not committed in time".into()),
            Ok(Ok(Ok(written))) => Attempt::Committed(Committed {
                at: position(written.log_id),
                reply: written.data.unwrap_or(Reply::Done),
            }),
            Ok(Ok(Err(error))) => write_failed(error),
            Ok(Err(_)) => Attempt::Unknown("consensus stopped while it was asked to write".into()),
        }
    }

    /// Hands a command to the leader.
    async fn forward(&self, leader: ReplicaId, request: &Bytes, deadline: Instant) -> Attempt {
        let nobody = |reason: String| Attempt::NotLeader { leader: None, reason };
        let mut client = match self.gateway_of(leader) {
            Ok(client) => client,
            Err(status) => return nobody(status.message().to_owned()),
        };
        let remaining = deadline.saturating_duration_since(Instant::now());
        let message = pb::ProposeRequest {
            header: Some(self.peers.header(leader)),
            request: request.clone(),
            timeout_ms: u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX),
        };
        let mut call = Request::new(message);
        if let Some(context) = trace::current()
            && let Ok(header) = context.header().parse()
        {
            call.metadata_mut().insert(trace::HEADER, header);
        }
        match timeout_at(deadline, client.propose(call)).await {
            Err(_) => Attempt::Unknown("the leader did not answer in time".into()),
            Ok(Ok(response)) => forwarded(response.into_inner().outcome),
            Ok(Err(status)) if status.code() == Code::OutOfRange => {
                Attempt::Refused(status.message().to_owned())
            }
            Ok(Err(status)) if not_processed(&status) => {
                nobody(format!("leader {leader}: {}", status.message()))
            }
            Ok(Err(status)) => Attempt::Unknown(format!("leader {leader}: {}", status.message())),
        }
    }

    /// A client for a peer's gateway.
    pub(crate) fn gateway_of(&self, peer: ReplicaId) -> Result<LeaderGatewayClient<PeerChannel>, Status> {
        let address = self
            .address_of(peer)
            .ok_or_else(|| Status::unavailable(format!("replica {peer} is not a member")))?;
        self.gateway_at(peer, &address)
    }

    /// A client for the gateway of a peer at this address.
    pub(crate) fn gateway_at(
        &self,
        peer: ReplicaId,
        address: &str,
    ) -> Result<LeaderGatewayClient<PeerChannel>, Status> {
        self.peers.check_link(peer)?;
        let channel = self.peers.channel(peer, address, Lane::Main)?;
        Ok(LeaderGatewayClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn write_failed(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Attempt {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader {
            leader_id, reason, ..
        })) => {
            let reason = match reason {
                ForwardReason::NotLeader => "leadership has moved",
                ForwardReason::LeadershipTransfer => "leadership is moving",
                ForwardReason::LeaseExpired => "the leader has lost contact with a quorum",
            };
            Attempt::NotLeader { leader: leader_id, reason: reason.into() }
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            Attempt::Unknown("the leader changed before the entry was committed".into())
        }
        RaftError::APIError(error) => Attempt::Refused(error.to_string()),
        // It may have been appended, and may have been sent to the others, before this replica stopped.
        RaftError::Fatal(error) => Attempt::Unknown(error.to_string()),
    }
}

fn forwarded(outcome: Option<pb::propose_response::Outcome>) -> Attempt {
    use pb::propose_response::Outcome;
    match outcome {
        Some(Outcome::Committed(committed)) => match postcard::from_bytes(&committed.reply) {
            Ok(reply) => Attempt::Committed(Committed {
                at: LogPosition { term: committed.term, index: committed.index },
                reply,
            }),
            Err(_) => Attempt::Unknown("committed, but the leader's reply is not understood here".into()),
        },
        Some(Outcome::NotLeader(answer)) => {
            Attempt::NotLeader { leader: Some(answer.leader).filter(|id| *id != 0), reason: answer.reason }
        }
        Some(Outcome::Unknown(answer)) => Attempt::Unknown(answer.reason),
        None => Attempt::Unknown("the leader's answer is empty".into()),
    }
}

/// Whether the peer certainly has not looked at the request: it refused it, or was never reached.
pub(super) fn not_processed(status: &Status) -> bool {
    if matches!(
        status.code(),
        Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::Unauthenticated
            | Code::AlreadyExists
    ) {
        return true;
    }
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::errors::Fatal;

    #[test]
    fn a_write_that_this_replica_stopped_on_may_have_happened() {
        assert!(matches!(write_failed(RaftError::Fatal(Fatal::Stopped)), Attempt::Unknown(_)));
    }

    #[test]
    fn a_forwarded_command_round_trips_and_later_formats_are_refused() {
        let request_id = Some(RequestId([3; 16]));
        let bytes = encode_request(&Command::Tick, request_id).unwrap();
        assert_eq!(decode_request(&bytes), Some((request_id, Command::Tick)));
        let later = postcard::to_stdvec(&(COMMAND_FORMAT + 1, request_id, Command::Tick)).unwrap();
        assert_eq!(decode_request(&later), None);
        assert_eq!(decode_request(&[bytes.as_ref(), &[0]].concat()), None);
    }
}

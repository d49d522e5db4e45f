//! openraft's messages as protobuf and back. What comes from the wire is checked here and nowhere else.

use super::{CodecError, entry};
use crate::replica::raft::{LogId, TypeConfig, Vote, log_id, vote};
use mux_proto::mux::raft::v1 as pb;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

type StreamAppendResult = openraft::raft::StreamAppendResult<TypeConfig>;

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote_from_pb(message: Option<pb::Vote>) -> Result<Vote, CodecError> {
    let pb::Vote { term, node_id, committed } = message.ok_or(CodecError::Malformed("vote"))?;
    Ok(vote(term, node_id, committed))
}

pub(crate) fn id_to_pb(id: LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, index: id.index }
}

fn id_from_pb(message: pb::LogId) -> LogId {
    log_id(message.term, message.index)
}

pub(crate) fn append_to_pb(
    request: &AppendEntriesRequest<TypeConfig>,
    header: Option<pb::Header>,
) -> Result<pb::AppendRequest, CodecError> {
    Ok(pb::AppendRequest {
        header,
        vote: Some(vote_to_pb(&request.vote)),
        prev_log_id: request.prev_log_id.map(id_to_pb),
        leader_commit: request.leader_commit.map(id_to_pb),
        entries: request.entries.iter().map(entry::encode).collect::<Result<_, _>>()?,
    })
}

/// Entries must follow each other and the one before them, whoever sent them.
pub(crate) fn append_from_pb(
    message: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    let prev_log_id = message.prev_log_id.map(id_from_pb);
    let entries = message.entries.iter().map(entry::decode).collect::<Result<Vec<_>, _>>()?;
    let mut expected = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
    for entry in &entries {
        if entry.log_id.index != expected {
            return Err(CodecError::Malformed("order of entries"));
        }
        expected = expected.saturating_add(1);
    }
    Ok(AppendEntriesRequest {
        vote: vote_from_pb(message.vote)?,
        prev_log_id,
        entries,
        leader_commit: message.leader_commit.map(id_from_pb),
    })
}

pub(crate) fn appended_to_pb(result: StreamAppendResult) -> pb::AppendResponse {
    use pb::append_response::Result as Outcome;
    let (outcome, matching) = match result {
        Ok(matching) => (Outcome::Success(pb::Empty {}), matching),
        Err(StreamAppendError::Conflict(at)) => (Outcome::Conflict(pb::Empty {}), Some(at)),
        Err(StreamAppendError::HigherVote(vote)) => (Outcome::HigherVote(vote_to_pb(&vote)), None),
    };
    pb::AppendResponse { result: Some(outcome), matching: matching.map(id_to_pb) }
}

pub(crate) fn appended_from_pb(message: pb::AppendResponse) -> Result<StreamAppendResult, CodecError> {
    use pb::append_response::Result as Outcome;
    let matching = message.matching.map(id_from_pb);
    Ok(match message.result.ok_or(CodecError::Malformed("append response"))? {
        Outcome::Success(_) => Ok(matching),
        Outcome::Conflict(_) => {
            Err(StreamAppendError::Conflict(matching.ok_or(CodecError::Malformed("conflict"))?))
        }
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_pb(Some(vote))?)),
    })
}

/// The answer to a single append, for its request's last entry and the one before its first.
pub(crate) fn unary_result(
    response: AppendEntriesResponse<TypeConfig>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult, CodecError> {
    Ok(match response {
        AppendEntriesResponse::Success => Ok(last),
        AppendEntriesResponse::PartialSuccess(matching) => Ok(matching),
        AppendEntriesResponse::Conflict => {
            Err(StreamAppendError::Conflict(prev.ok_or(CodecError::Malformed("conflict"))?))
        }
        AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
    })
}

pub(crate) fn vote_request_to_pb(request: &VoteRequest<TypeConfig>, header: pb::Header) -> pb::VoteRequest {
    pb::VoteRequest {
        header: Some(header),
        vote: Some(vote_to_pb(&request.vote)),
        last_log_id: request.last_log_id.map(id_to_pb),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_from_pb(message: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, CodecError> {
    let mut request = VoteRequest::new(vote_from_pb(message.vote)?, message.last_log_id.map(id_from_pb));
    request.leadership_transfer = message.leadership_transfer;
    Ok(request)
}

pub(crate) fn voted_to_pb(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.map(id_to_pb),
    }
}

pub(crate) fn voted_from_pb(message: pb::VoteResponse) -> Result<VoteResponse<TypeConfig>, CodecError> {
    let vote = vote_from_pb(message.vote)?;
    Ok(VoteResponse::new(vote, message.last_log_id.map(id_from_pb), message.granted))
}

pub(crate) fn transfer_to_pb(
    request: &TransferLeaderRequest<TypeConfig>,
    header: pb::Header,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        header: Some(header),
        from_leader: Some(vote_to_pb(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: request.last_log_id().copied().map(id_to_pb),
    }
}

pub(crate) fn transfer_from_pb(
    message: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, CodecError> {
    let from = vote_from_pb(message.from_leader)?;
    Ok(TransferLeaderRequest::new(from, message.to_node_id, message.last_log_id.map(id_from_pb)))
}

pub(crate) fn transferred_to_pb(response: TransferLeaderResponse<TypeConfig>) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::{LogNotFlushed, Result as Outcome};
    let outcome = match response {
        Ok(()) => Outcome::Accepted(pb::Empty {}),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::VoteChanged(vote_to_pb(&actual)),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Outcome::LogNotFlushed(LogNotFlushed { last_log_id: actual.map(id_to_pb) })
        }
    };
    pb::TransferLeaderResponse { result: Some(outcome) }
}

pub(crate) fn transferred_from_pb(
    message: pb::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    use pb::transfer_leader_response::Result as Outcome;
    Ok(match message.result.ok_or(CodecError::Malformed("transfer response"))? {
        Outcome::Accepted(_) => Ok(()),
        Outcome::VoteChanged(actual) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_from_pb(Some(actual))?,
        }),
        Outcome::LogNotFlushed(log) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log.last_log_id.map(id_from_pb),
        }),
    })
}

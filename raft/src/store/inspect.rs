//! What records and marks say, for a simulation that reads its disks from outside.

use super::{EngineError, Mark, Record};
use crate::codec::{CodecError, LoggedCommand, entry, marks};
use crate::machine::{Envelope, LogPosition};
use crate::replica::raft::{Entry, log_id, position};
use crate::types::ReplicaId;
use bytes::Bytes;
use openraft::EntryPayload;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An entry, as far as consensus is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Which it says it is.
    pub at: LogPosition,
    /// Whose votes count from this entry on, if it says so: one set, or both the old and the new one while they change.
    pub voters: Option<Vec<BTreeSet<ReplicaId>>>,
}

/// Whom a replica voted for last, or follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InspectedVote {
    /// In this term.
    pub term: u64,
    /// The candidate, or the leader.
    pub candidate: ReplicaId,
    /// It is known to lead.
    pub leads: bool,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectedMark {
    /// [`Mark::Vote`].
    Vote(InspectedVote),
    /// [`Mark::Committed`], if any entry is.
    Committed(Option<LogPosition>),
    /// [`Mark::Purged`], if any entry is.
    Purged(Option<LogPosition>),
    /// [`Mark::Probation`].
    Probation,
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn damaged(error: CodecError) -> EngineError {
    EngineError::Damaged(error.to_string())
}

impl Inspected {
    /// Reads an entry.
    ///
    /// # Errors
    /// It is damaged, of a later version, or in another's place.
    pub fn read(record: &Record) -> Result<Self, EngineError> {
        let entry = entry::decode(&record.bytes).map_err(damaged)?;
        if entry.log_id.index != record.index {
            let (is, at) = (entry.log_id.index, record.index);
            return Err(EngineError::Damaged(format!("entry {is} stands at {at}")));
        }
        let voters = match &entry.payload {
            EntryPayload::Membership(members) => Some(members.get_joint_config().clone()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        };
        Ok(Self { at: position(entry.log_id), voters })
    }

    /// The command of an entry, which [`Inspected::read`] leaves encoded; none: it is consensus' own.
    ///
    /// # Errors
    /// It is damaged, or of a later version.
    pub fn command(bytes: &Bytes) -> Result<Option<Arc<Envelope>>, EngineError> {
        match entry::decode(bytes).map_err(damaged)?.payload {
            EntryPayload::Normal(command) => command.decode().map(Some).map_err(damaged),
            EntryPayload::Blank | EntryPayload::Membership(_) => Ok(None),
        }
    }
}

/// An entry as a replica writes it, for tests of those who read.
///
/// # Errors
/// It cannot be encoded.
pub fn written(at: LogPosition, command: Option<Envelope>) -> Result<Record, EngineError> {
    let payload = match command {
        Some(envelope) => EntryPayload::Normal(LoggedCommand::new(envelope).map_err(damaged)?),
        None => EntryPayload::Blank,
    };
    let bytes = entry::encode(&Entry { log_id: log_id(at.term, at.index), payload }).map_err(damaged)?;
    Ok(Record { index: at.index, bytes })
}

impl InspectedMark {
    /// Reads a mark.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(mark: Mark, bytes: &[u8]) -> Result<Self, EngineError> {
        let log_id = || marks::decode_log_id(bytes).map_err(damaged);
        Ok(match mark {
            Mark::Vote => {
                let vote = marks::decode_vote(bytes).map_err(damaged)?;
                let (term, candidate) = (vote.leader_id.term, vote.leader_id.voted_for);
                Self::Vote(InspectedVote { term, candidate, leads: vote.committed })
            }
            Mark::Committed => Self::Committed(log_id()?.map(position)),
            Mark::Purged => Self::Purged(log_id()?.map(position)),
            Mark::Probation => Self::Probation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Command;
    use crate::replica::raft::vote;
    use openraft::{BasicNode, Membership};
    use std::collections::BTreeMap;

    #[test]
    fn it_says_what_was_written() {
        let sets = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        let nodes: BTreeMap<u64, BasicNode> = (1..=5).map(|id| (id, BasicNode::default())).collect();
        let members = EntryPayload::Membership(Membership::new(sets.clone(), nodes).unwrap());
        for (payload, voters) in [(EntryPayload::Blank, None), (members, Some(sets))] {
            let bytes = entry::encode(&Entry { log_id: log_id(7, 9), payload }).unwrap();
            assert_eq!(Inspected::command(&bytes).unwrap(), None);
            let at = LogPosition { term: 7, index: 9 };
            assert_eq!(Inspected::read(&Record { index: 9, bytes }).unwrap(), Inspected { at, voters });
        }
        assert!(Inspected::read(&Record { index: 9, bytes: vec![0; 30].into() }).is_err());
        assert!(Inspected::command(&vec![0; 30].into()).is_err());
        let tick = Envelope { format: 1, time_ms: 5, request_id: None, command: Command::Tick };
        let record = written(LogPosition { term: 7, index: 9 }, Some(tick.clone())).unwrap();
        assert_eq!(Inspected::command(&record.bytes).unwrap().as_deref(), Some(&tick));
        let voted = InspectedVote { term: 3, candidate: 2, leads: true };
        let vote = marks::encode_vote(&vote(3, 2, true));
        assert_eq!(InspectedMark::read(Mark::Vote, &vote).unwrap(), InspectedMark::Vote(voted));
        let (id, at) = (marks::encode_log_id(Some(log_id(4, 6))), LogPosition { term: 4, index: 6 });
        assert_eq!(InspectedMark::read(Mark::Committed, &id).unwrap(), InspectedMark::Committed(Some(at)));
        assert_eq!(InspectedMark::read(Mark::Purged, &id).unwrap(), InspectedMark::Purged(Some(at)));
    }
}

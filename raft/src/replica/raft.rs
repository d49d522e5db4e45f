//! openraft with this crate's types.
//!
//! Leader ids are the textbook's (`leader_id_std`, one leader per term): the state machine takes a new term
//! for a new leader, which the default, several leaders per term, would break.

use crate::codec::LoggedCommand;
use crate::machine::{LogPosition, Reply};
use crate::snapshot::{Machine, SnapshotFile};
use openraft::BasicNode;
use openraft::impls::leader_id_std;

openraft::declare_raft_types!(
    /// openraft's type parameters.
    pub(crate) TypeConfig:
        D = LoggedCommand,
        R = Option<Reply>,
        NodeId = u64,
        Node = BasicNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// The log id of an entry.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::vote::leader_id_std::CommittedLeaderId::new(term), index)
}

/// Where an entry stands, in this crate's own terms.
pub(crate) fn position(id: LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: id.index }
}

/// A vote for a replica; `committed`: a quorum granted it.
pub(crate) fn vote(term: u64, replica: u64, committed: bool) -> Vote {
    Vote { leader_id: leader_id_std::LeaderId { term, voted_for: replica }, committed }
}

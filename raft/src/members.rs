//! Who belongs to the cluster, and which changes of that are allowed.
//!
//! A replica joins as a learner, catches up, and is promoted to a voter; it leaves for good by being removed. One
//! change at a time, decided and made by the leader ([`crate::consensus::Consensus::change_members`] forwards).
//! What the leader allows is pure ([`judge`], [`judge_drain`]): it follows from whom the leader hears at the
//! moment.

mod rules;

use crate::consensus::ProposeError;
use crate::types::{LogIndex, ReplicaId};
use std::collections::BTreeSet;

pub use rules::{judge, judge_drain};

/// A learner may be promoted when it is no more than this many entries behind.
pub const PROMOTE_LAG_MAX: LogIndex = 100;

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a replica that copies the log and does not vote.
    AddLearner {
        /// Its id; never used before.
        id: ReplicaId,
        /// `host:port` at which the others reach its Raft listener.
        address: String,
    },
    /// Lets a learner that has caught up vote.
    Promote {
        /// The learner.
        id: ReplicaId,
    },
    /// Removes a replica for good: its id never comes back.
    Remove {
        /// The replica.
        id: ReplicaId,
        /// Also when the next failure then stops the cluster.
        force: bool,
    },
}

impl MemberChange {
    /// Whom it is about.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        match self {
            Self::AddLearner { id, .. } | Self::Promote { id } | Self::Remove { id, .. } => *id,
        }
    }
}

/// A change that was made, or had been made before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberChanged {
    /// What the operator should know about the cluster as it is now.
    pub warnings: Vec<String>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: ReplicaId,
    /// `host:port` of its Raft listener.
    pub address: String,
    /// Votes, or only learns.
    pub voter: bool,
    /// Leads.
    pub leader: bool,
    /// The last entry that it acknowledged; `None`: none yet.
    pub matched: Option<LogIndex>,
    /// Entries that it is behind the leader; `None`: it acknowledged none yet.
    pub lag: Option<u64>,
    /// Milliseconds since it last acknowledged anything; `None`: it never did in this term.
    pub heard_ms: Option<u64>,
    /// It acknowledged something lately: it counts for a quorum.
    pub reachable: bool,
    /// It hands over and is about to stop.
    pub leaving: bool,
}

/// What the rules go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberList {
    /// Everybody, by id.
    pub members: Vec<MemberView>,
    /// Ids that were members once.
    pub retired: BTreeSet<ReplicaId>,
}

/// Why a change of the members was not made, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// A rule forbids it; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no word on it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// A rule that forbids a change, with what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// For the operator.
    pub text: String,
}

/// Kinds of refusals, by what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// It makes no sense.
    Invalid,
    /// No such member.
    NotFound,
    /// The id or the address is taken, or was.
    Exists,
    /// Not yet: try again.
    NotYet,
    /// Not possible as things are.
    Impossible,
    /// Only with force.
    NeedsForce,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

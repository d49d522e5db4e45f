//! Members and their changes between replicas.

use super::members::Change;
use crate::consensus::ProposeError;
use crate::members::{MemberChange, MemberChanged, MemberError, MemberView, Refusal, RefusalKind};
use crate::types::ReplicaId;
use mux_proto::mux::raft::v1 as pb;
use pb::change_members_request::{AddLearner, Change as Wire, Remove};
use pb::change_members_response::{Changed, Outcome, Refused};

pub(super) fn change_to_pb(header: pb::Header, change: &MemberChange) -> pb::ChangeMembersRequest {
    let change = match change.clone() {
        MemberChange::AddLearner { id, address } => Wire::AddLearner(AddLearner { id, address }),
        MemberChange::Promote { id } => Wire::Promote(id),
        MemberChange::Remove { id, force } => Wire::Remove(Remove { id, force }),
    };
    pb::ChangeMembersRequest { header: Some(header), change: Some(change) }
}

/// `None`: a change that this program does not know.
pub(super) fn change_from_pb(message: pb::ChangeMembersRequest) -> Option<MemberChange> {
    Some(match message.change? {
        Wire::AddLearner(AddLearner { id, address }) => MemberChange::AddLearner { id, address },
        Wire::Promote(id) => MemberChange::Promote { id },
        Wire::Remove(Remove { id, force }) => MemberChange::Remove { id, force },
    })
}

pub(super) fn outcome_to_pb(outcome: Change) -> pb::ChangeMembersResponse {
    let outcome = match outcome {
        Change::Made(MemberChanged { warnings }) => Outcome::Changed(Changed { warnings }),
        Change::Failed(MemberError::Refused(Refusal { kind, text })) => {
            Outcome::Refused(Refused { kind: kind_to_pb(kind).into(), text })
        }
        Change::Failed(MemberError::Propose(ProposeError::Unavailable(reason))) => {
            Outcome::Unavailable(reason)
        }
        Change::Failed(MemberError::Propose(ProposeError::Unknown(reason) | ProposeError::Fatal(reason))) => {
            Outcome::Unknown(reason)
        }
        Change::NotLeader(reason) => Outcome::NotLeader(reason),
    };
    pb::ChangeMembersResponse { outcome: Some(outcome) }
}

pub(super) fn outcome_from_pb(leader: ReplicaId, message: pb::ChangeMembersResponse) -> Change {
    let named = |reason: String| format!("leader {leader}: {reason}");
    match message.outcome {
        Some(Outcome::Changed(Changed { warnings })) => Change::Made(MemberChanged { warnings }),
        Some(Outcome::Refused(refused)) => {
            let kind = kind_from_pb(refused.kind());
            Change::Failed(Refusal { kind, text: refused.text }.into())
        }
        Some(Outcome::NotLeader(reason)) => Change::NotLeader(named(reason)),
        Some(Outcome::Unavailable(reason)) => Change::Failed(ProposeError::Unavailable(named(reason)).into()),
        Some(Outcome::Unknown(reason)) => Change::Failed(ProposeError::Unknown(named(reason)).into()),
        None => Change::Failed(ProposeError::Unknown(named("its answer is empty".into())).into()),
    }
}

fn kind_to_pb(kind: RefusalKind) -> pb::RefusalKind {
    match kind {
        RefusalKind::Invalid => pb::RefusalKind::Invalid,
        RefusalKind::NotFound => pb::RefusalKind::NotFound,
        RefusalKind::Exists => pb::RefusalKind::Exists,
        RefusalKind::NotYet => pb::RefusalKind::NotYet,
        RefusalKind::Impossible => pb::RefusalKind::Impossible,
        RefusalKind::NeedsForce => pb::RefusalKind::NeedsForce,
    }
}

/// A kind that a later version adds is one that cannot be overridden from here.
fn kind_from_pb(kind: pb::RefusalKind) -> RefusalKind {
    match kind {
        pb::RefusalKind::Invalid => RefusalKind::Invalid,
        pb::RefusalKind::NotFound => RefusalKind::NotFound,
        pb::RefusalKind::Exists => RefusalKind::Exists,
        pb::RefusalKind::NotYet => RefusalKind::NotYet,
        pb::RefusalKind::Impossible | pb::RefusalKind::Unspecified => RefusalKind::Impossible,
        pb::RefusalKind::NeedsForce => RefusalKind::NeedsForce,
    }
}

pub(super) fn view_to_pb(view: MemberView) -> pb::MemberView {
    let MemberView { id, address, voter, leader, matched, lag, heard_ms, reachable, leaving } = view;
    pb::MemberView { id, address, voter, leader, matched, lag, heard_ms, reachable, leaving }
}

pub(super) fn view_from_pb(view: pb::MemberView) -> MemberView {
    let pb::MemberView { id, address, voter, leader, matched, lag, heard_ms, reachable, leaving } = view;
    MemberView { id, address, voter, leader, matched, lag, heard_ms, reachable, leaving }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_and_outcomes_round_trip() {
        for change in [
            MemberChange::AddLearner { id: 4, address: "h:1".into() },
            MemberChange::Promote { id: 4 },
            MemberChange::Remove { id: 4, force: true },
        ] {
            let message = change_to_pb(pb::Header::default(), &change);
            assert_eq!(change_from_pb(message), Some(change));
        }
        use RefusalKind as K;
        for kind in [K::Invalid, K::NotFound, K::Exists, K::NotYet, K::Impossible, K::NeedsForce] {
            let refusal = Refusal::new(kind, "no");
            let message = outcome_to_pb(Change::Failed(refusal.clone().into()));
            let Change::Failed(MemberError::Refused(seen)) = outcome_from_pb(1, message) else { panic!() };
            assert_eq!(seen, refusal);
        }
    }
}

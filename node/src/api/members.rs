//! Who belongs to the cluster: list, add, promote, remove.

use super::context::{Context, deadline};
use super::error::ApiError;
use mux_proto::mux::v1 as proto;
use mux_raft::members::{MemberChange, MemberError, MemberView, RefusalKind};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status};

/// Between two looks at whether a learner has caught up.
const CAUGHT_UP_POLL: Duration = Duration::from_millis(250);

/// `mux.v1.ClusterService/ListMembers`
pub(super) async fn list_members(context: &Context) -> Result<Response<proto::ListMembersResponse>, Status> {
    let members = context.consensus.members().await.map_err(ApiError::from)?;
    Ok(Response::new(proto::ListMembersResponse { members: members.into_iter().map(info).collect() }))
}

/// `mux.v1.ClusterService/AddMember`
pub(super) async fn add_member(
    context: &Context,
    request: Request<proto::AddMemberRequest>,
) -> Result<Response<proto::AddMemberResponse>, Status> {
    let deadline = deadline(request.metadata());
    let proto::AddMemberRequest { id, address, wait_and_promote } = request.into_inner();
    let added = change(context, MemberChange::AddLearner { id, address }).await?;
    let warnings = if wait_and_promote { promote_by(context, id, deadline).await? } else { added };
    Ok(Response::new(proto::AddMemberResponse { warnings }))
}

/// `mux.v1.ClusterService/PromoteMember`
pub(super) async fn promote_member(
    context: &Context,
    request: proto::PromoteMemberRequest,
) -> Result<Response<proto::PromoteMemberResponse>, Status> {
    let warnings = change(context, MemberChange::Promote { id: request.id }).await?;
    Ok(Response::new(proto::PromoteMemberResponse { warnings }))
}

/// `mux.v1.ClusterService/RemoveMember`
pub(super) async fn remove_member(
    context: &Context,
    request: proto::RemoveMemberRequest,
) -> Result<Response<proto::RemoveMemberResponse>, Status> {
    let proto::RemoveMemberRequest { id, force } = request;
    let warnings = change(context, MemberChange::Remove { id, force }).await?;
    Ok(Response::new(proto::RemoveMemberResponse { warnings }))
}

async fn change(context: &Context, change: MemberChange) -> Result<Vec<String>, ApiError> {
    Ok(context.consensus.change_members(change).await?.warnings)
}

/// Waits for a learner to catch up, and promotes it.
async fn promote_by(context: &Context, id: u64, deadline: Instant) -> Result<Vec<String>, ApiError> {
    loop {
        match context.consensus.change_members(MemberChange::Promote { id }).await {
            Ok(changed) => return Ok(changed.warnings),
            Err(MemberError::Refused(refusal))
                if refusal.kind == RefusalKind::NotYet && Instant::now() + CAUGHT_UP_POLL < deadline =>
            {
                sleep(CAUGHT_UP_POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn info(view: MemberView) -> proto::MemberInfo {
    let MemberView { id, address, voter, leader, matched, lag, heard_ms, reachable, leaving } = view;
    proto::MemberInfo {
        id,
        address,
        voter,
        leader,
        matched_index: matched,
        lag_entries: lag,
        heard_ms,
        reachable,
        leaving,
    }
}

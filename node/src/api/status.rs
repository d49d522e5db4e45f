//! The cluster at a glance, and handing leadership over.

use super::context::Context;
use super::error::ApiError;
use super::{backup, settings, view};
use crate::link::LinkStatus;
use mux_proto::mux::v1 as proto;
use mux_raft::consensus::RaftStatus;
use mux_raft::machine::State;
use mux_raft::machine::model::{FrontNode, FrontNodeMode, InvoiceState};
use std::collections::HashMap;
use tonic::{Response, Status};

/// `mux.v1.ClusterService/GetStatus`: what the asked replica knows, quorum or not.
pub(super) fn get_status(context: &Context) -> Response<proto::GetStatusResponse> {
    let raft = context.consensus.status().borrow().clone();
    let links = (context.links)();
    let config = &context.config;
    let status = context.read(|state| proto::GetStatusResponse {
        cluster_id: view::bytes(&config.cluster_id),
        replica_id: raft.id,
        pub_key: view::bytes(&context.keys.node_pubkey().0),
        network: config.network.name().into(),
        leader: raft.leader.unwrap_or(0),
        term: raft.term,
        // What is applied is committed, and the state may be further than the status that was published last.
        commit_index: raft.committed.max(state.applied().index),
        applied_index: state.applied().index,
        members: members(&raft),
        front_nodes: state.front_nodes().map(|front| front_node(state, &links, front)).collect(),
        settings: Some(settings::view(state)),
        log_time_ms: state.time_ms(),
        state_hash: view::bytes(&state.chain_hash()),
        invoices_by_state: invoices_by_state(state),
        event_sequence: state.event_sequence(),
        version: env!("CARGO_PKG_VERSION").into(),
        quorum: raft.quorum,
        cluster_name: config.cluster_name.clone(),
        restoration: backup::restoration(state),
        feature_level: state.feature_level().into(),
    });
    Response::new(status)
}

/// `mux.v1.ClusterService/TransferLeader`
pub(super) async fn transfer_leader(
    context: &Context,
    request: proto::TransferLeaderRequest,
) -> Result<Response<proto::TransferLeaderResponse>, Status> {
    let target = (request.target != 0).then_some(request.target);
    let status = context.consensus.status().borrow().clone();
    match target.map(|target| (target, status.members.get(&target))) {
        Some((target, None)) => {
            return Err(ApiError::NotFound(format!("there is no replica {target}")).into());
        }
        Some((target, Some(member))) if !member.voter => {
            return Err(ApiError::Precondition(format!("replica {target} does not vote")).into());
        }
        _ => {}
    }
    let leader = context.consensus.transfer_leader(target).await.map_err(ApiError::from)?;
    Ok(Response::new(proto::TransferLeaderResponse { leader }))
}

fn members(raft: &RaftStatus) -> Vec<proto::Member> {
    let lag = |id| {
        let behind = raft.matched.get(id).map(|matched| raft.last_log_index.saturating_sub(*matched));
        if raft.leads && *id == raft.id { Some(0) } else { behind }
    };
    raft.members
        .iter()
        .map(|(id, member)| proto::Member {
            id: *id,
            address: member.address.clone(),
            voter: member.voter,
            leader: raft.leader == Some(*id),
            lag_entries: if raft.leads { lag(id) } else { None },
            version: member.program.as_ref().map_or_else(String::new, |program| program.version.clone()),
            feature_level_max: member.program.as_ref().map_or(0, |program| program.feature_level_max.into()),
        })
        .collect()
}

fn front_node(state: &State, links: &[LinkStatus], front: &FrontNode) -> proto::FrontNodeStatus {
    let unresolved = state.unresolved_htlcs(&front.node).count();
    let link = links.iter().find(|link| link.node == front.node);
    let session = front.session.as_ref();
    proto::FrontNodeStatus {
        pub_key: view::bytes(&front.node.0),
        alias: front.alias.clone(),
        scid: front.policy.scid,
        fee_base_msat: front.policy.fee_base_msat,
        fee_ppm: front.policy.fee_ppm,
        cltv_delta: front.policy.cltv_delta.into(),
        assigned_replica: front.assigned.unwrap_or(0),
        session: session.map_or(0, |session| session.id),
        session_confirmed: session.is_some_and(|session| session.confirmed_term == state.applied().term),
        block_height: front.tip.map_or(0, |tip| tip.height),
        synced: front.tip.is_some_and(|tip| tip.synced),
        height_flagged: front.height_flagged,
        held_htlcs: state.held_count(&front.node),
        unresolved_htlcs: u64::try_from(unresolved).unwrap_or(u64::MAX),
        link_state: link.map_or_else(String::new, LinkStatus::text),
        healthy: state.healthy_front_nodes().any(|healthy| healthy.node == front.node),
        disabled: state.front_node_mode(&front.node) == FrontNodeMode::Disabled,
    }
}

/// By lower-case name; every state is there.
pub(crate) fn invoices_by_state(state: &State) -> HashMap<String, u64> {
    use InvoiceState as S;
    let all = [S::Open, S::Accepted, S::Settling, S::Settled, S::Partial, S::Canceled, S::Expired];
    let counts = state.invoice_counts();
    all.iter().map(|s| (format!("{s:?}").to_lowercase(), counts.get(s).copied().unwrap_or(0))).collect()
}

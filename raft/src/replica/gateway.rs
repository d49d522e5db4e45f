use super::core::Core;
use super::member_wire;
use super::propose::{Attempt, decode_request};
use crate::consensus::Committed;
use crate::network::{Guard, May};
use crate::trace::{self, TraceContext};
use crate::trace_step;
use mux_proto::mux::raft::v1 as pb;
use mux_proto::mux::raft::v1::leader_gateway_server::LeaderGateway;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

/// What replicas ask of each other beside Raft.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    pub(crate) core: Arc<Core>,
    pub(crate) guard: Guard,
}

#[tonic::async_trait]
impl LeaderGateway for Gateway {
    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeResponse>, Status> {
        use pb::propose_response::{NotLeader, Outcome, Unknown};
        let caller = self.guard.caller(&request);
        let traced = request.metadata().get(trace::HEADER).and_then(|header| header.to_str().ok());
        let traced = traced.and_then(TraceContext::parse);
        let message = request.into_inner();
        let source = self.guard.check(message.header.as_ref(), &caller)?;
        let (request_id, command) = decode_request(&message.request).ok_or_else(|| {
            Status::invalid_argument("the leader does not know this command; its version may be older")
        })?;
        let asked = Duration::from_millis(u64::from(message.timeout_ms));
        let deadline = Instant::now() + asked.min(self.core.timing.propose);
        let span = tracing::debug_span!("forwarded_proposal", replica = source);
        let context = traced.map(|traced| trace::begin(&span, Some(traced)));
        let proposing = trace::scope(context, self.core.propose_here(&command, request_id, deadline));
        let attempt = proposing.instrument(span).await;
        if let Attempt::Committed(Committed { at, .. }) = &attempt {
            let (term, index) = (at.term, at.index);
            trace_step!(context, replica = source, term, index, "committed a proposal of another replica");
        }
        let outcome = match attempt {
            Attempt::Committed(committed) => match postcard::to_stdvec(&committed.reply) {
                Ok(reply) => Outcome::Committed(pb::propose_response::Committed {
                    index: committed.at.index,
                    term: committed.at.term,
                    reply: reply.into(),
                }),
                Err(error) => Outcome::Unknown(Unknown { reason: error.to_string() }),
            },
            Attempt::NotLeader { leader, reason } => {
                Outcome::NotLeader(NotLeader { leader: leader.unwrap_or(0), reason })
            }
            Attempt::Refused(reason) => return Err(Status::out_of_range(reason)),
            Attempt::Unknown(reason) => Outcome::Unknown(Unknown { reason }),
        };
        Ok(Response::new(pb::ProposeResponse { outcome: Some(outcome) }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        use pb::read_index_response::Outcome;
        let caller = self.guard.caller(&request);
        self.guard.check(request.into_inner().header.as_ref(), &caller)?;
        let deadline = Instant::now() + self.core.timing.election_max * 2;
        let outcome = match self.core.read_index_here(deadline).await {
            Ok(index) => Outcome::Index(index),
            Err(failure) => Outcome::Unavailable(failure.reason),
        };
        Ok(Response::new(pb::ReadIndexResponse { outcome: Some(outcome) }))
    }

    async fn hand_over(
        &self,
        request: Request<pb::HandOverRequest>,
    ) -> Result<Response<pb::HandOverResponse>, Status> {
        use pb::hand_over_response::Outcome;
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        self.guard.check(message.header.as_ref(), &caller)?;
        let target = Some(message.target).filter(|target| *target != 0);
        let outcome = match self.core.hand_over_here(target).await {
            Ok(leader) => Outcome::Leader(leader),
            Err(error) => Outcome::Unavailable(error.to_string()),
        };
        Ok(Response::new(pb::HandOverResponse { outcome: Some(outcome) }))
    }

    async fn change_members(
        &self,
        request: Request<pb::ChangeMembersRequest>,
    ) -> Result<Response<pb::ChangeMembersResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        self.guard.check(message.header.as_ref(), &caller)?;
        let change = member_wire::change_from_pb(message).ok_or_else(|| {
            Status::invalid_argument("the leader does not know this change; it may be older")
        })?;
        let outcome = self.core.change_here(&change).await;
        Ok(Response::new(member_wire::outcome_to_pb(outcome)))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        let caller = self.guard.caller(&request);
        self.guard.check(request.into_inner().header.as_ref(), &caller)?;
        let leads = self.core.status.borrow().leads;
        let members = if leads { self.core.member_views() } else { Vec::new() };
        let members = members.into_iter().map(member_wire::view_to_pb).collect();
        Ok(Response::new(pb::ListMembersResponse { leads, members }))
    }

    async fn leaving(
        &self,
        request: Request<pb::LeavingRequest>,
    ) -> Result<Response<pb::LeavingResponse>, Status> {
        let caller = self.guard.caller(&request);
        let source = self.guard.check(request.into_inner().header.as_ref(), &caller)?;
        self.core.leaving.heard(source);
        Ok(Response::new(pb::LeavingResponse {}))
    }

    async fn clock(&self, request: Request<pb::ClockRequest>) -> Result<Response<pb::ClockResponse>, Status> {
        let caller = self.guard.caller(&request);
        self.guard.check(request.into_inner().header.as_ref(), &caller)?;
        Ok(Response::new(pb::ClockResponse { wall_ms: self.core.time.wall_ms() }))
    }

    async fn standing(
        &self,
        request: Request<pb::StandingRequest>,
    ) -> Result<Response<pb::StandingResponse>, Status> {
        let caller = self.guard.caller(&request);
        let source = self.guard.check(request.into_inner().header.as_ref(), &caller)?;
        let stopped = |error: openraft::errors::Fatal<_>| Status::unavailable(error.to_string());
        let initialized = self.core.raft.is_initialized().await.map_err(stopped)?;
        let metrics = self.core.metrics();
        self.core.confirmed.note(&metrics);
        let confirmed = self.core.confirmed_by(source);
        let leads = self.core.status.borrow().leads;
        let member = metrics.membership_config.get_node(&source).is_some();
        let address_of = |id: &u64| Some(metrics.membership_config.get_node(id)?.addr.clone());
        let leader_address = metrics.current_leader.as_ref().and_then(address_of);
        let voters = metrics.membership_config.voter_ids();
        let voter = |id| pb::Voter { id, address: address_of(&id).unwrap_or_default() };
        let voters = voters.map(voter).collect();
        let membership = *metrics.membership_config.log_id();
        let matched = metrics.replication.and_then(|peers| peers.get(&source).copied()).flatten();
        Ok(Response::new(pb::StandingResponse {
            initialized,
            leads,
            knows_your_log: matched.is_some(),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            feature_level_max: u32::from(self.core.roster.feature_level_max()),
            version: env!("CARGO_PKG_VERSION").into(),
            store: self.core.peers.stores().own().0.to_vec().into(),
            confirmed: confirmed.map(|at| pb::LogId { term: at.term, index: at.index }),
            not_a_member: leads && !member,
            retired: !member && self.core.retired().contains(&source),
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            leader_address: leader_address.unwrap_or_default(),
            voters,
            cannot_vote: self.core.clearance.get() != May::Vote,
            membership: membership.map(|at| pb::LogId { term: at.leader_id.term, index: at.index }),
        }))
    }

    async fn compare_states(
        &self,
        request: Request<pb::CompareStatesRequest>,
    ) -> Result<Response<pb::CompareStatesResponse>, Status> {
        let caller = self.guard.caller(&request);
        let message = request.into_inner();
        let source = self.guard.check(message.header.as_ref(), &caller)?;
        let theirs = message.state_hash.as_ref().try_into().ok();
        let own = self.core.compare_here(source, (message.index, theirs), message.judged).await;
        let state_hash = own.map_or_else(Default::default, |own| own.to_vec().into());
        Ok(Response::new(pb::CompareStatesResponse { state_hash }))
    }
}

//! Ending this replica in order, on an operator's word.

use super::context::Context;
use super::error::ApiError;
use mux_proto::mux::v1 as proto;
use mux_raft::members::judge_drain;
use mux_raft::types::ReplicaId;
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::{Response, Status};

/// What a drain may be told to take, seconds. Less would leave no time for closing the stores.
const TIMEOUT_SECS: RangeInclusive<u32> = 5..=3_600;

/// If nothing else is said.
const TIMEOUT_SECS_DEFAULT: u32 = 30;

/// For whoever ends this replica.
#[derive(Debug)]
pub struct DrainOrder {
    /// How long all of it may take.
    pub timeout: Duration,
    /// Takes the report, before the API ends.
    pub report: oneshot::Sender<DrainReport>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Who leads now.
    pub leader: Option<ReplicaId>,
    /// What was left to do when the time was over.
    pub not_done: Vec<String>,
}

/// `mux.v1.ClusterService/Drain`
pub(super) async fn drain(
    context: &Context,
    request: proto::DrainRequest,
) -> Result<Response<proto::DrainResponse>, Status> {
    let seconds = if request.timeout_secs == 0 { TIMEOUT_SECS_DEFAULT } else { request.timeout_secs };
    if !TIMEOUT_SECS.contains(&seconds) {
        let (least, most) = (TIMEOUT_SECS.start(), TIMEOUT_SECS.end());
        return Err(ApiError::Invalid(format!("a drain takes {least} to {most} seconds")).into());
    }
    let me = context.consensus.status().borrow().id;
    let warnings = match context.consensus.members().await {
        Ok(members) => judge_drain(&members, me, request.force).map_err(ApiError::from)?,
        Err(error) if request.force => vec![format!("drained without a word of the leader ({error})")],
        Err(error) => {
            let text = format!(
                "nobody can tell whether the cluster can do without replica {me} ({error}); try again, or repeat \
                 with --force"
            );
            return Err(ApiError::Unavailable(text).into());
        }
    };
    let (report_to, report) = oneshot::channel();
    let order = DrainOrder { timeout: Duration::from_secs(seconds.into()), report: report_to };
    let taken = context.drains.get().is_some_and(|orders| orders.try_send(order).is_ok());
    if !taken {
        return Err(ApiError::Unavailable(format!("replica {me} is about to stop already")).into());
    }
    let report = report.await.map_err(|_| ApiError::Internal(format!("replica {me} stopped at once")))?;
    Ok(Response::new(proto::DrainResponse {
        replica_id: me,
        leader: report.leader.unwrap_or(0),
        not_done: report.not_done,
        warnings,
    }))
}

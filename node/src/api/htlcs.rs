//! HTLCs: looking at them, and an operator's word on those whose end LND can no longer tell.

use super::cancel_invoice::payment_hash;
use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use super::view;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::Command;
use mux_raft::machine::model::Htlc;
use mux_raft::types::{CircuitKey, NodePubkey};
use tonic::{Request, Response, Status};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// `mux.v1.ClusterService/ListHtlcs`
pub(super) async fn list_htlcs(
    context: &Context,
    request: proto::ListHtlcsRequest,
) -> Result<Response<proto::ListHtlcsResponse>, Status> {
    let only = if request.hash.is_empty() { None } else { Some(payment_hash(&request.hash)?) };
    let limit = match usize::try_from(request.limit).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        limit => limit.min(PAGE_MAX),
    };
    context.barrier(proto::Consistency::Unspecified.into()).await?;
    let is_wanted = |htlc: &&Htlc| {
        only.is_none_or(|hash| hash == htlc.hash) && !(request.only_unresolved && htlc.final_state.is_final())
    };
    let mut htlcs: Vec<Htlc> = context.read(|state| {
        let all = state.all_front_nodes().flat_map(|front| state.htlcs_of(&front.node));
        all.filter(is_wanted).take(limit).cloned().collect()
    });
    if let Some(hash) = only {
        // Those of a finished invoice are in the archive.
        let found = context.find_invoice(hash).await?.map(|found| found.htlcs).unwrap_or_default();
        let archived = found.into_iter().filter(|htlc| is_wanted(&htlc));
        for htlc in archived {
            if !htlcs.iter().any(|known| known.key == htlc.key) {
                htlcs.push(htlc);
            }
        }
        htlcs.truncate(limit);
    }
    let htlcs = htlcs.iter().map(view::htlc).collect();
    Ok(Response::new(proto::ListHtlcsResponse { htlcs }))
}

/// `mux.v1.ClusterService/ResolveHtlc`
pub(super) async fn resolve_htlc(
    context: &Context,
    request: Request<proto::ResolveHtlcRequest>,
) -> Result<Response<proto::ResolveHtlcResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let node = NodePubkey::try_from(request.front_node.as_ref())
        .map_err(|error| ApiError::Invalid(format!("front_node: {error}")))?;
    let settled = match request.resolution() {
        proto::HtlcResolution::Settled => true,
        proto::HtlcResolution::Lost => false,
        proto::HtlcResolution::Unspecified => {
            return Err(ApiError::Invalid("say whether it was settled or lost".into()).into());
        }
    };
    let key = CircuitKey { node, chan_id: request.chan_id, htlc_id: request.htlc_id };
    context.submit(Command::ResolveHtlc { key, settled }, fresh_request(), deadline).await?;
    tracing::warn!(circuit_key = %key, settled, "an operator resolved an HTLC");
    Ok(Response::new(proto::ResolveHtlcResponse {}))
}

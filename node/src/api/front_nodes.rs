//! Front nodes at run time: list, add, disable, remove.

use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use super::view;
use crate::config::ALIAS_LEN_MAX;
use crate::link::{LinkStatus, from_log};
use crate::lnd::{self, PinnedCertificates};
use crate::server::settings::policy_version;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::model::{
    ACCEPT_SLACK_BLOCKS, FrontNode, FrontNodeAccess, FrontNodeEndpoint, FrontNodeMode, FrontNodePolicy,
    InvoiceState, LND_INTERCEPT_DELTA, MIN_FINAL_SLACK_BLOCKS, Settings,
};
use mux_raft::machine::{Command, State};
use mux_raft::types::NodePubkey;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// Most endpoints of one node.
const ENDPOINTS_MAX: usize = 8;

/// BOLT 11 hints of nodes that do not say otherwise.
const CLTV_DELTA_DEFAULT: u16 = 80;

/// How long looking at a node may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(8);

/// `mux.v1.ClusterService/ListFrontNodes`: what the asked replica knows, quorum or not.
pub(super) fn list_front_nodes(context: &Context) -> Response<proto::ListFrontNodesResponse> {
    let links = (context.links)();
    let front_nodes =
        context.read(|state| state.front_nodes().map(|front| info(context, state, &links, front)).collect());
    Response::new(proto::ListFrontNodesResponse { front_nodes })
}

/// `mux.v1.ClusterService/AddFrontNode`
pub(super) async fn add_front_node(
    context: &Context,
    request: Request<proto::AddFrontNodeRequest>,
) -> Result<Response<proto::AddFrontNodeResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let node = pubkey(&request.pub_key)?;
    let access = access(&request)?;
    let cltv_delta = cltv_delta(context, request.cltv_delta)?;
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    let policy = context.read(|state| {
        let version = policy_version(request.fee_base_msat, request.fee_ppm, cltv_delta);
        let taken =
            |scid| state.all_front_nodes().any(|other| other.node != node && other.policy_of(scid).is_some());
        let scid = context.keys.virtual_scid(&node, version, &taken);
        FrontNodePolicy { scid, fee_base_msat: request.fee_base_msat, fee_ppm: request.fee_ppm, cltv_delta }
    });
    let known = context.read(|state| state.front_node(&node).is_some());
    if known && context.config.front_nodes.iter().any(|front| front.pubkey == node) {
        let why = "this front node is in the configuration of the replica asked, which wins: change it there, on every \
                   replica, and restart them one by one";
        return Err(ApiError::Precondition(why.into()).into());
    }
    if !request.no_check {
        check(context, node, &request.alias, (policy, &access)).await?;
    }
    let command = Command::PutFrontNodeAccess { node, alias: request.alias.clone(), policy, access };
    context.submit(command, fresh_request(), deadline).await?;
    tracing::info!(front_node = request.alias, "front node added");
    Ok(Response::new(proto::AddFrontNodeResponse { front_node: find(context, &node) }))
}

/// `mux.v1.ClusterService/SetFrontNodeMode`
pub(super) async fn set_front_node_mode(
    context: &Context,
    request: Request<proto::SetFrontNodeModeRequest>,
) -> Result<Response<proto::SetFrontNodeModeResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let node = pubkey(&request.pub_key)?;
    let disabled = match request.mode() {
        proto::FrontNodeMode::Active => false,
        proto::FrontNodeMode::Disabled => true,
        proto::FrontNodeMode::Unspecified => return Err(ApiError::Invalid("no mode is given".into()).into()),
    };
    context.submit(Command::SetFrontNodeDisabled { node, disabled }, fresh_request(), deadline).await?;
    tracing::info!(front_node = %node.short(), disabled, "front node changed");
    Ok(Response::new(proto::SetFrontNodeModeResponse { front_node: find(context, &node) }))
}

/// `mux.v1.ClusterService/RemoveFrontNode`
pub(super) async fn remove_front_node(
    context: &Context,
    request: Request<proto::RemoveFrontNodeRequest>,
) -> Result<Response<proto::RemoveFrontNodeResponse>, Status> {
    let deadline = deadline(request.metadata());
    let request = request.into_inner();
    let node = pubkey(&request.pub_key)?;
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    let unresolved = context.read(|state| state.unresolved_htlcs(&node).count());
    if unresolved > 0 && !request.force {
        let why = format!(
            "the end of {unresolved} HTLCs at this node is not known yet: disable it and wait until there are none \
             (`muxcli htlc list --unresolved`), or use --force, which gives up what they carry"
        );
        return Err(ApiError::Precondition(why).into());
    }
    let command = Command::RemoveFrontNode { node, force: request.force };
    context.submit(command, fresh_request(), deadline).await?;
    let open = context.read(|state| state.invoice_counts().get(&InvoiceState::Open).copied().unwrap_or(0));
    tracing::info!(front_node = %node.short(), force = request.force, unresolved, open_invoices = open, "front node removed");
    Ok(Response::new(proto::RemoveFrontNodeResponse { open_invoices: open }))
}

fn pubkey(bytes: &[u8]) -> Result<NodePubkey, ApiError> {
    let node = NodePubkey::try_from(bytes).map_err(|error| ApiError::Invalid(format!("pub_key: {error}")))?;
    secp256k1::PublicKey::from_slice(&node.0)
        .map_err(|_| ApiError::Invalid("pub_key: it is no point of the curve".into()))?;
    Ok(node)
}

fn access(request: &proto::AddFrontNodeRequest) -> Result<FrontNodeAccess, ApiError> {
    let invalid = |why: String| Err(ApiError::Invalid(why));
    if request.alias.is_empty() || request.alias.len() > ALIAS_LEN_MAX {
        return invalid(format!("alias: use 1 to {ALIAS_LEN_MAX} bytes"));
    }
    if request.endpoints.is_empty() || request.endpoints.len() > ENDPOINTS_MAX {
        return invalid(format!("endpoints: give 1 to {ENDPOINTS_MAX}"));
    }
    if request.macaroon_path.is_empty() {
        return invalid("macaroon_path: it is missing".into());
    }
    let mut endpoints = Vec::new();
    for endpoint in &request.endpoints {
        let address = endpoint.address.rsplit_once(':');
        if !address
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            return invalid(format!("endpoint {:?} is no host:port", endpoint.address));
        }
        if let Err(error) = PinnedCertificates::from_pem(endpoint.tls_cert.as_bytes()) {
            return invalid(format!("the certificate of {} cannot be used: it {error}", endpoint.address));
        }
        endpoints.push(FrontNodeEndpoint {
            address: endpoint.address.clone(),
            tls_cert: endpoint.tls_cert.clone(),
        });
    }
    Ok(FrontNodeAccess { endpoints, macaroon: request.macaroon_path.clone(), zone: request.zone.clone() })
}

/// Below a bound HTLCs would be refused on arrival for having too few blocks left.
fn cltv_delta(context: &Context, asked: u32) -> Result<u16, ApiError> {
    let delta = if asked == 0 { Ok(CLTV_DELTA_DEFAULT) } else { u16::try_from(asked) };
    let delta = delta.map_err(|_| ApiError::Invalid(format!("cltv_delta: {asked} blocks are too many")))?;
    let needed = LND_INTERCEPT_DELTA + Settings::default().margin_blocks + ACCEPT_SLACK_BLOCKS;
    let given = u32::from(delta) + u32::from(context.config.invoices.min_final_cltv);
    if given < needed + 2 * MIN_FINAL_SLACK_BLOCKS {
        return Err(ApiError::Invalid(format!("cltv_delta: {delta} blocks are too few; 80 is the default")));
    }
    Ok(delta)
}

/// Connects as a link would, through the same gate.
async fn check(
    context: &Context,
    node: NodePubkey,
    alias: &str,
    (policy, access): (FrontNodePolicy, &FrontNodeAccess),
) -> Result<(), ApiError> {
    let front = FrontNode {
        node,
        alias: alias.to_owned(),
        policy,
        former_policies: Vec::new(),
        assigned: None,
        assigned_at_ms: 0,
        last_session: 0,
        session: None,
        tip: None,
        height_flagged: false,
    };
    let config = from_log(&front, access, &context.config.dir);
    let dialer = lnd::Dialer::new(config, context.config.network.name(), Arc::clone(&context.wiring.lnd));
    let connected = dialer.connect();
    let id = context.consensus.status().borrow().id;
    let why = match tokio::time::timeout(CHECK_DEADLINE, Box::pin(connected)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CHECK_DEADLINE.as_secs()),
    };
    Err(ApiError::Precondition(format!(
        "replica {id} cannot use this node: {why} (--no-check adds it all the same)"
    )))
}

fn find(context: &Context, node: &NodePubkey) -> Option<proto::FrontNodeInfo> {
    let links = (context.links)();
    context.read(|state| state.front_node(node).map(|front| info(context, state, &links, front)))
}

fn info(context: &Context, state: &State, links: &[LinkStatus], front: &FrontNode) -> proto::FrontNodeInfo {
    let own = context.config.front_nodes.iter().find(|own| own.pubkey == front.node);
    let logged = state.front_node_access(&front.node);
    let endpoint = |address: &String, tls_cert: &str| proto::FrontNodeEndpoint {
        address: address.clone(),
        tls_cert: tls_cert.to_owned(),
    };
    let (endpoints, macaroon_path, zone) = match (own, logged) {
        (Some(own), _) => (
            own.endpoints.iter().map(|known| endpoint(&known.address, "")).collect(),
            own.macaroon.display().to_string(),
            own.zone.clone(),
        ),
        (None, Some(access)) => (
            access.endpoints.iter().map(|known| endpoint(&known.address, &known.tls_cert)).collect(),
            access.macaroon.clone(),
            access.zone.clone(),
        ),
        (None, None) => (Vec::new(), String::new(), String::new()),
    };
    let unresolved = state.unresolved_htlcs(&front.node).count();
    proto::FrontNodeInfo {
        pub_key: view::bytes(&front.node.0),
        alias: front.alias.clone(),
        disabled: state.front_node_mode(&front.node) == FrontNodeMode::Disabled,
        from_configuration: own.is_some(),
        endpoints,
        macaroon_path,
        zone,
        scid: front.policy.scid,
        fee_base_msat: front.policy.fee_base_msat,
        fee_ppm: front.policy.fee_ppm,
        cltv_delta: front.policy.cltv_delta.into(),
        assigned_replica: front.assigned.unwrap_or(0),
        unresolved_htlcs: u64::try_from(unresolved).unwrap_or(u64::MAX),
        healthy: state.healthy_front_nodes().any(|healthy| healthy.node == front.node),
        link_state: links
            .iter()
            .find(|link| link.node == front.node)
            .map_or_else(String::new, LinkStatus::text),
    }
}

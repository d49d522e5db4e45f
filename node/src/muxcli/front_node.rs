//! `muxcli front-node …`.

use super::args::{AddFrontNodeArgs, FrontNodeCommand};
use super::connect::Client;
use super::failure::Failure;
use super::htlc::pubkey;
use super::output::{health, json, short, table};
use mux_proto::mux::v1::{
    AddFrontNodeRequest, FrontNodeEndpoint, FrontNodeInfo, FrontNodeMode, ListFrontNodesRequest,
    RemoveFrontNodeRequest, SetFrontNodeModeRequest,
};
use serde_json::{Value, json as value};
use std::path::Path;

/// A replica knows what it reaches itself, so each has to be asked.
const WHO_COULD: &str = "\nLINK HERE is what the asked replica sees. Another one could take a link over if it says \"standby\" when it is \
                         asked itself.\n";

pub(super) async fn run(
    client: &mut Client,
    command: FrontNodeCommand,
    as_json: bool,
) -> Result<String, Failure> {
    match command {
        FrontNodeCommand::List => list(client, as_json).await,
        FrontNodeCommand::Add(args) => add(client, *args, as_json).await,
        FrontNodeCommand::Disable { node } => set_mode(client, &node, FrontNodeMode::Disabled, as_json).await,
        FrontNodeCommand::Enable { node } => set_mode(client, &node, FrontNodeMode::Active, as_json).await,
        FrontNodeCommand::Remove { node, force } => remove(client, &node, force, as_json).await,
    }
}

async fn list(client: &mut Client, as_json: bool) -> Result<String, Failure> {
    let request = client.request(ListFrontNodesRequest {});
    let answer = client.cluster().list_front_nodes(request).await.map_err(Failure::of_read)?.into_inner();
    Ok(if as_json {
        json(&value!({ "front_nodes": answer.front_nodes.iter().map(to_json).collect::<Vec<_>>() }))
    } else if answer.front_nodes.is_empty() {
        "No front node is registered.\n".to_owned()
    } else {
        to_table(&answer.front_nodes)
    })
}

async fn add(client: &mut Client, args: AddFrontNodeArgs, as_json: bool) -> Result<String, Failure> {
    let certs = args.lnd_cert.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    if certs.len() != 1 && certs.len() != args.endpoint.len() {
        let wrong = "--lnd-cert: give one certificate for all endpoints, or one for each";
        return Err(Failure::Usage(wrong.into()));
    }
    let certs = certs.iter().cycle();
    let endpoints = args.endpoint.into_iter().zip(certs);
    let request = client.request(AddFrontNodeRequest {
        pub_key: args.pubkey.0.to_vec().into(),
        alias: args.alias,
        endpoints: endpoints
            .map(|(address, tls_cert)| FrontNodeEndpoint { address, tls_cert: tls_cert.clone() })
            .collect(),
        macaroon_path: args.lnd_macaroon,
        zone: args.zone,
        fee_base_msat: args.fee_base_msat,
        fee_ppm: args.fee_ppm,
        cltv_delta: args.cltv_delta.into(),
        no_check: args.no_check,
    });
    let answer = client.cluster().add_front_node(request).await.map_err(Failure::of_write)?.into_inner();
    let node = answer.front_node.unwrap_or_default();
    Ok(if as_json { json(&to_json(&node)) } else { format!("front node {} is added\n", node.alias) })
}

async fn set_mode(
    client: &mut Client,
    node: &str,
    mode: FrontNodeMode,
    as_json: bool,
) -> Result<String, Failure> {
    let pub_key = pubkey(client, node).await?.0.to_vec().into();
    let request = client.request(SetFrontNodeModeRequest { pub_key, mode: mode.into() });
    let answer = client.cluster().set_front_node_mode(request).await.map_err(Failure::of_write)?.into_inner();
    let node = answer.front_node.unwrap_or_default();
    let now = if node.disabled { "disabled: no new invoice names it" } else { "enabled" };
    Ok(if as_json { json(&to_json(&node)) } else { format!("front node {} is {now}\n", node.alias) })
}

async fn remove(client: &mut Client, node: &str, force: bool, as_json: bool) -> Result<String, Failure> {
    let pub_key = pubkey(client, node).await?.0.to_vec().into();
    let request = client.request(RemoveFrontNodeRequest { pub_key, force });
    let answer = client.cluster().remove_front_node(request).await.map_err(Failure::of_write)?.into_inner();
    let open = answer.open_invoices;
    Ok(if as_json {
        json(&value!({ "removed": true, "open_invoices": open }))
    } else if open == 0 {
        format!("front node {node} is removed\n")
    } else {
        format!(
            "front node {node} is removed; up to {open} open invoices name it and cannot be paid over it any more\n"
        )
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("--lnd-cert {}: {error}", path.display())))
}

fn to_table(nodes: &[FrontNodeInfo]) -> String {
    let header =
        ["FRONT NODE", "PUBKEY", "HEALTHY", "REPLICA", "UNRESOLVED", "ACCESS BY", "ENDPOINTS", "LINK HERE"];
    table(&header, nodes.iter().map(row)) + WHO_COULD
}

fn row(node: &FrontNodeInfo) -> Vec<String> {
    let endpoints: Vec<&str> = node.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
    let source = match (node.from_configuration, endpoints.is_empty()) {
        (true, _) => "configuration",
        (false, false) => "log",
        (false, true) => "other replicas",
    };
    vec![
        node.alias.clone(),
        short(&node.pub_key),
        health(node.healthy, node.disabled),
        if node.assigned_replica == 0 { "-".to_owned() } else { node.assigned_replica.to_string() },
        node.unresolved_htlcs.to_string(),
        source.to_owned(),
        if endpoints.is_empty() { "-".to_owned() } else { endpoints.join(",") },
        if node.link_state.is_empty() { "-".to_owned() } else { node.link_state.clone() },
    ]
}

fn to_json(node: &FrontNodeInfo) -> Value {
    value!({
        "pub_key": hex::encode(&node.pub_key),
        "alias": node.alias,
        "disabled": node.disabled,
        "healthy": node.healthy,
        "from_configuration": node.from_configuration,
        "endpoints": node.endpoints.iter().map(|endpoint| endpoint.address.clone()).collect::<Vec<_>>(),
        "macaroon_path": node.macaroon_path,
        "zone": node.zone,
        "scid": node.scid,
        "fee_base_msat": node.fee_base_msat,
        "fee_ppm": node.fee_ppm,
        "cltv_delta": node.cltv_delta,
        "assigned_replica": node.assigned_replica,
        "unresolved_htlcs": node.unresolved_htlcs,
        "link_state": node.link_state,
    })
}

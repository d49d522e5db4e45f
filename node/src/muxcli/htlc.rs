//! `muxcli htlc …`.

use super::amount::format_amount;
use super::args::{HtlcCommand, Outcome};
use super::connect::Client;
use super::failure::Failure;
use super::output::{json, short, table, yes};
use mux_proto::mux::v1::{GetStatusRequest, HtlcInfo, HtlcResolution, ListHtlcsRequest, ResolveHtlcRequest};
use mux_raft::types::NodePubkey;
use serde_json::{Value, json as value};

pub(super) async fn run(client: &mut Client, command: HtlcCommand, as_json: bool) -> Result<String, Failure> {
    match command {
        HtlcCommand::List { hash, unresolved, limit } => {
            let hash = hash.map_or_else(Default::default, |hash| hash.0.to_vec().into());
            let request = client.request(ListHtlcsRequest { hash, only_unresolved: unresolved, limit });
            let answer = client.cluster().list_htlcs(request).await.map_err(Failure::of_read)?.into_inner();
            Ok(if as_json {
                json(&value!({ "htlcs": answer.htlcs.iter().map(to_json).collect::<Vec<_>>() }))
            } else {
                to_table(&answer.htlcs)
            })
        }
        HtlcCommand::Resolve { node, chan_id, htlc_id, outcome } => {
            let resolution = match outcome {
                Outcome::Settled => HtlcResolution::Settled,
                Outcome::Lost => HtlcResolution::Lost,
            };
            let front_node = pubkey(client, &node).await?.0.to_vec().into();
            let message = ResolveHtlcRequest { front_node, chan_id, htlc_id, resolution: resolution.into() };
            let request = client.request(message);
            client.cluster().resolve_htlc(request).await.map_err(Failure::of_write)?;
            Ok(if as_json { json(&value!({ "resolved": true })) } else { "resolved\n".to_owned() })
        }
    }
}

/// By key, or by alias if the cluster has one of that name.
pub(super) async fn pubkey(client: &Client, node: &str) -> Result<NodePubkey, Failure> {
    if let Ok(pubkey) = node.parse() {
        return Ok(pubkey);
    }
    let request = client.request(GetStatusRequest {});
    let status = client.cluster().get_status(request).await.map_err(Failure::of_read)?.into_inner();
    let found = status.front_nodes.iter().find(|front| front.alias == node);
    found
        .and_then(|front| NodePubkey::try_from(front.pub_key.as_ref()).ok())
        .ok_or_else(|| Failure::Usage(format!("--node {node}: no front node has this alias or public key")))
}

/// Also shown with an invoice.
pub(super) fn to_table(htlcs: &[HtlcInfo]) -> String {
    if htlcs.is_empty() {
        return "No HTLCs.\n".to_owned();
    }
    let header =
        ["FRONT NODE", "CHANNEL", "HTLC", "INVOICE", "AMOUNT", "EXPIRY", "VERDICT", "END", "ON CHAIN"];
    table(&header, htlcs.iter().map(row))
}

fn row(htlc: &HtlcInfo) -> Vec<String> {
    vec![
        short(&htlc.front_node),
        htlc.chan_id.to_string(),
        htlc.htlc_id.to_string(),
        short(&htlc.hash),
        format_amount(htlc.outgoing_amount_msat),
        format!("block {}", htlc.incoming_expiry),
        htlc.verdict.clone(),
        htlc.r#final.clone(),
        yes(htlc.on_chain),
    ]
}

pub(super) fn to_json(htlc: &HtlcInfo) -> Value {
    value!({
        "front_node": hex::encode(&htlc.front_node),
        "chan_id": htlc.chan_id,
        "htlc_id": htlc.htlc_id,
        "hash": hex::encode(&htlc.hash),
        "outgoing_amount_msat": htlc.outgoing_amount_msat,
        "incoming_amount_msat": htlc.incoming_amount_msat,
        "incoming_expiry": htlc.incoming_expiry,
        "verdict": htlc.verdict,
        "final": htlc.r#final,
        "on_chain": htlc.on_chain,
        "session": htlc.session,
    })
}

//! `muxcli status` and `muxcli transfer-leader`.

use super::connect::Client;
use super::failure::Failure;
use super::output::{health, json, pairs, table};
use super::time::format_ms;
use mux_proto::mux::v1::{
    FrontNodeStatus, GetStatusRequest, GetStatusResponse, Member, RestorationStatus, TransferLeaderRequest,
};
use serde_json::{Value, json as value};
use std::collections::BTreeMap;

pub(super) async fn status(client: &mut Client, as_json: bool) -> Result<String, Failure> {
    let request = client.request(GetStatusRequest {});
    let status = client.cluster().get_status(request).await.map_err(Failure::of_read)?.into_inner();
    Ok(if as_json { json(&to_json(&status)) } else { to_text(&status) })
}

pub(super) async fn transfer_leader(
    client: &mut Client,
    target: Option<u64>,
    as_json: bool,
) -> Result<String, Failure> {
    let request = client.request(TransferLeaderRequest { target: target.unwrap_or(0) });
    let answer = client.cluster().transfer_leader(request).await.map_err(Failure::of_write)?.into_inner();
    Ok(if as_json {
        json(&value!({ "leader": answer.leader }))
    } else {
        format!("replica {} leads\n", answer.leader)
    })
}

fn to_text(status: &GetStatusResponse) -> String {
    let leader = match status.leader {
        0 => "nobody".to_owned(),
        leader => format!("replica {leader}, term {}", status.term),
    };
    let head = pairs([
        ("Cluster", format!("{} ({})", status.cluster_name, status.network)),
        ("Node", hex::encode(&status.pub_key)),
        ("Asked", format!("replica {}, version {}", status.replica_id, status.version)),
        ("Leader", leader),
        ("Quorum", if status.quorum { "in contact" } else { "NOT IN CONTACT" }.to_owned()),
        ("Log", format!("applied {} of {}", status.applied_index, status.commit_index)),
        ("Level", feature_level(status)),
        ("Log time", format_ms(status.log_time_ms)),
        ("Invoices", counts(status)),
        ("Settle", settle_mode(status).to_owned()),
    ]);
    let head = head + &restoration(status);
    let members =
        table(&["REPLICA", "ADDRESS", "ROLE", "LAG", "VERSION"], status.members.iter().map(member_row));
    let mut text = format!("{head}\n{members}");
    if status.front_nodes.is_empty() {
        text.push_str("\nNo front node is registered.\n");
    } else {
        let header =
            ["FRONT NODE", "HEALTHY", "REPLICA", "SESSION", "HEIGHT", "HELD", "UNRESOLVED", "LINK HERE"];
        text.push('\n');
        text.push_str(&table(&header, status.front_nodes.iter().map(node_row)));
    }
    text
}

/// Only of a cluster that was restored from a backup.
fn restoration(status: &GetStatusResponse) -> String {
    let Some(restored) = &status.restoration else { return String::new() };
    let mut text = format!(
        "\nRestored from a backup of entry {}, log time {}: {} HTLCs were in doubt, {} still are, {} differ, {} given up\n",
        restored.backup_index,
        format_ms(restored.backup_log_time_ms),
        restored.asked,
        restored.in_doubt.len(),
        restored.differences.len(),
        restored.given_up.len(),
    );
    for htlc in &restored.in_doubt {
        text.push_str(&format!("  in doubt  {htlc}\n"));
    }
    for difference in &restored.differences {
        text.push_str(&format!("  differs   {}: {}\n", difference.htlc, difference.what));
    }
    for htlc in &restored.given_up {
        text.push_str(&format!("  given up  {htlc}\n"));
    }
    text
}

fn settle_mode(status: &GetStatusResponse) -> &'static str {
    match status.settings.as_ref().and_then(|settings| settings.auto_settle) {
        Some(true) => "complete sets at once",
        Some(false) => "when an application says so",
        None => "unknown",
    }
}

fn counts(status: &GetStatusResponse) -> String {
    const ORDER: [&str; 7] = ["open", "accepted", "settling", "settled", "partial", "canceled", "expired"];
    let count = |state: &str| status.invoices_by_state.get(state).copied().unwrap_or(0);
    ORDER.map(|state| format!("{} {state}", count(state))).join(", ")
}

fn member_row(member: &Member) -> Vec<String> {
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "follower",
        (false, false) => "learner",
    };
    let lag = member.lag_entries.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
    let version = match (member.feature_level_max, member.version.as_str()) {
        (0, _) => "-",
        (_, "") => "before 0.2.0",
        (_, version) => version,
    };
    vec![member.id.to_string(), member.address.clone(), role.to_owned(), lag, version.to_owned()]
}

/// With the members that keep it from rising.
fn feature_level(status: &GetStatusResponse) -> String {
    let level = status.feature_level;
    let newest = status.members.iter().map(|member| member.feature_level_max).max().unwrap_or(0);
    let old = |member: &&Member| member.feature_level_max != 0 && member.feature_level_max < newest;
    let old: Vec<String> = status.members.iter().filter(old).map(|member| member.id.to_string()).collect();
    if newest <= level || old.is_empty() {
        return level.to_string();
    }
    format!("{level}; rises to {newest} when replica {} is upgraded", old.join(", "))
}

fn node_row(node: &FrontNodeStatus) -> Vec<String> {
    let dash_0 = |number: u64| if number == 0 { "-".to_owned() } else { number.to_string() };
    let session = match (node.session, node.session_confirmed) {
        (0, _) => "-".to_owned(),
        (session, true) => session.to_string(),
        (session, false) => format!("{session} (unconfirmed)"),
    };
    let height = match (node.block_height, node.synced, node.height_flagged) {
        (0, _, _) => "-".to_owned(),
        (height, true, false) => height.to_string(),
        (height, false, _) => format!("{height} (not synced)"),
        (height, true, true) => format!("{height} (implausible)"),
    };
    vec![
        node.alias.clone(),
        health(node.healthy, node.disabled),
        dash_0(node.assigned_replica),
        session,
        height,
        node.held_htlcs.to_string(),
        node.unresolved_htlcs.to_string(),
        node.link_state.clone(),
    ]
}

fn to_json(status: &GetStatusResponse) -> Value {
    let invoices: BTreeMap<_, _> = status.invoices_by_state.iter().collect();
    value!({
        "cluster_id": hex::encode(&status.cluster_id),
        "cluster_name": status.cluster_name,
        "network": status.network,
        "pub_key": hex::encode(&status.pub_key),
        "replica_id": status.replica_id,
        "version": status.version,
        "leader": status.leader,
        "term": status.term,
        "quorum": status.quorum,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "feature_level": status.feature_level,
        "log_time_ms": status.log_time_ms,
        "state_hash": hex::encode(&status.state_hash),
        "event_sequence": status.event_sequence,
        "invoices_by_state": invoices,
        "settings": super::settings::to_json(&status.settings.unwrap_or_default()),
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
        "front_nodes": status.front_nodes.iter().map(node_json).collect::<Vec<_>>(),
        "restoration": status.restoration.as_ref().map(restoration_json),
    })
}

fn restoration_json(restored: &RestorationStatus) -> Value {
    let differences = restored.differences.iter().map(|difference| {
        value!({
            "htlc": difference.htlc,
            "hash": hex::encode(&difference.hash),
            "what": difference.what,
        })
    });
    value!({
        "backup_index": restored.backup_index,
        "backup_log_time_ms": restored.backup_log_time_ms,
        "asked": restored.asked,
        "in_doubt": restored.in_doubt,
        "differences": differences.collect::<Vec<_>>(),
        "given_up": restored.given_up,
    })
}

fn member_json(member: &Member) -> Value {
    value!({
        "id": member.id,
        "address": member.address,
        "voter": member.voter,
        "leader": member.leader,
        "lag_entries": member.lag_entries,
        "version": member.version,
        "feature_level_max": member.feature_level_max,
    })
}

fn node_json(node: &FrontNodeStatus) -> Value {
    value!({
        "pub_key": hex::encode(&node.pub_key),
        "alias": node.alias,
        "scid": node.scid,
        "fee_base_msat": node.fee_base_msat,
        "fee_ppm": node.fee_ppm,
        "cltv_delta": node.cltv_delta,
        "assigned_replica": node.assigned_replica,
        "session": node.session,
        "session_confirmed": node.session_confirmed,
        "block_height": node.block_height,
        "synced": node.synced,
        "height_flagged": node.height_flagged,
        "held_htlcs": node.held_htlcs,
        "unresolved_htlcs": node.unresolved_htlcs,
        "link_state": node.link_state,
        "healthy": node.healthy,
        "disabled": node.disabled,
    })
}

//! `muxcli member`.

use super::args::MemberCommand;
use super::connect::Client;
use super::failure::Failure;
use super::output::{json, note, table};
use mux_proto::mux::v1::{
    AddMemberRequest, ListMembersRequest, MemberInfo, PromoteMemberRequest, RemoveMemberRequest,
};
use serde_json::{Value, json as value};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

/// How long a new replica may take to copy the log, unless --timeout says otherwise.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Longer than the cluster takes for one change.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);

pub(super) async fn run(
    client: &mut Client,
    command: MemberCommand,
    as_json: bool,
) -> Result<String, Failure> {
    match command {
        MemberCommand::List => {
            let members = list(client).await.map_err(Failure::of_read)?;
            Ok(if as_json { json(&to_json(&members)) } else { to_text(&members) })
        }
        MemberCommand::Add { id, address, learner } => {
            let message = AddMemberRequest { id, address, wait_and_promote: false };
            let request = client.request_within(message, CHANGE_TIMEOUT);
            let added = client.cluster().add_member(request).await.map_err(Failure::of_write)?.into_inner();
            if learner {
                return Ok(changed(id, "learns", &added.warnings, as_json));
            }
            let warnings = promote_when_ready(client, id).await?;
            Ok(changed(id, "votes", &warnings, as_json))
        }
        MemberCommand::Promote { id } => {
            let warnings = promote(client, id).await.map_err(Failure::of_write)?;
            Ok(changed(id, "votes", &warnings, as_json))
        }
        MemberCommand::Remove { id, force } => {
            // Not known: whatever is said about it must hold for both.
            let members = list(client).await.unwrap_or_default();
            let is_up = members.iter().find(|member| member.id == id).map(|member| member.reachable);
            let timeout = client.timeout_or(CHANGE_TIMEOUT);
            let request = client.request_within(RemoveMemberRequest { id, force }, timeout);
            let answer =
                client.cluster().remove_member(request).await.map_err(Failure::of_write)?.into_inner();
            if !as_json {
                note(&format!("replica {id} {}; never use its id or its data again", its_end(is_up)));
            }
            Ok(changed(id, "is removed", &answer.warnings, as_json))
        }
    }
}

/// What becomes of the process of a replica that was removed.
fn its_end(is_up: Option<bool>) -> &'static str {
    match is_up {
        Some(true) => "ends by itself within seconds",
        Some(false) => {
            "was not heard from: should it come back, it ends as soon as it reaches one of the others"
        }
        None => "ends by itself, if it runs and reaches one of the others",
    }
}

async fn list(client: &Client) -> Result<Vec<MemberInfo>, Status> {
    let request = client.request(ListMembersRequest {});
    Ok(client.cluster().list_members(request).await?.into_inner().members)
}

async fn promote(client: &Client, id: u64) -> Result<Vec<String>, Status> {
    let timeout = client.timeout_or(CHANGE_TIMEOUT);
    let request = client.request_within(PromoteMemberRequest { id }, timeout);
    Ok(client.cluster().promote_member(request).await?.into_inner().warnings)
}

/// Says how far it is, and promotes it once the leader agrees that it has caught up.
async fn promote_when_ready(client: &Client, id: u64) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + client.timeout_or(CATCH_UP_MAX);
    let mut said = String::new();
    loop {
        let progress = match list(client).await {
            Ok(members) => members.iter().find(|member| member.id == id).map_or_else(
                || "is not a member any more".to_owned(),
                |member| match member.lag_entries {
                    Some(lag) => format!("is {lag} entries behind"),
                    None => "has not begun to copy the log".to_owned(),
                },
            ),
            Err(status) => format!("is being looked for: {}", status.message()),
        };
        if progress != said {
            note(&format!("replica {id} {progress}"));
            said = progress;
        }
        match promote(client, id).await {
            Ok(warnings) => return Ok(warnings),
            Err(status) if status.code() == Code::Unavailable && Instant::now() + LOOK < deadline => {
                sleep(LOOK).await;
            }
            Err(status) if status.code() == Code::Unavailable => {
                return Err(Failure::Unavailable(format!(
                    "replica {id} learns but does not vote yet ({}); go on with: muxcli member promote {id}",
                    status.message()
                )));
            }
            Err(status) => return Err(Failure::of_write(status)),
        }
    }
}

fn changed(id: u64, what: &str, warnings: &[String], as_json: bool) -> String {
    if as_json {
        return json(&value!({ "id": id, "result": what, "warnings": warnings }));
    }
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    format!("replica {id} {what}\n")
}

fn to_text(members: &[MemberInfo]) -> String {
    table(&["REPLICA", "ADDRESS", "ROLE", "STATE", "MATCHED", "LAG", "HEARD"], members.iter().map(row))
}

fn row(member: &MemberInfo) -> Vec<String> {
    let role = match (member.leader, member.voter) {
        (true, _) => "leader",
        (false, true) => "voter",
        (false, false) => "learner",
    };
    let state = match (member.reachable, member.leaving) {
        (true, true) => "leaves",
        (true, false) => "up",
        (false, _) => "SILENT",
    };
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let heard = match member.heard_ms {
        _ if member.leader => "-".to_owned(),
        Some(ms) => format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100),
        None => "never".to_owned(),
    };
    vec![
        member.id.to_string(),
        member.address.clone(),
        role.to_owned(),
        state.to_owned(),
        number(member.matched_index),
        number(member.lag_entries),
        heard,
    ]
}

fn to_json(members: &[MemberInfo]) -> Value {
    let member = |member: &MemberInfo| {
        value!({
            "id": member.id,
            "address": member.address,
            "voter": member.voter,
            "leader": member.leader,
            "reachable": member.reachable,
            "leaving": member.leaving,
            "matched_index": member.matched_index,
            "lag_entries": member.lag_entries,
            "heard_ms": member.heard_ms,
        })
    };
    value!({ "members": members.iter().map(member).collect::<Vec<_>>() })
}

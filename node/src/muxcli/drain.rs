//! `muxcli drain`.

use super::connect::Client;
use super::failure::Failure;
use super::output::{json, note};
use mux_proto::mux::v1::DrainRequest;
use serde_json::json as value;
use std::time::Duration;

/// Unless --timeout says otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer comes before the time is over.
const RESERVE: Duration = Duration::from_secs(3);

pub(super) async fn run(client: &Client, force: bool, as_json: bool) -> Result<String, Failure> {
    if client.has_choice() {
        let text = "drain ends the replica that is asked, and --rpc (or MUXCLI_RPC) names several: name that one alone";
        return Err(Failure::Usage(text.into()));
    }
    let timeout = client.timeout_or(DRAIN_TIMEOUT);
    let timeout_secs = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    let message = DrainRequest { timeout_secs, force };
    let request = client.request_within(message, timeout.saturating_add(RESERVE));
    let drained = client.cluster().drain(request).await.map_err(Failure::of_write)?.into_inner();
    if as_json {
        return Ok(json(&value!({
            "replica_id": drained.replica_id,
            "leader": drained.leader,
            "not_done": drained.not_done,
            "warnings": drained.warnings,
        })));
    }
    for warning in &drained.warnings {
        note(&format!("warning: {warning}"));
    }
    for what in &drained.not_done {
        note(&format!("not done: {what}"));
    }
    let leader = match drained.leader {
        0 => "nobody leads yet".to_owned(),
        leader => format!("replica {leader} leads"),
    };
    let id = drained.replica_id;
    Ok(if drained.not_done.is_empty() {
        format!("replica {id} has handed over and ends now; {leader}\n")
    } else {
        format!("replica {id} had no more time to hand over and ends now; {leader}\n")
    })
}

//! `muxcli settings`.

use super::args::SettingsArgs;
use super::connect::Client;
use super::failure::Failure;
use super::output::{json, pairs};
use mux_proto::mux::v1::{GetStatusRequest, Settings, UpdateSettingsRequest};
use serde_json::{Value, json as value};

pub(super) async fn run(
    client: &mut Client,
    changes: &SettingsArgs,
    as_json: bool,
) -> Result<String, Failure> {
    let settings = if changes.is_empty() {
        let request = client.request(GetStatusRequest {});
        client.cluster().get_status(request).await.map_err(Failure::of_read)?.into_inner().settings
    } else {
        let settings = Some(Settings {
            auto_settle: changes.auto_settle,
            margin_blocks: changes.margin_blocks,
            mpp_timeout_ms: changes.mpp_timeout_ms,
            accept_timeout_ms: changes.accept_timeout_ms,
            max_parts_per_set: changes.max_parts_per_set,
            max_held_per_channel: changes.max_held_per_channel,
            keep_finished_ms: changes.keep_finished.map(|keep| keep.ms),
        });
        let request = client.request(UpdateSettingsRequest { settings });
        client.cluster().update_settings(request).await.map_err(Failure::of_write)?.into_inner().settings
    };
    let settings = settings.unwrap_or_default();
    Ok(if as_json { json(&to_json(&settings)) } else { to_text(&settings) })
}

fn to_text(settings: &Settings) -> String {
    pairs([
        ("auto_settle", settings.auto_settle().to_string()),
        ("margin_blocks", settings.margin_blocks().to_string()),
        ("mpp_timeout", format!("{} ms", settings.mpp_timeout_ms())),
        ("accept_timeout", format!("{} ms", settings.accept_timeout_ms())),
        ("max_parts_per_set", settings.max_parts_per_set().to_string()),
        ("max_held_per_channel", settings.max_held_per_channel().to_string()),
        ("keep_finished", keep_text(settings.keep_finished_ms())),
    ])
}

fn keep_text(keep_ms: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    match keep_ms {
        0 => "forever".to_owned(),
        ms if ms.is_multiple_of(DAY_MS) => format!("{} days", ms / DAY_MS),
        ms => format!("{ms} ms"),
    }
}

pub(super) fn to_json(settings: &Settings) -> Value {
    value!({
        "auto_settle": settings.auto_settle,
        "margin_blocks": settings.margin_blocks,
        "mpp_timeout_ms": settings.mpp_timeout_ms,
        "accept_timeout_ms": settings.accept_timeout_ms,
        "max_parts_per_set": settings.max_parts_per_set,
        "max_held_per_channel": settings.max_held_per_channel,
        "keep_finished_ms": settings.keep_finished_ms,
    })
}

//! The cluster's settings in the log.

use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::model::Settings;
use mux_raft::machine::{Command, State};
use tonic::{Request, Response, Status};

/// `mux.v1.ClusterService/UpdateSettings`
pub(super) async fn update_settings(
    context: &Context,
    request: Request<proto::UpdateSettingsRequest>,
) -> Result<Response<proto::UpdateSettingsResponse>, Status> {
    let deadline = deadline(request.metadata());
    let Some(changes) = request.into_inner().settings else {
        return Err(ApiError::Invalid("no settings are given".into()).into());
    };
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    let current = context.read(|state| state.settings().clone());
    let settings = changed(current.clone(), &changes)?;
    if settings != current || changes.keep_finished_ms.is_none() {
        context.submit(Command::Configure(settings.clone()), fresh_request(), deadline).await?;
        tracing::info!(?settings, "the cluster's settings were changed");
    }
    if let Some(keep_ms) = changes.keep_finished_ms {
        let keep_finished_ms = (keep_ms > 0).then_some(keep_ms);
        context.submit(Command::SetRetention { keep_finished_ms }, fresh_request(), deadline).await?;
        tracing::info!(?keep_finished_ms, "how long finished invoices are kept was changed");
    }
    Ok(Response::new(proto::UpdateSettingsResponse { settings: Some(context.read(view)) }))
}

/// As clients see them.
pub(super) fn view(state: &State) -> proto::Settings {
    let settings = state.settings();
    proto::Settings {
        keep_finished_ms: Some(state.keep_finished_ms().unwrap_or(0)),
        auto_settle: Some(settings.auto_settle),
        margin_blocks: Some(settings.margin_blocks),
        mpp_timeout_ms: Some(settings.mpp_timeout_ms),
        accept_timeout_ms: Some(settings.accept_timeout_ms),
        max_parts_per_set: Some(settings.parts_per_set_max),
        max_held_per_channel: Some(settings.held_per_channel_max),
    }
}

fn changed(current: Settings, changes: &proto::Settings) -> Result<Settings, ApiError> {
    let settings = Settings {
        auto_settle: changes.auto_settle.unwrap_or(current.auto_settle),
        margin_blocks: changes.margin_blocks.unwrap_or(current.margin_blocks),
        mpp_timeout_ms: changes.mpp_timeout_ms.unwrap_or(current.mpp_timeout_ms),
        accept_timeout_ms: changes.accept_timeout_ms.unwrap_or(current.accept_timeout_ms),
        parts_per_set_max: changes.max_parts_per_set.unwrap_or(current.parts_per_set_max),
        held_per_channel_max: changes.max_held_per_channel.unwrap_or(current.held_per_channel_max),
    };
    let sound = (1..=144).contains(&settings.margin_blocks)
        && (1_000..=600_000).contains(&settings.mpp_timeout_ms)
        && (1_000..=86_400_000).contains(&settings.accept_timeout_ms)
        && (1..=483).contains(&settings.parts_per_set_max)
        // 483: the most HTLCs that a channel can carry each way (BOLT 2).
        && (1..=483).contains(&settings.held_per_channel_max);
    if sound {
        return Ok(settings);
    }
    Err(ApiError::Invalid(
        "out of range: margin_blocks 1 to 144, mpp_timeout_ms 1000 to 600000, accept_timeout_ms 1000 to \
         86400000, max_parts_per_set and max_held_per_channel 1 to 483"
            .into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_stay_as_they_are() {
        let current = Settings::default();
        let none = proto::Settings::default();
        assert_eq!(changed(current.clone(), &none), Ok(current.clone()));
        let one = proto::Settings { auto_settle: Some(false), ..none };
        assert_eq!(changed(current.clone(), &one), Ok(Settings { auto_settle: false, ..current }));
    }

    #[test]
    fn dangerous_values_are_refused() {
        let none = proto::Settings::default();
        for wrong in [
            proto::Settings { margin_blocks: Some(0), ..none },
            proto::Settings { mpp_timeout_ms: Some(0), ..none },
            proto::Settings { accept_timeout_ms: Some(1), ..none },
            proto::Settings { max_parts_per_set: Some(0), ..none },
            proto::Settings { max_held_per_channel: Some(484), ..none },
        ] {
            assert!(changed(Settings::default(), &wrong).is_err(), "{wrong:?}");
        }
    }
}

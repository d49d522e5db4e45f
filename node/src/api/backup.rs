//! Backups, and the state of a restoration.

use super::context::{Context, deadline, fresh_request};
use super::error::ApiError;
use super::view::bytes;
use mux_proto::mux::v1 as proto;
use mux_raft::backup::{BackupFrames, BackupLabel};
use mux_raft::blocking::Work;
use mux_raft::machine::model::Htlc;
use mux_raft::machine::restoring::{Difference, DifferenceKind, Restored};
use mux_raft::machine::{Command, State};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Pieces of a megabyte that wait for a slow receiver. When it is full the reading stops.
const QUEUE: usize = 4;

pub(super) type BackupStream = ReceiverStream<Result<proto::SaveBackupResponse, Status>>;

/// `mux.v1.ClusterService/SaveBackup`
pub(super) async fn save_backup(
    context: &Arc<Context>,
    without_quorum: bool,
) -> Result<Response<BackupStream>, Status> {
    // As fresh as any read: what was acknowledged before the call is in it.
    match context.consensus.read_barrier().await {
        Ok(_) => {}
        Err(error) if without_quorum => {
            tracing::warn!(%error, "a backup is saved without a quorum: others may have acknowledged more");
        }
        Err(error) => return Err(ApiError::from(error).into()),
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let blocking = &context.wiring.blocking;
        let begun = Arc::clone(&context);
        let Ok(mut frames) = blocking.run(Work::Archive, move || begin(&begun)).await else { return };
        loop {
            let next = move || {
                let frame = frames.next();
                (frames, frame)
            };
            // One that panicked ends the stream without its last piece, which whoever reads it misses.
            let Ok((rest, Some(frame))) = blocking.run(Work::Archive, next).await else { return };
            frames = rest;
            let piece = match frame {
                Ok(data) => Ok(proto::SaveBackupResponse { data: data.into() }),
                Err(error) => Err(Status::aborted(format!("{error}; save the backup again"))),
            };
            // The receiver may be gone.
            if context.stop.is_cancelled() || sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

fn begin(context: &Context) -> BackupFrames {
    let config = &context.config;
    let label = BackupLabel {
        cluster_name: config.cluster_name.clone(),
        network: config.network.name().into(),
        node_pubkey: context.keys.node_pubkey().to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let replica = context.consensus.status().borrow().id;
    let now_ms = context.wiring.clock.wall_ms();
    let frames = BackupFrames::of(context.consensus.state(), config.cluster_id, label, replica, now_ms);
    tracing::info!(index = frames.header().at.index, "a backup is being saved");
    frames
}

/// `mux.v1.ClusterService/AcceptRestoration`
pub(super) async fn accept_restoration(
    context: &Context,
    request: Request<proto::AcceptRestorationRequest>,
) -> Result<Response<proto::AcceptRestorationResponse>, Status> {
    let deadline = deadline(request.metadata());
    context.submit(Command::AcceptRestoration, fresh_request(), deadline).await?;
    let given_up = context.read(|state| {
        let restored = state.restored();
        restored.iter().flat_map(|restored| &restored.given_up).map(ToString::to_string).collect()
    });
    tracing::warn!(?given_up, "an operator ended the reconciliation after a restoration");
    Ok(Response::new(proto::AcceptRestorationResponse { given_up }))
}

/// For the status.
pub(super) fn restoration(state: &State) -> Option<proto::RestorationStatus> {
    let Restored { at, time_ms, asked, in_doubt, differences, given_up, .. } = state.restored()?;
    Some(proto::RestorationStatus {
        backup_index: at.index,
        backup_log_time_ms: *time_ms,
        asked: *asked,
        in_doubt: in_doubt.iter().map(ToString::to_string).collect(),
        differences: differences
            .iter()
            .map(difference)
            .chain(state.refused_on_chain_since_restoration().map(on_chain))
            .collect(),
        given_up: given_up.iter().map(ToString::to_string).collect(),
    })
}

fn on_chain(htlc: &Htlc) -> proto::RestorationDifference {
    proto::RestorationDifference {
        htlc: htlc.key.to_string(),
        hash: bytes(&htlc.hash.0),
        what: "went on chain, and no decision to settle it is known: if its payer has the preimage, its money is lost"
            .into(),
    }
}

fn difference(difference: &Difference) -> proto::RestorationDifference {
    let what = match difference.kind {
        DifferenceKind::SettledSince => "settled after the backup; the decision is recorded again",
        DifferenceKind::FailedSince => "failed after the backup",
        DifferenceKind::LostSince => "decided to settle, but LND failed it: its money did not arrive",
        DifferenceKind::SettledAgainstVerdict => "failed in the backup, but LND settled it",
    };
    proto::RestorationDifference {
        htlc: difference.key.to_string(),
        hash: bytes(&difference.hash.0),
        what: what.into(),
    }
}

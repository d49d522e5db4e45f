//! The stream of changes. A subscriber names the last sequence number it has seen and gets everything after
//! it, at any replica: one that lags just delivers later.

use super::cancel_invoice::payment_hash;
use super::context::Context;
use super::error::ApiError;
use super::view;
use mux_proto::mux::v1 as proto;
use mux_raft::machine::model::Event;
use mux_raft::types::PaymentHash;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events read at a time: apply waits meanwhile.
pub(super) const BATCH: usize = 256;

/// Events that wait for a slow subscriber. When it is full the reading stops, nothing is lost.
const QUEUE: usize = 256;

pub(super) type EventStream = ReceiverStream<Result<proto::SubscribeEventsResponse, Status>>;

/// `mux.v1.InvoiceService/SubscribeEvents`
pub(super) async fn subscribe_events(
    context: &Arc<Context>,
    request: Request<proto::SubscribeEventsRequest>,
) -> Result<Response<EventStream>, Status> {
    let request = request.into_inner();
    let only = if request.hash.is_empty() { None } else { Some(payment_hash(&request.hash)?) };
    let after = if request.from_now {
        context.consensus.read_barrier().await.map_err(ApiError::from)?;
        context.read(mux_raft::machine::State::event_sequence)
    } else {
        request.after_sequence
    };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let stop = context.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // A full queue means a subscriber that does not listen anyway.
                let _ = sender.try_send(Err(Status::unavailable("this replica stops; go on at another one")));
            }
            () = sender.closed() => {}
            () = deliver(&context, after, only, &sender) => {}
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// The next events after a sequence number; those in memory without leaving the thread.
pub(super) async fn next_events(context: &Context, after: u64) -> Result<Vec<Event>, ApiError> {
    let recent = context.read(|state| {
        let is_recent = after.saturating_add(1) >= state.first_event_in_memory();
        is_recent.then(|| state.events_after(after).take(BATCH).cloned().collect())
    });
    match recent {
        Some(events) => Ok(events),
        None => context.look_up(move |cell| cell.list_events(after, BATCH)).await,
    }
}

async fn deliver(
    context: &Context,
    mut after: u64,
    only: Option<PaymentHash>,
    sender: &mpsc::Sender<Result<proto::SubscribeEventsResponse, Status>>,
) {
    let mut applied = context.consensus.state().watch();
    loop {
        // Marked as seen before it is read, so that no change is missed.
        applied.mark_unchanged();
        let batch = match next_events(context, after).await {
            Ok(batch) => batch,
            Err(error) => {
                // The subscriber may be gone.
                let _ = sender.send(Err(error.into())).await;
                return;
            }
        };
        if let Some(first) = batch.first()
            && first.sequence > after.saturating_add(1)
        {
            let why = format!(
                "events before {} are no longer kept: list the invoices, then subscribe from there",
                first.sequence
            );
            // The subscriber may be gone.
            let _ = sender.send(Err(ApiError::OutOfRange(why).into())).await;
            return;
        }
        let full = batch.len() == BATCH;
        for event in batch {
            after = event.sequence;
            let wanted = only.is_none_or(|hash| hash == event.hash);
            if wanted && sender.send(Ok(view::event(&event))).await.is_err() {
                return;
            }
        }
        if !full && applied.changed().await.is_err() {
            return;
        }
    }
}

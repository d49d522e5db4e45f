//! The stream of accepted sets: those that wait at the moment, then each new one.

use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::events::{BATCH, next_events};
use crate::api::view::bytes;
use mux_proto::lnmux::SubscribeInvoiceAcceptedResponse;
use mux_raft::machine::State;
use mux_raft::machine::model::EventKind;
use mux_raft::types::{PaymentHash, SetId};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Sets that wait for a slow subscriber. When it is full the reading stops, nothing is lost.
const QUEUE: usize = 256;

type Item = Result<SubscribeInvoiceAcceptedResponse, Status>;
pub(super) type AcceptedStream = ReceiverStream<Item>;

pub(super) async fn subscribe(context: &Arc<Context>) -> Result<Response<AcceptedStream>, Status> {
    context.consensus.read_barrier().await.map_err(ApiError::from)?;
    // In one read, so that nothing falls between the sets of now and the events to come.
    let (waiting, sequence) = context.read(|state| (accepted(state), state.event_sequence()));
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
            () = deliver(&context, waiting, sequence, &sender) => {}
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

fn accepted(state: &State) -> Vec<(PaymentHash, SetId)> {
    let sets = state.accepted_sets();
    sets.filter_map(|invoice| Some((invoice.hash, invoice.set.as_ref()?.id?))).collect()
}

async fn deliver(
    context: &Context,
    waiting: Vec<(PaymentHash, SetId)>,
    mut after: u64,
    sender: &mpsc::Sender<Item>,
) {
    for (hash, set_id) in waiting {
        if sender.send(Ok(response(hash, set_id))).await.is_err() {
            return;
        }
    }
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
        let first = batch.first().map(|event| event.sequence);
        if first.is_some_and(|first| first > after.saturating_add(1)) {
            let why = "too slow: sets were accepted that are no longer listed; subscribe again";
            // The subscriber may be gone.
            let _ = sender.send(Err(ApiError::OutOfRange(why.into()).into())).await;
            return;
        }
        let full = batch.len() == BATCH;
        for event in batch {
            after = event.sequence;
            if let EventKind::Accepted { set_id, .. } = event.kind
                && sender.send(Ok(response(event.hash, set_id))).await.is_err()
            {
                return;
            }
        }
        if !full && applied.changed().await.is_err() {
            return;
        }
    }
}

fn response(hash: PaymentHash, set_id: SetId) -> SubscribeInvoiceAcceptedResponse {
    SubscribeInvoiceAcceptedResponse { hash: bytes(&hash.0), set_id: bytes(&set_id.0) }
}

//! One interceptor stream: a task that does nothing but read it into a queue.
//!
//! LND sends from the loop that forwards for the whole node, so the reader never waits for anything of
//! ours. A queue that fills up nevertheless ends the stream: LND offers everything again.

use crate::lnd::{LndClient, LndError};
use mux_proto::lnrpc::GetInfoResponse;
use mux_proto::routerrpc::{ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Offers read but not looked at yet. LND holds at most a few hundred for each channel.
const OFFERS_QUEUED_MAX: usize = 65_536;

/// Answers not yet written. There are never more than offers.
const ANSWERS_QUEUED_MAX: usize = 65_536;

/// What comes out of a stream, in order: once `Held`, then requests, at last `Ended`.
pub(super) enum StreamItem {
    /// The slot is ours.
    Held(Box<GetInfoResponse>),
    /// LND offers an HTLC.
    Request(Arc<ForwardHtlcInterceptRequest>),
    /// No more.
    Ended(LndError),
}

/// A stream that is open or being opened. Dropped: closed.
pub(super) struct Stream {
    pub(super) items: mpsc::Receiver<StreamItem>,
    pub(super) answers: mpsc::Sender<ForwardHtlcInterceptResponse>,
    /// LND gave us the slot.
    pub(super) held: bool,
    close: CancellationToken,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

impl Stream {
    /// Opens a stream over this connection.
    pub(super) fn open(client: LndClient) -> Self {
        let (items_to, items) = mpsc::channel(OFFERS_QUEUED_MAX);
        let (answers, answers_from) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let close = CancellationToken::new();
        let closed = close.clone();
        tokio::spawn(async move {
            let reader = read(client, answers_from, &items_to);
            // Cancelled: nobody is there any more to hear how it ended.
            if let Some(error) = closed.run_until_cancelled(reader).await {
                let _ = items_to.send(StreamItem::Ended(error)).await;
            }
        });
        Self { items, answers, held: false, close }
    }
}

async fn read(
    client: LndClient,
    answers: mpsc::Receiver<ForwardHtlcInterceptResponse>,
    items: &mpsc::Sender<StreamItem>,
) -> LndError {
    let mut opening = pin!(client.intercept(ReceiverStream::new(answers)));
    // The probe is started after the stream was asked for. No refusal by the time it is answered: held.
    let probe = client.checked_info();
    let early = tokio::select! {
        biased;
        opened = &mut opening => Some(opened),
        info = probe => match hold(items, info) {
            Ok(()) => None,
            Err(error) => return error,
        },
    };
    let mut stream = match early {
        Some(Ok(stream)) => match hold(items, client.checked_info().await) {
            Ok(()) => stream,
            Err(error) => return error,
        },
        Some(Err(error)) => return error,
        None => match opening.await {
            Ok(stream) => stream,
            Err(error) => return error,
        },
    };
    loop {
        match stream.message().await {
            Ok(Some(request)) => {
                if items.try_send(StreamItem::Request(Arc::new(request))).is_err() {
                    return client.error(CALL, &Status::resource_exhausted("too many offers are waiting"));
                }
            }
            Ok(None) => return client.error(CALL, &Status::unavailable("LND ended the stream")),
            Err(status) => return client.error(CALL, &status),
        }
    }
}

const CALL: &str = "HtlcInterceptor";

fn hold(items: &mpsc::Sender<StreamItem>, info: Result<GetInfoResponse, LndError>) -> Result<(), LndError> {
    // The queue is empty and its reader alive, or nobody cares.
    let _ = items.try_send(StreamItem::Held(Box::new(info?)));
    Ok(())
}

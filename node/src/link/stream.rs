//! One interceptor stream: a task that does nothing but read it into a queue.
//!
//! LND sends from the loop that forwards for the whole node, so the reader never waits for anything of
//! ours. A queue that fills up nevertheless ends the stream: LND offers everything again.

use super::seats::Seat;
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
    pub(super) answers: Answers,
    /// LND gave us the slot.
    pub(super) held: bool,
    close: CancellationToken,
}

/// Takes answers to be written.
#[derive(Clone)]
pub(super) struct Answers {
    queue: mpsc::Sender<ForwardHtlcInterceptResponse>,
    overflow: CancellationToken,
}

impl Answers {
    /// Queues an answer. A full queue ends the stream, since an answer that is not written is never made
    /// again on it; on the next stream LND offers the HTLC again.
    pub(super) fn send(&self, response: ForwardHtlcInterceptResponse) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(response) {
            self.overflow.cancel();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

impl Stream {
    /// Opens a stream over this connection. `seat`: the node's, kept until the stream is closed.
    pub(super) fn open(client: LndClient, seat: Arc<Seat>) -> Self {
        let (items_to, items) = mpsc::channel(OFFERS_QUEUED_MAX);
        let (queue, answers_from) = mpsc::channel(ANSWERS_QUEUED_MAX);
        let (close, overflow) = (CancellationToken::new(), CancellationToken::new());
        let (closed, overflowed) = (close.clone(), overflow.clone());
        tokio::spawn(async move {
            let full = client.error(CALL, &Status::resource_exhausted("too many answers are waiting"));
            let reader = Box::pin(read(client, answers_from, &items_to));
            let ended = async {
                let read = overflowed.run_until_cancelled(reader).await;
                read.unwrap_or(full)
            };
            // Cancelled: nobody is there any more to hear how it ended.
            if let Some(error) = closed.run_until_cancelled(ended).await {
                let _ = items_to.send(StreamItem::Ended(error)).await;
            }
            drop(seat);
        });
        Self { items, answers: Answers { queue, overflow }, held: false, close }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_finds_no_room_ends_the_stream() {
        let (queue, mut written) = mpsc::channel(1);
        let answers = Answers { queue, overflow: CancellationToken::new() };
        answers.send(ForwardHtlcInterceptResponse::default());
        assert!(!answers.overflow.is_cancelled());
        answers.send(ForwardHtlcInterceptResponse::default());
        assert!(answers.overflow.is_cancelled());
        assert!(written.try_recv().is_ok());
    }
}

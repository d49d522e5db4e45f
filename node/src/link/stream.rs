//! One interceptor stream: a task that does nothing but read it into a queue.
//!
//! LND sends from the loop that forwards for the whole node, so the reader never waits for anything of
//! ours. A queue that fills up nevertheless ends the stream: LND offers everything again.

use super::seats::Seat;
use crate::lnd::{LndClient, LndError};
use mux_proto::lnrpc::GetInfoResponse;
use mux_proto::routerrpc::{ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Offers read but not looked at yet. LND holds at most a few hundred for each channel.
const OFFERS_QUEUED_MAX: usize = 65_536;

/// Answers not yet written. There are never more than offers.
const ANSWERS_QUEUED_MAX: usize = 65_536;

/// What comes out of a stream: once `Held`, requests before and after it, at last `Ended`.
pub(super) enum StreamItem {
    /// The slot is ours, and the node is the one it should be.
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
    /// LND gave us the slot, and it is known what LND it is.
    pub(super) held: bool,
    /// Offered before that; see [`Self::set_aside`].
    early: Vec<Arc<ForwardHtlcInterceptRequest>>,
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
            let full = client.error(CALL, &Status::resource_exhausted("too many HTLCs are waiting"));
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
        Self { items, answers: Answers { queue, overflow }, held: false, early: Vec::new(), close }
    }

    /// Keeps a request that must wait until the stream is held. Too many end the stream, and LND offers them
    /// again on the next.
    pub(super) fn set_aside(&mut self, request: Arc<ForwardHtlcInterceptRequest>) {
        if self.early.len() < OFFERS_QUEUED_MAX {
            self.early.push(request);
        } else {
            self.answers.overflow.cancel();
        }
    }

    /// From now on the stream is held. Gives what was set aside, in LND's order.
    pub(super) fn set_held(&mut self) -> Vec<Arc<ForwardHtlcInterceptRequest>> {
        self.held = true;
        std::mem::take(&mut self.early)
    }
}

async fn read(
    client: LndClient,
    answers: mpsc::Receiver<ForwardHtlcInterceptResponse>,
    items: &mpsc::Sender<StreamItem>,
) -> LndError {
    let put = |item| {
        let full = |_| client.error(CALL, &Status::resource_exhausted("too many offers are waiting"));
        items.try_send(item).map_err(full)
    };
    let reading = async {
        let mut stream = client.intercept(ReceiverStream::new(answers)).await?;
        while let Some(request) = stream.message().await.map_err(|status| client.error(CALL, &status))? {
            put(StreamItem::Request(Arc::new(request)))?;
        }
        Err::<Infallible, _>(client.error(CALL, &Status::unavailable("LND ended the stream")))
    };
    // Started after the stream was asked for. No refusal by the time it is answered: held.
    let probing = async { put(StreamItem::Held(Box::new(client.checked_info().await?))) };
    match tokio::try_join!(biased; reading, probing) {
        Err(error) => error,
        Ok((never, ())) => match never {},
    }
}

const CALL: &str = "HtlcInterceptor";

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

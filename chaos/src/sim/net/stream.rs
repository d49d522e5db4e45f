use super::packet::{ConnectionId, Content, End, Packet, StreamId};
use super::port::Port;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::{Code, Status};

/// What one side of a stream may send ahead of the receiver, as in production between replicas.
pub(super) const WINDOW_BYTES: u32 = 2 << 20;
/// What a frame costs of the window beside its bytes, so that empty ones are bounded too.
pub(super) const FRAME_BYTES: u32 = 64;

/// Names an end of a stream within a host.
pub(super) type StreamKey = (ConnectionId, End, StreamId);

/// What waits for the response's head.
pub(super) type HeadSender = oneshot::Sender<Result<http::response::Parts, Status>>;

/// An end of a stream, as its port keeps it.
#[derive(Debug)]
pub(super) struct Stream {
    /// At the client, until it is there.
    pub(super) head: Option<HeadSender>,
    /// What arrives of the body. Unbounded, since the window bounds it. None: it has ended.
    pub(super) body: Option<mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>>,
    /// What may still be sent.
    pub(super) credit: Arc<Semaphore>,
    /// At the server what serves it, at the client what sends the body.
    pub(super) task: Option<AbortHandle>,
}

impl Stream {
    pub(super) fn new(body: mpsc::UnboundedSender<Result<Frame<Bytes>, Status>>) -> Self {
        let credit =
            Arc::new(Semaphore::new(usize::try_from(WINDOW_BYTES).unwrap_or(Semaphore::MAX_PERMITS)));
        Self { head: None, body: Some(body), credit, task: None }
    }

    /// Ends it for this reason, wherever it is.
    pub(super) fn fail(self, code: Code, reason: &str) {
        if let Some(task) = self.task {
            task.abort();
        }
        // Nobody may be waiting any more.
        if let Some(head) = self.head {
            let _ = head.send(Err(Status::new(code, reason)));
        }
        if let Some(body) = self.body {
            let _ = body.send(Err(Status::new(code, reason)));
        }
    }
}

/// Sends a body, frame by frame, as far as the receiver lets it. True: all of it, or it cannot be sent any more; false:
/// the body failed.
pub(super) async fn send_body(port: &Port, key: StreamKey, credit: &Semaphore, mut body: Body) -> bool {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            port.send(key, Content::Reset(Code::Cancelled));
            return false;
        };
        match frame.into_data() {
            Ok(data) => {
                let Ok(permit) = credit.acquire_many(cost(&data)).await else { return true };
                permit.forget();
                port.send(key, Content::Data(data));
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { continue };
                port.send(key, Content::Trailers(trailers));
                return true;
            }
        }
    }
    port.send(key, Content::Finished);
    true
}

/// What a frame takes of the window.
pub(super) fn cost(data: &Bytes) -> u32 {
    // One that is larger than the window goes alone.
    u32::try_from(data.len()).unwrap_or(u32::MAX).saturating_add(FRAME_BYTES).min(WINDOW_BYTES)
}

impl Packet {
    /// For the other end of this stream.
    pub(super) fn from_end((connection, end, stream): StreamKey, content: Content) -> Self {
        Self { connection, to: end.other(), stream, content }
    }

    /// The stream it belongs to where it arrives.
    pub(super) fn key(&self) -> StreamKey {
        (self.connection, self.to, self.stream)
    }
}

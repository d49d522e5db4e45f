use super::packet::Content;
use super::port::Port;
use super::stream::{StreamKey, WINDOW_BYTES, cost};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tonic::Status;

/// A body that arrives. At the client, dropping it before its end cancels the call.
pub(super) struct IncomingBody {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, Status>>,
    /// Taken, and not yet told to the sender.
    taken: u32,
    port: Port,
    key: StreamKey,
    /// At the client.
    _call: Option<Call>,
}

impl IncomingBody {
    pub(super) fn new(
        frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, Status>>,
        port: Port,
        key: StreamKey,
        call: Option<Call>,
    ) -> Self {
        Self { frames, taken: 0, port, key, _call: call }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(self.frames.poll_recv(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.taken = self.taken.saturating_add(cost(data));
            if self.taken >= WINDOW_BYTES / 2 {
                let taken = std::mem::take(&mut self.taken);
                self.port.send(self.key, Content::Credit(taken));
            }
        }
        Poll::Ready(frame)
    }
}

/// A client's call. Dropped before the call has ended, it cancels it.
pub(super) struct Call {
    port: Port,
    key: StreamKey,
}

impl Call {
    pub(super) fn new(port: Port, key: StreamKey) -> Self {
        Self { port, key }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.port.cancel(self.key);
    }
}

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use tonic::{Response, Status};

/// A server stream.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers with response headers only once there is a first message, and with trailers alone if there is an
/// error instead: grpc-go's lazy headers, on which a client that awaits them hangs.
pub(super) async fn lazy<T: Send + 'static>(
    mut messages: Messages<T>,
) -> Result<Response<Messages<T>>, Status> {
    match messages.next().await {
        Some(Ok(first)) => Ok(Response::new(Box::pin(stream::once(async { Ok(first) }).chain(messages)))),
        Some(Err(status)) => Err(status),
        None => Err(Status::unavailable("transport is closing")),
    }
}

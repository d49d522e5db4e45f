//! Calls that come over no connection of their own: each says by [`ConnId`] to which it belongs, and is reset or stalled
//! with it.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Frame;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    conn::{ConnId, Handle},
    node::Node,
};

/// Puts a node's services on such connections.
#[derive(Clone)]
pub(super) struct OnConnections {
    pub(super) node: Arc<Node>,
}

/// A service that is.
#[derive(Clone)]
pub(super) struct OnConnection<S> {
    inner: S,
    node: Arc<Node>,
}

impl<S> Layer<S> for OnConnections {
    type Service = OnConnection<S>;

    fn layer(&self, inner: S) -> OnConnection<S> {
        OnConnection { inner, node: Arc::clone(&self.node) }
    }
}

impl<S, In, Out> Service<http::Request<In>> for OnConnection<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Out>, Error = Infallible>,
    S::Future: Send + 'static,
    In: http_body::Body<Data = Bytes> + Send + 'static,
    In::Error: Into<tonic::codegen::StdError>,
    Out: http_body::Body<Data = Bytes> + Send + 'static,
    Out::Error: Into<tonic::codegen::StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<In>) -> Self::Future {
        if !self.node.is_up() {
            return Box::pin(async { Ok(Status::unavailable("connection refused").into_http()) });
        }
        let given = request.extensions().get::<ConnId>().copied();
        let handle = given.map(|id| self.node.connections.join(id));
        let handle = handle.unwrap_or_else(|| {
            let (id, handle) = self.node.connections.lone();
            request.extensions_mut().insert(id);
            handle
        });
        if handle.is_stalled() {
            // It gets nowhere.
            return Box::pin(async move { reset_of(&handle).await });
        }
        let answer =
            self.inner.call(request.map(|body| Body::new(FaultyBody::new(Body::new(body), &handle))));
        Box::pin(async move {
            tokio::select! {
                biased;
                reset = reset_of(&handle) => reset,
                answer = answer => {
                    if handle.is_stalled() {
                        return reset_of(&handle).await;
                    }
                    answer.map(|answer| answer.map(|body| Body::new(FaultyBody::new(Body::new(body), &handle))))
                }
            }
        })
    }
}

fn reset() -> Status {
    Status::unavailable("connection reset by peer")
}

/// Waits for it.
async fn reset_of(handle: &Handle) -> Result<http::Response<Body>, Infallible> {
    handle.cut().cancelled().await;
    Ok(reset().into_http())
}

/// A body that ends with its connection.
struct FaultyBody {
    inner: Body,
    handle: Arc<Handle>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl FaultyBody {
    fn new(inner: Body, handle: &Arc<Handle>) -> Self {
        let cut = Box::pin(handle.cut().clone().cancelled_owned());
        Self { inner, handle: Arc::clone(handle), cut }
    }
}

impl http_body::Body for FaultyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(reset())));
        }
        if self.handle.is_stalled() {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.handle.is_stalled() && !self.handle.cut().is_cancelled() && self.inner.is_end_stream()
    }
}

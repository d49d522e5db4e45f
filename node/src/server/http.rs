//! Plain HTTP: `/metrics`, `/livez`, `/readyz`.
//!
//! `/livez` says whether the process can still do its work when the cluster lets it; it never depends on a
//! quorum, or an outage of the network would restart every replica. `/readyz` says whether to send work here.

use super::readiness::Readiness;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// As Prometheus wants it named.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Shared {
    readiness: Arc<Readiness>,
    metrics: PrometheusHandle,
}

/// The pages.
pub fn router(readiness: Arc<Readiness>, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Shared { readiness, metrics })
}

async fn metrics_page(State(shared): State<Shared>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], shared.metrics.render()).into_response()
}

async fn livez(State(shared): State<Shared>) -> Response {
    match shared.readiness.fatal() {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn readyz(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let ready = shared.readiness.is_ready();
    let verbose = query.is_some_and(|query| query.split('&').any(|one| one.starts_with("verbose")));
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if ready && !verbose { "ok\n".to_owned() } else { shared.readiness.text() };
    (code, text).into_response()
}

/// The running pages.
pub struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    /// Serves on a bound listener until [`HttpServer::stop`].
    ///
    /// # Errors
    /// The socket has no address.
    pub fn start(listener: TcpListener, router: Router) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
        Ok(Self { address, stop, task: tokio::spawn(async move { serve.await }) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and waits for those under way.
    pub async fn stop(self) {
        self.stop.cancel();
        // An error here only says that the listener is gone, which is the aim.
        let _ = self.task.await;
    }
}

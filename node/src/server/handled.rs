//! Counts and times the calls of the client API, and gives each its place in a trace.

use mux_raft::trace::{self, TraceContext};
use mux_raft::trace_step;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Wraps a service with [`Handled`].
#[derive(Clone, Copy, Debug)]
pub(super) struct CountHandled;

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub(super) struct Handled<S>(S);

impl<S> Layer<S> for CountHandled {
    type Service = Handled<S>;

    fn layer(&self, inner: S) -> Handled<S> {
        Handled(inner)
    }
}

impl<S, Body, Answer> Service<http::Request<Body>> for Handled<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Answer>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = known_method(request.uri().path());
        let started = Instant::now();
        let header = request.headers().get(trace::HEADER).and_then(|header| header.to_str().ok());
        let caller = header.and_then(TraceContext::parse);
        let (span, context) = call_span(method, caller);
        let answer = trace::scope(Some(context), self.0.call(request)).instrument(span.clone());
        Box::pin(async move {
            let answer = answer.await?;
            let code = answer.headers().get("grpc-status").and_then(|code| code.to_str().ok());
            let code = code.and_then(|code| code.parse().ok()).map_or(tonic::Code::Ok, tonic::Code::from_i32);
            let code = format!("{code:?}");
            let handling = started.elapsed();
            let handling_ms = u64::try_from(handling.as_millis()).unwrap_or(u64::MAX);
            span.in_scope(|| trace_step!(Some(context), code, handling_ms, "call answered"));
            let seconds = handling.as_secs_f64();
            metrics::counter!("mux_grpc_server_handled_total", "method" => method, "code" => code)
                .increment(1);
            metrics::histogram!("mux_grpc_server_handling_seconds", "method" => method).record(seconds);
            Ok(answer)
        })
    }
}

/// The span of a call. Its handler adds the payment hash, when it knows one.
fn call_span(method: &'static str, caller: Option<TraceContext>) -> (Span, TraceContext) {
    let span = tracing::info_span!("api_call", method, trace_id = Empty, payment_hash = Empty);
    let context = trace::begin(&span, caller);
    span.record("trace_id", context.id());
    (span, context)
}

/// Only paths that exist become labels: callers choose the path.
fn known_method(path: &str) -> &'static str {
    METHODS.iter().copied().find(|method| path.strip_prefix('/') == Some(*method)).unwrap_or("other")
}

const METHODS: &[&str] = &[
    "lnmux.Service/GetInfo",
    "lnmux.Service/AddInvoice",
    "lnmux.Service/SubscribeInvoiceAccepted",
    "lnmux.Service/WaitForInvoiceFinalStatus",
    "lnmux.Service/SettleInvoice",
    "lnmux.Service/CancelInvoice",
    "lnmux.Service/ListInvoices",
    "mux.v1.ClusterService/GetStatus",
    "mux.v1.ClusterService/TransferLeader",
    "mux.v1.ClusterService/ListMembers",
    "mux.v1.ClusterService/AddMember",
    "mux.v1.ClusterService/PromoteMember",
    "mux.v1.ClusterService/RemoveMember",
    "mux.v1.ClusterService/Drain",
    "mux.v1.ClusterService/ListHtlcs",
    "mux.v1.ClusterService/ResolveHtlc",
    "mux.v1.ClusterService/UpdateSettings",
    "mux.v1.ClusterService/SaveBackup",
    "mux.v1.ClusterService/AcceptRestoration",
    "mux.v1.ClusterService/ListFrontNodes",
    "mux.v1.ClusterService/AddFrontNode",
    "mux.v1.ClusterService/SetFrontNodeMode",
    "mux.v1.ClusterService/RemoveFrontNode",
    "mux.v1.InvoiceService/AddInvoice",
    "mux.v1.InvoiceService/GetInvoice",
    "mux.v1.InvoiceService/ListInvoices",
    "mux.v1.InvoiceService/SubscribeEvents",
    "mux.v1.InvoiceService/SettleInvoice",
    "mux.v1.InvoiceService/CancelInvoice",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_path_is_no_label() {
        assert_eq!(known_method("/lnmux.Service/GetInfo"), "lnmux.Service/GetInfo");
        assert_eq!(known_method("/lnmux.Service/GetInfo2"), "other");
        assert_eq!(known_method(""), "other");
    }

    #[test]
    fn every_method_of_our_services_is_known() {
        use prost::Message as _;
        let all = prost_types::FileDescriptorSet::decode(mux_proto::DESCRIPTORS).unwrap();
        for file in all.file.iter().filter(|file| ["lnmux", "mux.v1"].contains(&file.package())) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_ne!(known_method(&path), "other", "{path}");
                }
            }
        }
    }
}

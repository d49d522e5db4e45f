//! Spans for an OpenTelemetry collector (OTLP over gRPC). Off unless an endpoint is configured.

use crate::config::Otlp;
use mux_raft::trace::{self, Exporter, TraceContext};
use mux_raft::types::ReplicaId;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Tracer};
use std::time::Duration;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt as _};
use tracing_subscriber::registry::LookupSpan;

/// Longest that one batch, and the last one at the end, may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What makes and sends spans.
pub(super) struct Provider(SdkTracerProvider);

impl Provider {
    /// Sends what is left.
    pub(super) fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::debug!(%error, "not all spans were exported");
        }
    }
}

/// What makes spans, and what sends them.
pub(super) type Started<S> = (OpenTelemetryLayer<S, Tracer>, Provider);

/// `None` without an endpoint. Needs a tokio runtime around it. A collector that does not answer costs spans,
/// nothing else.
pub(super) fn start<S>(config: &Otlp, replica: ReplicaId) -> Result<Option<Started<S>>, String>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    if config.endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&config.endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| format!("telemetry.otlp.endpoint {:?}: {error}", config.endpoint))?;
    let resource = Resource::builder()
        .with_service_name("muxd")
        .with_attribute(KeyValue::new("service.instance.id", replica.to_string()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // A caller who has decided is followed; the share is of the rest.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(sampler)
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("muxd"));
    trace::install(Box::new(Spans { sample_ratio: config.sample_ratio }));
    Ok(Some((layer, Provider(provider))))
}

/// A place in a trace that is not in this process.
fn remote(context: &TraceContext) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace_id, span_id) = (TraceId::from_bytes(context.trace_id), SpanId::from_bytes(context.span_id));
    SpanContext::new(trace_id, span_id, flags, true, TraceState::default())
}

struct Spans {
    sample_ratio: f64,
}

impl Exporter for Spans {
    fn set_parent(&self, span: &Span, parent: &TraceContext) {
        let parent = remote(parent);
        // A span that has begun, or that nobody records, has no place for a parent: nothing is lost.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }

    fn context_of(&self, span: &Span) -> Option<TraceContext> {
        let context = span.context();
        let own = context.span().span_context().clone();
        own.is_valid().then(|| TraceContext {
            trace_id: own.trace_id().to_bytes(),
            span_id: own.span_id().to_bytes(),
            sampled: own.is_sampled(),
        })
    }

    fn link(&self, span: &Span, to: &TraceContext) {
        span.add_link(remote(to));
    }

    /// By its hash, so that all replicas choose the same payments.
    fn samples_payment(&self, hash: &[u8; 32]) -> bool {
        let [a, b, c, d, ..] = *hash;
        f64::from(u32::from_be_bytes([a, b, c, d])) < self.sample_ratio * f64::from(u32::MAX)
    }
}

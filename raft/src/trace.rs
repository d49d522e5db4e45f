//! Which call something was done for: W3C trace context, from an API call through the replicas to the log.
//!
//! The context travels with the task ([`scope`], [`current`]) and, where a follower hands a command to the
//! leader, as the metadata `traceparent`. Log lines carry its trace id, so that one call can be found in
//! the logs of all replicas that had to do with it. An exporter of spans plugs itself in as [`Exporter`].

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;
use tracing::Span;

/// Name of the header, and of the metadata between replicas.
pub const HEADER: &str = "traceparent";

/// The flag with which a caller asks that a call be recorded.
const SAMPLED: u8 = 1;

/// A position in a trace (W3C Trace Context, version 00).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// The span that what follows belongs to. Never all zero.
    pub span_id: [u8; 8],
    /// The caller wants it recorded.
    pub sampled: bool,
}

/// Hands spans to where they are looked at.
pub trait Exporter: Send + Sync {
    /// `span` continues what happened elsewhere.
    fn set_parent(&self, span: &Span, parent: &TraceContext);
    /// Where `span` stands; `None` if it is not recorded.
    fn context_of(&self, span: &Span) -> Option<TraceContext>;
    /// Who looks at `span` is shown the way to another trace.
    fn link(&self, span: &Span, to: &TraceContext);
    /// Whether this payment is one of those that are recorded.
    fn samples_payment(&self, hash: &[u8; 32]) -> bool;
}

static EXPORTER: OnceLock<Box<dyn Exporter>> = OnceLock::new();

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Sets the exporter, once in a process; a second one is not taken.
pub fn install(exporter: Box<dyn Exporter>) {
    let _ = EXPORTER.set(exporter);
}

/// What is being done here is done for this.
#[must_use]
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Does something for `context`.
pub async fn scope<F: Future>(context: Option<TraceContext>, what: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, what).await,
        None => what.await,
    }
}

/// The context inside a new span: that of the exporter, or else a new place in the caller's trace.
#[must_use]
pub fn begin(span: &Span, caller: Option<TraceContext>) -> TraceContext {
    if let Some(exporter) = EXPORTER.get() {
        if let Some(caller) = &caller {
            exporter.set_parent(span, caller);
        }
        if let Some(context) = exporter.context_of(span) {
            return context;
        }
    }
    TraceContext { span_id: rand::random(), ..caller.unwrap_or_else(TraceContext::fresh) }
}

/// Whether somebody will look at this span.
#[must_use]
pub fn is_recorded(span: &Span) -> bool {
    EXPORTER.get().and_then(|exporter| exporter.context_of(span)).is_some_and(|context| context.sampled)
}

/// What a call does concerns a payment, whose HTLCs have a trace of their own.
pub fn link_payment(span: &Span, hash: &[u8; 32]) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.link(span, &TraceContext::of_payment(hash));
    }
}

impl TraceContext {
    /// Of a call whose caller said nothing.
    #[must_use]
    pub fn fresh() -> Self {
        Self { trace_id: rand::random(), span_id: rand::random(), sampled: false }
    }

    /// Of a payment: the same at every replica, so that its HTLCs at several front nodes meet in one trace.
    #[must_use]
    pub fn of_payment(hash: &[u8; 32]) -> Self {
        let sampled = EXPORTER.get().is_some_and(|exporter| exporter.samples_payment(hash));
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        for (to, from) in trace_id.iter_mut().chain(&mut span_id).zip(hash) {
            *to = *from;
        }
        Self { trace_id, span_id, sampled }
    }

    /// From the header; `None` if it does not follow the specification.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let [version] = lower_hex(version)?;
        // Later versions may append fields, this one may not.
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return None;
        }
        let (trace_id, span_id, [flags]) = (lower_hex(trace)?, lower_hex(span)?, lower_hex(flags)?);
        let context = Self { trace_id, span_id, sampled: flags & SAMPLED != 0 };
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(context)
    }

    /// For the header.
    #[must_use]
    pub fn header(&self) -> String {
        let flags = if self.sampled { SAMPLED } else { 0 };
        format!("00-{}-{}-{flags:02x}", hex::encode(self.trace_id), hex::encode(self.span_id))
    }

    /// The trace's name, for log lines.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// Whether the steps of this call belong into the ordinary log: the caller asks that they be recorded, and
    /// nobody else does it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.sampled && EXPORTER.get().is_none()
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.header())
    }
}

/// Exactly so many bytes in lower-case hexadecimal.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(bytes)
}

/// Writes a log line for a step of a call: at level info if its caller asked for it, at level debug otherwise.
#[macro_export]
macro_rules! trace_step {
    ($context:expr, $($line:tt)+) => {
        match $context {
            Some(context) if context.is_told() => tracing::info!(trace_id = %context.id(), $($line)+),
            Some(context) => tracing::debug!(trace_id = %context.id(), $($line)+),
            None => tracing::debug!($($line)+),
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_round_trips() {
        let context = TraceContext::parse(GIVEN).unwrap();
        assert!(context.sampled);
        assert_eq!(context.header(), GIVEN);
        assert_eq!(context.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = format!("cc-{}-00-what-the-future-brings", &GIVEN[3..52]);
        assert!(!TraceContext::parse(&later).unwrap().sampled);
    }

    #[test]
    fn what_does_not_follow_the_specification_is_not_taken() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_payment_has_one_trace_everywhere() {
        let hash = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let context = TraceContext::of_payment(&hash);
        assert_eq!(context.trace_id, hash[..16]);
        assert_eq!(context.span_id, hash[16..24]);
    }

    #[tokio::test]
    async fn the_context_goes_with_the_task() {
        assert_eq!(current(), None);
        let context = TraceContext::parse(GIVEN);
        assert_eq!(scope(context, async { current() }).await, context);
        let inner = scope(context, async { begin(&Span::none(), current()) }).await;
        assert_eq!(inner.trace_id, context.unwrap().trace_id);
        assert_ne!(inner.span_id, context.unwrap().span_id);
        assert_eq!(current(), None);
    }
}

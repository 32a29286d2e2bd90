//! The record of one call: its span, its code, its time, its place in the count.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::propagation::Extractor;
use opentelemetry::{Context, KeyValue};
use tonic::{Code, Status};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::method::Method;
use crate::drain::Ticket;
use crate::telemetry;
use crate::telemetry::names::{attribute, label, metric};

/// The instruments of all calls.
#[derive(Debug)]
pub(crate) struct Instruments {
    requests: Counter<u64>,
    durations: Histogram<f64>,
}

impl Instruments {
    pub(crate) fn new() -> Self {
        Self {
            requests: telemetry::counter(&metric::REQUESTS),
            durations: telemetry::histogram(&metric::REQUEST_DURATION),
        }
    }
}

/// A call from its arrival to its end, which is when this is dropped.
pub(crate) struct Record {
    pub(crate) span: Span,
    method: Arc<Method>,
    instruments: Arc<Instruments>,
    begun: Instant,
    code: Option<Code>,
    _ticket: Option<Ticket>,
}

impl Record {
    pub(crate) fn begin(
        stage: &'static str,
        method: Arc<Method>,
        headers: &HeaderMap,
        instruments: Arc<Instruments>,
        ticket: Option<Ticket>,
    ) -> Self {
        let span = span(stage, &method, headers);
        Self { span, method, instruments, begun: Instant::now(), code: None, _ticket: ticket }
    }

    /// Notes how the call ends, where a head or trailers say so.
    pub(crate) fn note_headers(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.note(status.code());
        }
    }

    /// Notes how the call ends. The first note counts.
    pub(crate) fn note(&mut self, code: Code) {
        self.code.get_or_insert(code);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // No status was sent: the caller went away, or its connection.
        let code = self.code.unwrap_or(Code::Cancelled);
        let seconds = self.begun.elapsed().as_secs_f64();
        self.span.record(attribute::RPC_STATUS_CODE, code as i64);
        if is_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
        if self.method.control {
            return;
        }
        let name = code_name(code);
        let method = &self.method.name;
        self.span.in_scope(|| {
            // A context for the exemplars, too.
            tracing::debug!(method, code = name, seconds, "call ended");
            let mut labels = vec![
                KeyValue::new(label::SERVICE, self.method.service.clone()),
                KeyValue::new(label::METHOD, self.method.method.clone()),
            ];
            self.instruments.durations.record(seconds, &labels);
            labels.push(KeyValue::new(label::CODE, name));
            self.instruments.requests.add(1, &labels);
        });
    }
}

/// The span of a call, continuing its caller's trace.
fn span(stage: &'static str, method: &Method, headers: &HeaderMap) -> Span {
    macro_rules! span {
        ($level:expr) => {
            tracing::span!(
                target: "easel_server::call",
                $level,
                "call",
                otel.name = method.name,
                otel.kind = "server",
                otel.status_code = Empty,
                { attribute::RPC_SYSTEM } = "grpc",
                { attribute::RPC_SERVICE } = &*method.service,
                { attribute::RPC_METHOD } = &*method.method,
                { attribute::RPC_STATUS_CODE } = Empty,
                { attribute::STAGE } = stage,
            )
        };
    }
    let span = match method.control {
        true => span!(tracing::Level::DEBUG),
        false => span!(tracing::Level::INFO),
    };
    let caller = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &Headers(headers))
    });
    // Fails where no layer traces this span: then there is nothing to continue.
    let _ = span.set_parent(caller);
    span
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// Whether a code tells of a fault of the server, by OpenTelemetry's conventions for gRPC servers.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The code's name in the gRPC specification.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

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
    // Code and message.
    end: Option<(Code, String)>,
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
        Self { span, method, instruments, begun: Instant::now(), end: None, _ticket: ticket }
    }

    /// Notes how the call ends, where a head or trailers say so.
    pub(crate) fn note_headers(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.note(&status);
        }
    }

    /// Notes how the call ends. The first note counts.
    pub(crate) fn note(&mut self, status: &Status) {
        self.end.get_or_insert_with(|| (status.code(), status.message().to_owned()));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // No status was sent: the caller went away, or its connection.
        let (code, message) = self.end.take().unwrap_or((Code::Cancelled, String::new()));
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
            match code {
                Code::ResourceExhausted => tracing::info!(method, code = name, message, "a call was refused"),
                Code::Unimplemented => tracing::debug!(method, code = name, message, "a call failed"),
                code if is_fault(code) => tracing::warn!(method, code = name, message, "a call failed"),
                _ => {}
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;
    use std::sync::Mutex;

    use super::*;
    use crate::layer::method::Methods;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged at info of a call of `path` that ends with `status`.
    fn logged(path: &str, status: &Status) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let method = Methods::new(easel_proto::FILE_DESCRIPTOR_SET).unwrap().of(path);
            let instruments = Arc::new(Instruments::new());
            Record::begin("sampler", method, &HeaderMap::new(), instruments, None).note(status);
        });
        let lines = lines.0.lock().unwrap().clone();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn failed_calls_are_logged_inside_their_span() {
        let sample = "/easel.v1.SamplerService/Sample";
        let line = logged(sample, &Status::unavailable("loading the model"));
        for part in ["WARN", "call{", "easel.v1.SamplerService/Sample", "UNAVAILABLE", "loading the model"] {
            assert!(line.contains(part), "{line} lacks {part}");
        }
        assert!(logged(sample, &Status::resource_exhausted("the queue is full")).contains("INFO"));
        assert_eq!(logged(sample, &Status::invalid_argument("prompt: too long")), "");
        assert_eq!(logged("/easel.v1.StatusService/GetStatus", &Status::internal("internal error")), "");
    }
}

//! One call: what came with it from the caller, and what goes with it to the next service.

use std::time::Duration;

use opentelemetry::propagation::Injector;
use tokio::time::Instant;
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// When the caller stops waiting. The request layer takes it from grpc-timeout and enforces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// The deadline that is `time` from now.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The deadline of the call that `request` came with; none when its caller waits for ever.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }

    /// Time left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_past(self) -> bool {
        self.0 <= Instant::now()
    }

    /// The same moment for code that knows no tokio.
    pub fn instant(self) -> std::time::Instant {
        self.0.into_std()
    }

    /// Returns when it has passed.
    pub async fn passed(self) {
        tokio::time::sleep_until(self.0).await;
    }
}

/// A request to another service on behalf of this call: carries the current span's trace context and, as
/// grpc-timeout, the time that is left until `deadline`.
pub fn outgoing<T>(message: T, deadline: Option<Deadline>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(deadline) = deadline {
        request.set_timeout(deadline.remaining());
    }
    let context = tracing::Span::current().context();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Metadata(request.metadata_mut()));
    });
    request
}

struct Metadata<'a>(&'a mut MetadataMap);

impl Injector for Metadata<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        // A propagator that makes a key or a value that no header can carry loses it, no more.
        if let (Ok(key), Ok(value)) = (key, value.parse::<MetadataValue<_>>()) {
            self.0.insert(key, value);
        }
    }
}

/// The truth about a failed call to another service: tonic's client answers CANCELLED when grpc-timeout
/// passes before the response's head, and this gives DEADLINE_EXCEEDED then.
pub fn settle(status: Status, deadline: Option<Deadline>) -> Status {
    let passed = deadline.is_some_and(Deadline::is_past);
    if passed && status.code() == Code::Cancelled {
        return crate::status::deadline_exceeded();
    }
    status
}

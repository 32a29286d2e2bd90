//! What happens around every call: trace, deadline, metrics, drain, panics.
//!
//! A call goes on until its response's body ends. Until then its span is open, it is counted as running, and its
//! deadline holds: when that passes, the handler or its stream is dropped, and the caller reads DEADLINE_EXCEEDED.
//! (tonic's own time-out bounds the head alone and answers CANCELLED.)

mod body;
mod interrupt;
mod method;
mod record;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::Status;
use tower::{Layer, Service};

pub use self::body::CallBody;
use self::interrupt::{Interrupt, RETRY_AFTER, parse_timeout};
use self::method::Methods;
use self::record::{Instruments, Record};
use crate::drain::Drain;
use crate::{Deadline, Error, status};

/// The tower layer that [`serve`](crate::serve::serve) puts around every call.
#[derive(Clone, Debug)]
pub struct RequestLayer {
    stage: &'static str,
    methods: Arc<Methods>,
    instruments: Arc<Instruments>,
    drain: Drain,
}

impl RequestLayer {
    /// The layer of the service `stage`, whose methods are in `descriptors` (a `FileDescriptorSet`) and whose calls
    /// `drain` counts. Build it after telemetry.
    ///
    /// # Errors
    /// [`Error::Descriptors`] when the descriptors cannot be read.
    pub fn new(stage: &'static str, descriptors: &[u8], drain: Drain) -> Result<Self, Error> {
        Ok(Self {
            stage,
            methods: Arc::new(Methods::new(descriptors)?),
            instruments: Arc::new(Instruments::new()),
            drain,
        })
    }
}

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> RequestService<S> {
        let layer = self.clone();
        RequestService { inner, layer }
    }
}

/// A service inside a [`RequestLayer`].
#[derive(Clone, Debug)]
pub struct RequestService<S> {
    inner: S,
    layer: RequestLayer,
}

impl<S, B> Service<Request<B>> for RequestService<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>>,
{
    type Response = Response<CallBody>;
    type Error = S::Error;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let layer = &self.layer;
        let method = layer.methods.of(request.uri().path());
        let ticket = match method.control {
            true => None,
            false => layer.drain.admit(),
        };
        let refused = !method.control && ticket.is_none();
        let timeout = request.headers().get("grpc-timeout");
        let deadline = timeout.and_then(parse_timeout).map(Deadline::after);
        let instruments = layer.instruments.clone();
        let record = Record::begin(layer.stage, method, request.headers(), instruments, ticket);
        let interrupt = Interrupt::new(deadline, &layer.drain);
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let inner = match refused {
            true => None,
            false => Some(record.span.in_scope(|| self.inner.call(request))),
        };
        CallFuture { inner, call: Some((record, interrupt)) }
    }
}

pin_project! {
    /// A call until its response's head.
    pub struct CallFuture<F> {
        // None: the call was refused, or is over.
        #[pin]
        inner: Option<F>,
        // Goes on with the body.
        call: Option<(Record, Interrupt)>,
    }
}

impl<F, E> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, E>>,
{
    type Output = Result<Response<CallBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (record, interrupt) = this.call.as_mut().expect("not polled after the head");
        let span = record.span.clone();
        let _inside = span.enter();
        let response = match this.inner.as_mut().as_pin_mut() {
            None => status::unavailable("draining", RETRY_AFTER).into_http(),
            Some(inner) => match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(Poll::Ready(Ok(response))) => response,
                Ok(Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
                Ok(Poll::Pending) => match interrupt.poll(cx) {
                    Some(status) => status.into_http(),
                    None => return Poll::Pending,
                },
                Err(_) => {
                    tracing::error!("a handler panicked");
                    Status::internal("internal error").into_http()
                }
            },
        };
        this.inner.set(None);
        record.note_headers(response.headers());
        let (record, interrupt) = this.call.take().expect("it was there a moment ago");
        Poll::Ready(Ok(response.map(|body| CallBody::new(body, interrupt, record))))
    }
}

//! The response's body: the call goes on until it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::interrupt::Interrupt;
use super::record::Record;

/// A handler's body under its call's deadline, inside its call's span.
pub struct CallBody {
    // None once the call is over: the handler's stream is dropped at that moment, not when the transport gets to it.
    inner: Option<tonic::body::Body>,
    interrupt: Interrupt,
    record: Record,
}

impl CallBody {
    pub(super) fn new(inner: tonic::body::Body, interrupt: Interrupt, record: Record) -> Self {
        Self { inner: Some(inner), interrupt, record }
    }

    /// Ends the call with `status`, which goes into the trailers.
    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.inner = None;
        self.record.note(status.code());
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).expect("a status of our own has a message and details that fit a header");
        Frame::trailers(trailers)
    }
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let span = this.record.span.clone();
        let _inside = span.enter();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Some(status) = this.interrupt.poll(cx) {
            return Poll::Ready(Some(Ok(this.end(status))));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        let Ok(polled) = polled else {
            tracing::error!("a handler's stream panicked");
            return Poll::Ready(Some(Ok(this.end(Status::internal("internal error")))));
        };
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.record.note_headers(trailers);
                }
            }
            Some(Err(status)) => this.record.note(status.code()),
            None => {
                // Without trailers the head said it all, or it was no gRPC.
                this.record.note(Code::Unknown);
                this.inner = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

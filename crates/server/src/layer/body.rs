//! The response's body: the call goes on until it ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tonic::Status;

use super::interrupt::Interrupt;
use super::record::Record;
use crate::{Deadline, status};

/// A handler's body under its call's deadline, inside its call's span.
pub struct CallBody {
    inner: Slot,
    // Set once the body has ended, by itself or otherwise.
    ended: bool,
    interrupt: Interrupt,
    record: Record,
    watchdog: Option<AbortHandle>,
}

/// Empty once the call is over: the handler's stream is dropped at that moment, not when the transport gets to it.
type Slot = Arc<Mutex<Option<tonic::body::Body>>>;

impl CallBody {
    pub(super) fn new(inner: tonic::body::Body, interrupt: Interrupt, record: Record) -> Self {
        let inner = Slot::new(Mutex::new(Some(inner)));
        let watchdog = interrupt.deadline().map(|deadline| watch(inner.clone(), deadline));
        Self { inner, ended: false, interrupt, record, watchdog }
    }

    /// Ends the call with `status`, which goes into the trailers.
    fn end(&mut self, status: Status) -> Frame<Bytes> {
        self.close();
        self.record.note(&status);
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).expect("a status of our own has a message and details that fit a header");
        Frame::trailers(trailers)
    }

    fn close(&mut self) {
        self.ended = true;
        open(&self.inner).take();
    }
}

impl Drop for CallBody {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
        let late = !self.ended && self.interrupt.deadline().is_some_and(Deadline::is_past);
        if late {
            self.record.note(&status::deadline_exceeded());
        }
    }
}

/// Empties `slot` at the deadline even where nobody polls the body: the transport does not while the client reads
/// nothing.
fn watch(slot: Slot, deadline: Deadline) -> AbortHandle {
    let watching = tokio::spawn(async move {
        deadline.passed().await;
        open(&slot).take();
    });
    watching.abort_handle()
}

fn open(slot: &Slot) -> MutexGuard<'_, Option<tonic::body::Body>> {
    // Panics inside are caught, and leave a body that is dropped next.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let span = this.record.span.clone();
        let _inside = span.enter();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(status) = this.interrupt.poll(cx) {
            return Poll::Ready(Some(Ok(this.end(status))));
        }
        let poll = |inner: &mut tonic::body::Body| Pin::new(inner).poll_frame(cx);
        let polled = catch_unwind(AssertUnwindSafe(|| open(&this.inner).as_mut().map(poll)));
        let frame = match polled {
            Ok(Some(polled)) => ready!(polled),
            // The watchdog came in between.
            Ok(None) => return Poll::Ready(Some(Ok(this.end(status::deadline_exceeded())))),
            Err(_) => {
                tracing::error!("a handler's stream panicked");
                return Poll::Ready(Some(Ok(this.end(Status::internal("internal error")))));
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.record.note_headers(trailers);
                }
            }
            Some(Err(status)) => this.record.note(status),
            None => {
                // Without trailers the head said it all, or it was no gRPC.
                this.record.note(&Status::unknown("the response ended without a status"));
                this.close();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || open(&self.inner).as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &*open(&self.inner) {
            Some(inner) => inner.size_hint(),
            None => SizeHint::default(),
        }
    }
}

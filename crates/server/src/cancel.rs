//! Work that nobody awaits is dropped: a token reaches from the response's stream to the slot.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use pin_project_lite::pin_project;
pub use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

pin_project! {
    /// A stream that cancels a token when it is dropped. See [`guarded_stream`].
    #[derive(Debug)]
    pub struct Guarded<S> {
        #[pin]
        stream: S,
        guard: DropGuard,
    }
}

/// Ties `token` to `stream`: it is cancelled when the stream is dropped, be it because the caller went away,
/// because the deadline passed, because the drain cut the call, or at the normal end (when nobody listens any more).
///
/// The handler of a stream returns it, and hands clones of the token to the work that feeds the stream.
pub fn guarded_stream<S: Stream>(stream: S, token: CancellationToken) -> Guarded<S> {
    Guarded { stream, guard: token.drop_guard() }
}

impl<S: Stream> Stream for Guarded<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().stream.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

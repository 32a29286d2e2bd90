//! What happens to a call before it is read: it needs a place among those in work, and a deadline. And what happens to
//! one that cannot be read: its caller is told which field is wrong.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use easel_server::{Deadline, status};
use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::fault::RETRY_AFTER;

/// Methods that make the stages work. Others only ask, and are always let in.
const WORK: &[&str] = &["Generate", "Classify", "Embed"];

/// Time that is kept of a caller's for the answer that it has run out.
const LAST_WORD: Duration = Duration::from_millis(50);

/// A place among the requests in work, for as long as one of its clones lives.
#[derive(Clone, Debug)]
pub(crate) struct Place(#[allow(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>);

/// The gateway's service behind its guard.
#[derive(Clone, Debug)]
pub(crate) struct Guard<S> {
    inner: S,
    places: Arc<Semaphore>,
    default_timeout: Duration,
}

impl<S> Guard<S> {
    /// Lets as many calls work at once as `places` has permits, each for `default_timeout` unless its caller says.
    pub(crate) fn new(inner: S, places: Arc<Semaphore>, default_timeout: Duration) -> Self {
        Self { inner, places, default_timeout }
    }

    /// The call's deadline and, if it is work, its place; both stand in the request's extensions as well.
    fn admit(&self, request: &mut Request<Body>) -> Result<(Deadline, Option<Place>), Status> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let mut held = None;
        if WORK.contains(&method) {
            let place = self.places.clone().try_acquire_owned();
            let place = place.map_err(|_| status::exhausted("too many requests are in work", RETRY_AFTER))?;
            let place = held.insert(Place(Arc::new(place)));
            request.extensions_mut().insert(place.clone());
        }
        let default = Deadline::after(self.default_timeout);
        let deadline = request.extensions_mut().get_or_insert(default);
        *deadline = in_time(*deadline);
        Ok((*deadline, held))
    }
}

/// When the work ends so that its caller, who waits until `deadline`, still hears which stage was late.
fn in_time(deadline: Deadline) -> Deadline {
    Deadline(deadline.0 - LAST_WORD.min(deadline.remaining() / 10))
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (deadline, place) = match self.admit(&mut request) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(async { Ok(status.into_http()) }),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            // Until the answer's head, which is all of most answers; who streams more takes the request's own clone.
            let _place = place;
            match tokio::time::timeout_at(deadline.0, answer).await {
                Ok(response) => Ok(explain(response?)),
                Err(_) => Ok(status::deadline_exceeded().into_http()),
            }
        })
    }
}

/// `response`, unless it says that the request could not be read: then INVALID_ARGUMENT with the field.
fn explain(response: Response<Body>) -> Response<Body> {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(unreadable) {
        Some(status) => status.into_http(),
        None => response,
    }
}

/// tonic answers INTERNAL to a message that prost cannot read, and OUT_OF_RANGE to one over the limit, and has only
/// words to tell these from others.
fn unreadable(status: &Status) -> Option<Status> {
    const UNREADABLE: &str = "failed to decode Protobuf message: ";
    const TOO_LONG: &str = "Error, decoded message length too large: ";
    let message = status.message();
    if status.code() == Code::Internal
        && let Some(reason) = message.strip_prefix(UNREADABLE)
    {
        let (field, reason) = field_path(reason);
        return Some(status::invalid(field, reason));
    }
    if status.code() == Code::OutOfRange
        && let Some(reason) = message.strip_prefix(TOO_LONG)
    {
        return Some(status::invalid("request", format!("is too large: {reason}")));
    }
    None
}

/// "Cell.row: ImagePrompt.redraw_from: GenerateRequest.image: invalid varint" is about image.redraw_from.row.
fn field_path(reason: &str) -> (String, &str) {
    let mut fields = Vec::new();
    let mut rest = reason;
    while let Some((head, tail)) = rest.split_once(": ")
        && let Some((message, field)) = head.split_once('.')
        && [message, field].iter().all(|word| word.chars().all(|c| c.is_alphanumeric() || c == '_'))
    {
        fields.push(field);
        rest = tail;
    }
    fields.reverse();
    match fields.is_empty() {
        true => ("request".to_owned(), rest),
        false => (fields.join("."), rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tonic_types::StatusExt;

    use super::*;

    fn field(code: Code, message: &str) -> Option<String> {
        let told = unreadable(&Status::new(code, message))?;
        assert_eq!(told.code(), Code::InvalidArgument);
        Some(told.get_error_details().bad_request().unwrap().field_violations[0].field.clone())
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let utf8 = "failed to decode Protobuf message: GenerateRequest.prompt: invalid string value: data is not UTF-8 encoded";
        assert_eq!(field(Code::Internal, utf8).unwrap(), "prompt");
        let nested = "failed to decode Protobuf message: Cell.row: ImagePrompt.redraw_from: GenerateRequest.image: invalid varint";
        assert_eq!(field(Code::Internal, nested).unwrap(), "image.redraw_from.row");
        let bare = "failed to decode Protobuf message: invalid tag value: 0";
        assert_eq!(field(Code::Internal, bare).unwrap(), "request");
        let long = "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
        assert_eq!(field(Code::OutOfRange, long).unwrap(), "request");
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        assert_eq!(field(Code::Internal, "internal error"), None);
        assert_eq!(field(Code::Unavailable, "sampler is unavailable"), None);
    }
}

//! One call of Decode, from its header to its last picture.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use async_stream::try_stream;
use easel_proto::stage;
use easel_proto::v1::{self, DecodeRequest, DecodeResponse, decode_request, decode_response};
use easel_server::batcher::{self, Admission, Job, Priority, Ticket};
use easel_server::packages::Packages;
use easel_server::telemetry::names::label;
use easel_server::{Deadline, status};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use tracing::Span;

use crate::Stage;
use crate::assembly::{Drawing, Grids};
use crate::model::{Both, Row, Rows, Shape};
use crate::pixels::paint_unknown;

/// Pictures of a call that are being made or wait to be taken; no chunk is read while there are that many.
const WINDOW: usize = 8;

/// What a call needs of the service.
pub(crate) struct Call {
    pub(crate) packages: Packages<Stage>,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) span: Span,
    pub(crate) pictures: Counter<u64>,
}

/// What happens next in a call.
enum Next {
    Request(Result<Option<DecodeRequest>, Status>),
    Drawn(Pending, Result<Both, batcher::Error>),
}

impl Call {
    /// The call's answers. All is done while they are polled: a caller that does not take them stops its own chunks, and one that goes away takes its work along.
    pub(crate) fn run(
        self,
        mut requests: Streaming<DecodeRequest>,
    ) -> impl Stream<Item = Result<DecodeResponse, Status>> {
        try_stream! {
            let header = header(requests.message().await?)?;
            let package = self.packages.find(header.package.as_ref())?;
            let Stage { shape, ref batcher, .. } = package.stage;
            let every_tokens = header.previews.map_or(0, |previews| previews.every_tokens);
            let mut grids = Grids::new(shape, &header.candidates, every_tokens)?;
            let mut easel = Easel { admission: batcher.admit()?, pending: Vec::new(), call: &self };
            while !(grids.complete() && easel.pending.is_empty()) {
                let reading = !grids.complete() && easel.pending.len() < WINDOW;
                let next = tokio::select! {
                    biased;
                    (pending, result) = easel.next() => Next::Drawn(pending, result),
                    request = requests.message(), if reading => Next::Request(request),
                };
                match next {
                    Next::Drawn(pending, result) => {
                        let drawn = result?;
                        if pending.complete {
                            self.pictures.add(1, &[KeyValue::new(label::STAGE, stage::DECODER)]);
                        }
                        yield respond(pending, drawn, shape);
                    }
                    Next::Request(request) => match request? {
                        Some(request) => {
                            let v1::TokenChunk { candidate, start, tokens } = chunk(request)?;
                            if let Some(drawing) = grids.accept(candidate, start, &tokens)? {
                                easel.draw(drawing);
                            }
                        }
                        None => grids.finish()?,
                    },
                }
            }
        }
    }
}

/// A picture that is being made.
struct Pending {
    candidate: u32,
    known: usize,
    complete: bool,
    ticket: Ticket<Rows>,
}

/// The pictures of a call in the making.
struct Easel<'a> {
    admission: Admission<Rows>,
    /// In the order of their submission.
    pending: Vec<Pending>,
    call: &'a Call,
}

impl Easel<'_> {
    /// Submits a drawing. Every preview is made, however busy the model is: a caller asked for so many.
    fn draw(&mut self, drawing: Drawing) {
        let Drawing { candidate, known, tokens, complete } = drawing;
        let priority = if complete { Priority::High } else { Priority::Normal };
        let (deadline, span) = (self.call.deadline, self.call.span.clone());
        let job = Job { input: Row::Tokens(tokens), priority, deadline, span };
        let ticket = self.admission.submit(job);
        self.pending.push(Pending { candidate, known, complete, ticket });
    }

    /// The next picture that is made, a candidate's in the order of their submission; never, when none is pending.
    async fn next(&mut self) -> (Pending, Result<Both, batcher::Error>) {
        poll_fn(|cx| {
            for at in 0..self.pending.len() {
                let (earlier, rest) = self.pending.split_at_mut(at);
                let pending = &mut rest[0];
                // A whole picture is run before previews that wait, its own among them.
                if earlier.iter().any(|other| other.candidate == pending.candidate) {
                    continue;
                }
                if let Poll::Ready(result) = Pin::new(&mut pending.ticket).poll(cx) {
                    return Poll::Ready((self.pending.remove(at), result));
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn header(first: Option<DecodeRequest>) -> Result<decode_request::Header, Status> {
    match first.and_then(|request| request.message) {
        Some(decode_request::Message::Header(header)) => Ok(header),
        _ => Err(status::invalid("header", "must come first")),
    }
}

fn chunk(request: DecodeRequest) -> Result<v1::TokenChunk, Status> {
    match request.message {
        Some(decode_request::Message::Chunk(chunk)) => Ok(chunk),
        Some(decode_request::Message::Header(_)) => Err(status::invalid("header", "must come once")),
        None => Err(status::invalid("message", "must be given")),
    }
}

fn respond(pending: Pending, drawn: Both, shape: Shape) -> DecodeResponse {
    let Pending { candidate, known, complete, .. } = pending;
    let mut pixels = drawn.pixels;
    paint_unknown(&mut pixels, known, shape.grid, shape.image);
    let picture = Some(v1::Picture { width: shape.image.width, height: shape.image.height, rgb8: pixels.into() });
    let event = match complete {
        true => decode_response::Event::Finished(decode_response::Finished { candidate, picture }),
        false => {
            let tokens_done = known as u32;
            decode_response::Event::Preview(decode_response::Preview { candidate, tokens_done, picture })
        }
    };
    DecodeResponse { event: Some(event) }
}

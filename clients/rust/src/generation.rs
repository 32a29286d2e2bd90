use std::pin::Pin;
use std::task::{Context, Poll};

use easel_proto::v1;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};
use tonic::Streaming;

use crate::event::{Event, Picture, Started};
use crate::{Error, Finished, Ranking};

/// Pictures in the making: a stream of [`Event`]s that remembers what it takes to tell the [`Outcome`].
///
/// Dropping it cancels the work in every stage.
#[derive(Debug)]
pub struct Generation {
    responses: Streaming<v1::GenerateResponse>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
    started: Option<Started>,
    pictures: Vec<Picture>,
    ranking: Ranking,
    finished: Option<Finished>,
}

/// How a generation ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What was drawn, and with which parameters.
    pub started: Started,
    /// The pictures that were sent, best first; by candidate when nothing ranks.
    pub pictures: Vec<Picture>,
    /// All candidates, best first.
    pub ranking: Ranking,
    /// Seeds and times.
    pub finished: Finished,
}

impl Generation {
    pub(crate) fn new(responses: Streaming<v1::GenerateResponse>, deadline: Option<Instant>) -> Self {
        Self {
            responses,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            ended: false,
            started: None,
            pictures: Vec::new(),
            ranking: Ranking::default(),
            finished: None,
        }
    }

    /// The next event; none after the last.
    ///
    /// # Errors
    /// What ended the generation: see [`Error`].
    pub async fn event(&mut self) -> Result<Option<Event>, Error> {
        self.next().await.transpose()
    }

    /// Waits for the end. Events that were already taken count.
    ///
    /// # Errors
    /// What ended the generation, or [`Error::Incomplete`] when the gateway's answer broke off.
    pub async fn finish(mut self) -> Result<Outcome, Error> {
        while self.event().await?.is_some() {}
        let started = self.started.ok_or(Error::Incomplete { what: "the event \"started\"" })?;
        let finished = self.finished.ok_or(Error::Incomplete { what: "the event \"finished\"" })?;
        let place = |picture: &Picture| {
            let place = self.ranking.entries.iter().position(|ranked| ranked.candidate == picture.candidate);
            (place.unwrap_or(usize::MAX), picture.candidate)
        };
        let mut pictures = self.pictures;
        pictures.sort_by_key(place);
        Ok(Outcome { started, pictures, ranking: self.ranking, finished })
    }

    fn remember(&mut self, event: &Event) {
        match event {
            Event::Started(started) => self.started = Some(started.clone()),
            Event::Picture(picture) => self.pictures.push(picture.clone()),
            Event::Ranking(ranking) => self.ranking.clone_from(ranking),
            Event::Finished(finished) => self.finished = Some(finished.clone()),
            Event::Queued(_) | Event::Progress(_) | Event::Preview(_) => {}
        }
    }
}

impl Stream for Generation {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.responses.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(response))) => Some(Event::try_from(response)),
            Poll::Ready(Some(Err(status))) => Some(Err(status.into())),
            Poll::Ready(None) => None,
            // The gateway holds itself to the deadline; this is for one that does not answer any more.
            Poll::Pending => match &mut self.deadline {
                Some(deadline) => match deadline.as_mut().poll(cx) {
                    Poll::Ready(()) => Some(Err(Error::deadline())),
                    Poll::Pending => return Poll::Pending,
                },
                None => return Poll::Pending,
            },
        };
        match &next {
            Some(Ok(event)) => self.remember(event),
            Some(Err(_)) | None => self.ended = true,
        }
        Poll::Ready(next)
    }
}

//! What a request has to tell its caller. A caller that reads slowly gets the newest progress and previews, all
//! pictures, and holds nobody up but its own request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use easel_proto::v1::Picture;
use easel_proto::v1::generate_response::{Progress, Queued, Ranking, Started};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::board::Complete;

/// Finished pictures that wait for the caller; more wait where they come from.
const WINDOW: usize = 4;

/// An event, with its pixels still raw: what the caller never reads is never encoded.
#[derive(Debug)]
pub(crate) enum Event {
    Queued(Queued),
    Started(Box<Started>),
    Progress(Progress),
    Preview { candidate: u32, tokens_done: u32, picture: Picture },
    Picture(Box<Complete>, OwnedSemaphorePermit),
    Ranking(Ranking),
    Finished { tokens_drawn: u32 },
}

impl Event {
    /// Whether this takes the place of `earlier`, if the caller has not read that.
    fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Queued(_), Self::Queued(_)) => true,
            (Self::Progress(new), Self::Progress(old)) => new.candidate == old.candidate,
            (Self::Preview { candidate, .. }, Self::Preview { candidate: other, .. }) => candidate == other,
            _ => false,
        }
    }
}

/// The events of one request that its caller has not read yet.
pub(crate) struct Outbox {
    state: Mutex<State>,
    arrived: Notify,
    emptied: Notify,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    end: Option<Result<(), Status>>,
    read: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            emptied: Notify::new(),
            room: Arc::new(Semaphore::new(WINDOW)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics with it")
    }

    /// Puts an event last, or in the place of an older one that says less.
    pub(crate) fn put(&self, event: Event) {
        let mut state = self.state();
        match state.events.iter_mut().find(|earlier| event.replaces(earlier)) {
            Some(earlier) => *earlier = event,
            None => state.events.push_back(event),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Puts a picture last, when there is room for it.
    pub(crate) async fn put_picture(&self, picture: Complete) {
        let room = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        self.put(Event::Picture(Box::new(picture), room));
    }

    /// The request is over: what is left is read, then its result.
    pub(crate) fn close(&self, result: Result<(), Status>) {
        self.state().end.get_or_insert(result);
        self.arrived.notify_one();
    }

    /// The request is over, and what the caller has not read is lost.
    pub(crate) fn abort(&self, status: Status) {
        let mut state = self.state();
        state.events.clear();
        state.end = Some(Err(status));
        drop(state);
        self.arrived.notify_one();
    }

    /// Returns when all has been read.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// The next event, or what the request came to; `None` after that.
    pub(crate) async fn next(&self) -> Option<Result<Event, Status>> {
        loop {
            {
                let mut state = self.state();
                if let Some(event) = state.events.pop_front() {
                    return Some(Ok(event));
                }
                if state.read {
                    return None;
                }
                if let Some(end) = state.end.take() {
                    state.read = true;
                    self.emptied.notify_one();
                    return end.err().map(Err);
                }
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;

    use super::*;

    fn progress(candidate: u32, tokens_done: u32) -> Event {
        Event::Progress(Progress { candidate, tokens_done, ..Progress::default() })
    }

    fn picture(candidate: u32) -> Complete {
        let (picture, image_tokens) = (Picture::default(), Vec::new());
        Complete { candidate, seed: 0, picture, clip_score: None, image_tokens, log_likelihood: 0.0 }
    }

    #[tokio::test]
    async fn newer_progress_takes_the_place_of_older() {
        let outbox = Outbox::new();
        for event in [progress(0, 1), progress(1, 1), progress(0, 2), progress(0, 3)] {
            outbox.put(event);
        }
        let mut read = Vec::new();
        while let Some(Some(Ok(Event::Progress(progress)))) = outbox.next().now_or_never() {
            read.push((progress.candidate, progress.tokens_done));
        }
        assert_eq!(read, [(0, 3), (1, 1)]);
    }

    #[tokio::test]
    async fn pictures_wait_for_the_reader_and_none_is_lost() {
        let outbox = Outbox::new();
        for candidate in 0..WINDOW as u32 {
            outbox.put_picture(picture(candidate)).await;
        }
        let mut waiting = Box::pin(outbox.put_picture(picture(99)));
        assert!((&mut waiting).now_or_never().is_none(), "the window is full");
        assert!(matches!(outbox.next().await, Some(Ok(Event::Picture(..)))));
        waiting.await;
        outbox.close(Ok(()));
        let mut pictures = 0;
        while let Some(event) = outbox.next().await {
            assert!(matches!(event.unwrap(), Event::Picture(..)));
            pictures += 1;
        }
        assert_eq!(pictures, WINDOW);
        outbox.emptied().await;
    }

    #[tokio::test]
    async fn an_end_comes_after_what_is_left_and_an_abort_at_once() {
        let outbox = Outbox::new();
        outbox.put(progress(0, 1));
        outbox.close(Err(Status::unavailable("gone")));
        assert!(outbox.next().await.unwrap().is_ok());
        assert_eq!(outbox.next().await.unwrap().unwrap_err().message(), "gone");
        assert!(outbox.next().await.is_none());

        let outbox = Outbox::new();
        outbox.put(progress(0, 1));
        outbox.abort(Status::deadline_exceeded("late"));
        assert!(outbox.next().await.unwrap().is_err());
        assert!(outbox.next().await.is_none());
    }
}

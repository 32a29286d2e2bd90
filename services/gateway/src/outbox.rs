//! What a request has to tell its caller. A caller that reads slowly gets the newest progress and previews, all
//! pictures, and holds nobody up but its own request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use easel_proto::v1::Picture;
use easel_proto::v1::generate_response::{Progress, Queued, Ranking, Started};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::board::Complete;

/// Finished pictures between the decoder and the caller; more wait in the decoder.
const PICTURES: usize = 16;
/// Candidates of which a preview waits for the caller.
const PREVIEWS: usize = 16;

/// Room for one picture, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A candidate as far as it is drawn.
#[derive(Debug)]
pub(crate) struct Preview {
    pub(crate) candidate: u32,
    pub(crate) tokens_done: u32,
    pub(crate) picture: Picture,
}

/// An event, with its pixels still raw: what the caller never reads is never encoded.
#[derive(Debug)]
pub(crate) enum Event {
    Queued(Queued),
    Started(Box<Started>),
    Progress(Progress),
    Preview(Preview, Option<Room>),
    Picture(Box<Complete>),
    Ranking(Ranking),
    Finished { tokens_drawn: u32 },
}

impl Event {
    /// Whether this takes the place of `earlier`, if the caller has not read that.
    fn replaces(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Queued(_), Self::Queued(_)) => true,
            (Self::Progress(new), Self::Progress(old)) => new.candidate == old.candidate,
            (Self::Preview(new, _), earlier) => earlier.is_preview_of(new.candidate),
            _ => false,
        }
    }

    fn is_preview_of(&self, candidate: u32) -> bool {
        matches!(self, Self::Preview(preview, _) if preview.candidate == candidate)
    }

    /// Takes the place of `earlier`, and its room.
    fn replace(mut self, earlier: &mut Self) {
        if let (Self::Preview(_, room), Self::Preview(_, older)) = (&mut self, &mut *earlier) {
            *room = room.take().or(older.take());
        }
        *earlier = self;
    }
}

/// The events of one request that its caller has not read yet.
pub(crate) struct Outbox {
    state: Mutex<State>,
    arrived: Notify,
    emptied: Notify,
    pictures: Arc<Semaphore>,
    previews: Arc<Semaphore>,
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
            pictures: Arc::new(Semaphore::new(PICTURES)),
            previews: Arc::new(Semaphore::new(PREVIEWS)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics with it")
    }

    /// Puts an event last, or in the place of an older one that says less.
    pub(crate) fn put(&self, event: Event) {
        let mut state = self.state();
        match state.events.iter_mut().find(|earlier| event.replaces(earlier)) {
            Some(earlier) => event.replace(earlier),
            None => state.events.push_back(event),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Room for a picture, as soon as there is some.
    pub(crate) async fn room(&self) -> Room {
        Room(self.pictures.clone().acquire_owned().await.expect("the semaphore is never closed"))
    }

    /// Puts a preview in the place of an older one of its candidate, or last when there is room for it.
    pub(crate) async fn put_preview(&self, preview: Preview) {
        let replaces = self.state().events.iter().any(|earlier| earlier.is_preview_of(preview.candidate));
        let room = match replaces {
            true => None,
            false => Some(Room(self.previews.clone().acquire_owned().await.expect("the semaphore is never closed"))),
        };
        self.put(Event::Preview(preview, room));
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
        Complete { candidate, seed: 0, picture, clip_score: None, image_tokens, log_likelihood: 0.0, room: None }
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

    fn preview(candidate: u32, tokens_done: u32) -> Preview {
        Preview { candidate, tokens_done, picture: Picture::default() }
    }

    #[tokio::test]
    async fn previews_of_a_few_candidates_wait_and_the_newest_of_each() {
        let outbox = Outbox::new();
        for candidate in 0..PREVIEWS as u32 {
            outbox.put_preview(preview(candidate, 1)).await;
        }
        assert!(outbox.put_preview(preview(99, 1)).now_or_never().is_none(), "there is no room");
        outbox.put_preview(preview(0, 2)).await;
        let Some(Ok(Event::Preview(first, room))) = outbox.next().await else { panic!("no preview") };
        assert_eq!((first.candidate, first.tokens_done), (0, 2));
        drop(room);
        outbox.put_preview(preview(99, 1)).await;
    }

    #[tokio::test]
    async fn pictures_find_room_as_they_are_read() {
        let outbox = Outbox::new();
        for candidate in 0..PICTURES as u32 {
            let room = outbox.room().await;
            outbox.put(Event::Picture(Box::new(Complete { room: Some(room), ..picture(candidate) })));
        }
        let mut waiting = Box::pin(outbox.room());
        assert!((&mut waiting).now_or_never().is_none(), "there is no room");
        assert!(matches!(outbox.next().await, Some(Ok(Event::Picture(..)))));
        waiting.await;
        outbox.close(Ok(()));
        let mut pictures = 1;
        while let Some(event) = outbox.next().await {
            assert!(matches!(event.unwrap(), Event::Picture(..)));
            pictures += 1;
        }
        assert_eq!(pictures, PICTURES);
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

//! What a request has to tell its caller. A caller that reads slowly gets the newest progress and previews, all
//! pictures, and holds nobody up but its own request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use easel_proto::v1::Picture;
use easel_proto::v1::generate_response::{Progress, Queued, Ranking, Started};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;

use crate::board::Complete;

/// Finished pictures between the decoder and the caller; more wait in the decoder.
const PICTURES: usize = 16;
/// Previews that wait for the caller.
const PREVIEWS: usize = 16;
/// How long a preview waits for room before its caller counts as slow. A gateway that is busy encodes that many in less.
const PATIENCE: Duration = Duration::from_secs(1);

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
    Preview(Preview, Room),
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
            _ => false,
        }
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
    /// A preview found no room, and the caller has read nothing since.
    slow: bool,
}

impl State {
    /// Shows `preview` instead of the newest of its candidate that was not read; where there is none, it is left out.
    fn replace(&mut self, preview: Preview) {
        let newest = self.events.iter_mut().rev().find_map(|event| match event {
            Event::Preview(older, _) if older.candidate == preview.candidate => Some(older),
            _ => None,
        });
        if let Some(newest) = newest {
            *newest = preview;
        }
    }
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
            Some(earlier) => *earlier = event,
            None => state.events.push_back(event),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Room for a picture, as soon as there is some.
    pub(crate) async fn room(&self) -> Room {
        Room(self.pictures.clone().acquire_owned().await.expect("the semaphore is never closed"))
    }

    /// Puts a preview last as soon as there is room for it: a caller that reads gets them all. One that does not holds
    /// its own request up no longer than [`PATIENCE`] and misses the older ones.
    pub(crate) async fn put_preview(&self, preview: Preview) {
        let (slow, previews) = (self.state().slow, self.previews.clone());
        let room = match slow {
            true => previews.try_acquire_owned().ok(),
            false => timeout(PATIENCE, previews.acquire_owned()).await.map_or(None, Result::ok),
        };
        match room {
            Some(room) => self.put(Event::Preview(preview, Room(room))),
            None => {
                let mut state = self.state();
                state.slow = true;
                state.replace(preview);
            }
        }
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
                    state.slow = false;
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
    use crate::rank::Likelihood;

    fn progress(candidate: u32, tokens_done: u32) -> Event {
        Event::Progress(Progress { candidate, tokens_done, ..Progress::default() })
    }

    fn picture(candidate: u32) -> Complete {
        let (picture, image_tokens) = (Picture::default(), Vec::new());
        let (clip_score, score, likelihood, room) = (None, None, Likelihood::default(), None);
        Complete { candidate, seed: 0, picture, clip_score, image_tokens, likelihood, score, room }
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

    /// Candidate and tokens of the previews that wait.
    fn read_previews(outbox: &Outbox) -> Vec<(u32, u32)> {
        let read = || match outbox.next().now_or_never()?? {
            Ok(Event::Preview(preview, _room)) => Some((preview.candidate, preview.tokens_done)),
            other => panic!("{other:?} is no preview"),
        };
        std::iter::from_fn(read).collect()
    }

    #[tokio::test]
    async fn a_caller_that_reads_gets_every_preview_however_fast_they_come() {
        let outbox = Outbox::new();
        let all: Vec<(u32, u32)> = (1..=4).flat_map(|done| (0..16).map(move |candidate| (candidate, done))).collect();
        let put = async {
            for &(candidate, done) in &all {
                outbox.put_preview(preview(candidate, done)).await;
            }
        };
        let read = async {
            let mut read = Vec::new();
            while read.len() < all.len() {
                tokio::task::yield_now().await;
                read.extend(read_previews(&outbox));
            }
            read
        };
        assert_eq!(tokio::join!(put, read).1, all);
    }

    #[tokio::test]
    async fn a_caller_that_does_not_read_misses_the_older_previews_and_waits_once() {
        let outbox = Outbox::new();
        for done in 1..=PREVIEWS as u32 / 2 {
            outbox.put_preview(preview(0, done)).await;
            outbox.put_preview(preview(1, done)).await;
        }
        assert!(outbox.put_preview(preview(0, 90)).now_or_never().is_none(), "there is no room");
        outbox.put_preview(preview(0, 91)).await;
        outbox.put_preview(preview(0, 92)).now_or_never().expect("the caller is known to be slow");
        outbox.put_preview(preview(2, 1)).now_or_never().expect("it is left out");
        let read = read_previews(&outbox);
        assert_eq!(read.len(), PREVIEWS);
        assert_eq!(read[PREVIEWS - 2..], [(0, 92), (1, PREVIEWS as u32 / 2)]);
        assert_eq!(read[..2], [(0, 1), (1, 1)]);
        outbox.put_preview(preview(2, 2)).now_or_never().expect("there is room again");
        assert_eq!(read_previews(&outbox), [(2, 2)]);
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

//! The way of a request's events from the owner thread to the caller: bounded, and never waited for.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use futures::Stream;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Event, Failure, inbox::Inbox};

/// What both ends know.
#[derive(Debug, Default)]
struct Link {
    /// The owner thread wants to be woken when an event is taken.
    full: AtomicBool,
    /// How it ended; set before the channel closes.
    outcome: Mutex<Option<Result<(), Failure>>>,
}

/// The owner thread's end.
#[derive(Debug)]
pub(super) struct Outlet {
    sender: mpsc::Sender<Event>,
    /// Events of the last step that found no room. While there are any the request is paused, so they stay few.
    overflow: VecDeque<Event>,
    paused_since: Option<Instant>,
    link: Arc<Link>,
}

/// The caller's end: the events, then nothing, or why it ended early. Dropping it gives the request up.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    ended: bool,
}

pub(super) fn channel(capacity: usize, inbox: Arc<Inbox>) -> (Outlet, Events) {
    let (sender, receiver) = mpsc::channel(capacity);
    let link = Arc::new(Link::default());
    let outlet = Outlet { sender, overflow: VecDeque::new(), paused_since: None, link: link.clone() };
    (outlet, Events { receiver, link, inbox, ended: false })
}

impl Outlet {
    /// Sends an event that must arrive; without room it waits here and the request is paused.
    pub(super) fn push(&mut self, event: Event) {
        self.overflow.push_back(event);
        self.flush();
    }

    /// Sends an event that a later one will replace: without room it is dropped, and the answer is false.
    pub(super) fn offer(&mut self, event: Event) -> bool {
        self.overflow.is_empty() && self.sender.try_send(event).is_ok()
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(event) = self.overflow.pop_front() {
            let Err(TrySendError::Full(event)) = self.sender.try_send(event) else {
                continue;
            };
            self.overflow.push_front(event);
            // The reader looks at the flag after it took an event: it either sees it and wakes us, or took the event before our next look.
            if self.link.full.swap(true, SeqCst) {
                self.paused_since.get_or_insert_with(Instant::now);
                return;
            }
        }
        self.link.full.store(false, SeqCst);
        self.paused_since = None;
    }

    /// Since when the request is paused.
    pub(super) fn paused_since(&self) -> Option<Instant> {
        self.paused_since
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// The end: the caller gets what was sent so far, then `outcome`.
    pub(super) fn end(self, outcome: Result<(), Failure>) {
        *self.link.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Events {
    /// The next event; none after the last. Waits in an async task.
    pub async fn next(&mut self) -> Option<Result<Event, Failure>> {
        let event = self.receiver.recv().await;
        self.took(event)
    }

    /// The next event; none after the last. Blocks the thread: not for async tasks.
    pub fn blocking_next(&mut self) -> Option<Result<Event, Failure>> {
        let event = self.receiver.blocking_recv();
        self.took(event)
    }

    fn took(&mut self, event: Option<Event>) -> Option<Result<Event, Failure>> {
        let Some(event) = event else {
            return self.end();
        };
        if self.link.full.swap(false, SeqCst) {
            self.inbox.wake();
        }
        Some(Ok(event))
    }

    fn end(&mut self) -> Option<Result<Event, Failure>> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let outcome = self.link.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or(Err(Failure::Died)).err().map(Err)
    }
}

impl Stream for Events {
    type Item = Result<Event, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = ready!(self.receiver.poll_recv(context));
        Poll::Ready(self.took(event))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.receiver.close();
        self.inbox.wake();
    }
}

//! The jobs that wait, and which of them are run together.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Error, Job, Model, Options, Priority};

/// A job in the queue.
pub(super) struct Waiting<M: Model> {
    pub(super) id: u64,
    pub(super) job: Job<M::Input>,
    since: Instant,
    pub(super) answer: oneshot::Sender<Result<M::Output, Error>>,
}

pub(super) struct State<M: Model> {
    // High priority before normal, each by arrival.
    pub(super) queue: VecDeque<Waiting<M>>,
    next_id: u64,
    pub(super) admitted: usize,
    pub(super) stopped: bool,
    pub(super) last_run: Duration,
}

pub(super) struct Shared<M: Model> {
    pub(super) options: Options,
    state: Mutex<State<M>>,
    pub(super) changed: Condvar,
}

impl<M: Model> Shared<M> {
    pub(super) fn new(options: Options) -> Self {
        let state = State { queue: VecDeque::new(), next_id: 0, admitted: 0, stopped: false, last_run: Duration::ZERO };
        Self { options, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Nothing under the lock runs code of the model's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopped(&self) -> Error {
        Error::Stopped { stage: self.options.stage }
    }

    /// No job is taken from now on, and those that wait get none.
    pub(super) fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.stopped = true;
            std::mem::take(&mut state.queue)
        };
        self.changed.notify_all();
        for job in waiting {
            let _ = job.answer.send(Err(self.stopped()));
        }
    }

    /// Blocks until there is something to run; none: stopped.
    pub(super) fn next_batch(&self) -> Option<Vec<Waiting<M>>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            state.drop_expired();
            let Some(leader) = state.queue.front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let lane = M::lane(&leader.job.input);
            let rows = || state.queue.iter().filter(|waiting| M::lane(&waiting.job.input) == lane);
            let oldest = rows().map(|waiting| waiting.since).min().unwrap_or(leader.since);
            let left = self.options.window.saturating_sub(oldest.elapsed());
            if left.is_zero() || rows().count() >= self.options.max_batch {
                return Some(state.take(lane, self.options.max_batch));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<M: Model> State<M> {
    fn drop_expired(&mut self) {
        let now = Instant::now();
        let expired = |waiting: &Waiting<M>| waiting.job.deadline.is_some_and(|deadline| deadline.instant() <= now);
        while let Some(at) = self.queue.iter().position(expired) {
            let waiting = self.queue.remove(at).expect("found a moment ago");
            let _ = waiting.answer.send(Err(Error::Expired));
        }
    }

    fn take(&mut self, lane: usize, max_batch: usize) -> Vec<Waiting<M>> {
        let mut batch = Vec::new();
        let mut rest = VecDeque::with_capacity(self.queue.len());
        for waiting in self.queue.drain(..) {
            if batch.len() < max_batch && M::lane(&waiting.job.input) == lane {
                batch.push(waiting);
            } else {
                rest.push_back(waiting);
            }
        }
        self.queue = rest;
        batch
    }

    pub(super) fn push(&mut self, job: Job<M::Input>, answer: oneshot::Sender<Result<M::Output, Error>>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let at = match job.priority {
            Priority::High => self.queue.partition_point(|waiting| waiting.job.priority == Priority::High),
            Priority::Normal => self.queue.len(),
        };
        self.queue.insert(at, Waiting { id, job, since: Instant::now(), answer });
        id
    }
}

//! What the owner thread shares with the others: requests in, load out, and the condition that it sleeps on.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Load, Refusal, job::Job};

#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug)]
struct State {
    arrivals: Vec<Job>,
    load: Load,
    retry_after: Duration,
    wake: bool,
    closed: Option<Refusal>,
}

impl Inbox {
    pub(super) fn new(load: Load) -> Self {
        let state =
            State { arrivals: Vec::new(), load, retry_after: Duration::from_secs(1), wake: false, closed: None };
        Self { state: Mutex::new(state), woken: Condvar::new() }
    }

    /// Hands a request over, if it may wait.
    pub(super) fn push(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.lock();
        if let Some(refusal) = &state.closed {
            return Err(refusal.clone());
        }
        if state.load.queued >= state.load.queue_capacity {
            return Err(Refusal::Full { retry_after: state.retry_after });
        }
        state.load.queued += 1;
        state.arrivals.push(job);
        self.notify(state);
        Ok(())
    }

    /// Moves the arrivals to the end of `waiting`; whether the engine shall stop.
    pub(super) fn take(&self, waiting: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        waiting.append(&mut state.arrivals);
        state.closed.is_some()
    }

    /// Says how busy the owner thread is: requests that it knows of and that wait, rows in use, and when there may be room in a full queue.
    pub(super) fn publish(&self, waiting: usize, rows_used: usize, retry_after: Duration) {
        let mut state = self.lock();
        state.load.queued = waiting + state.arrivals.len();
        state.load.rows_used = rows_used;
        state.retry_after = retry_after;
    }

    /// As it was last published.
    pub(super) fn load(&self) -> Load {
        self.lock().load
    }

    /// Makes the owner thread look around.
    pub(super) fn wake(&self) {
        self.notify(self.lock());
    }

    /// Sleeps until somebody wakes it, or until `timer`.
    pub(super) fn wait(&self, timer: Option<Instant>) {
        let mut state = self.lock();
        while !state.wake {
            let Some(timer) = timer else {
                state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = timer.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self.woken.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.wake = false;
    }

    /// Takes no more requests, for this reason. The first reason stays, but for a death.
    pub(super) fn close(&self, reason: Refusal) {
        let mut state = self.lock();
        if matches!(reason, Refusal::Dead(_)) {
            state.arrivals.clear();
            state.load.queued = 0;
            state.load.rows_used = 0;
            state.closed = Some(reason);
        } else {
            state.closed.get_or_insert(reason);
        }
        self.notify(state);
    }

    fn notify(&self, mut state: MutexGuard<'_, State>) {
        state.wake = true;
        drop(state);
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

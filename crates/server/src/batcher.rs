//! Batches across requests: one OS thread owns a model, takes the jobs that wait, and runs them together.
//!
//! A request is admitted first ([`Batcher::admit`] refuses what is too much), then submits jobs and awaits its [`Ticket`]s. The thread waits a
//! short window for more jobs unless a batch is full. A job whose ticket is dropped, or whose deadline passes, is gone before it is run.

mod queue;
mod worker;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::Status;
use tracing::Span;

use self::queue::Shared;
use self::worker::Worker;
use crate::{Deadline, Readiness, status};

/// What the thread owns.
pub trait Model: Send + 'static {
    /// One row of a batch.
    type Input: Send + 'static;
    /// What comes out for a row.
    type Output: Send + 'static;
    /// Why a run failed.
    type Error: StdError + Send + Sync + 'static;

    /// Inputs of different lanes never share a run.
    fn lane(_input: &Self::Input) -> usize {
        0
    }

    /// One output for each input, in order.
    ///
    /// # Errors
    /// The run failed, for all of its inputs.
    fn run(&mut self, inputs: Vec<Self::Input>) -> Result<Vec<Self::Output>, Self::Error>;
}

/// How a batcher works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stage, for telemetry and errors.
    pub stage: &'static str,
    /// Rows that a run may have; at least one.
    pub max_batch: usize,
    /// Requests that may be admitted at once; at least one.
    pub capacity: usize,
    /// How long a job waits for others to share its run.
    pub window: Duration,
}

/// Why a request was refused or a job has no output.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Too many requests are in work.
    #[error("the {stage} is busy with {capacity} requests")]
    Full {
        /// The stage.
        stage: &'static str,
        /// Requests that it takes at once.
        capacity: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// The thread has ended: the service stops, or the model panicked.
    #[error("the {stage} has stopped")]
    Stopped {
        /// The stage.
        stage: &'static str,
    },
    /// The job's deadline passed before its run.
    #[error("the deadline passed")]
    Expired,
    /// The run that the job was part of failed.
    #[error("the model failed")]
    Failed(#[source] Arc<dyn StdError + Send + Sync>),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match &error {
            Error::Full { retry_after, .. } => status::exhausted(error.to_string(), *retry_after),
            Error::Stopped { .. } => status::unavailable(error.to_string(), MAX_RETRY),
            Error::Expired => status::deadline_exceeded(),
            Error::Failed(_) => status::internal(&error),
        }
    }
}

const MIN_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// Which jobs go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Before all others.
    High,
    /// When no other job waits, or there is room in its run.
    #[default]
    Normal,
}

/// A row to be run.
#[derive(Debug)]
pub struct Job<I> {
    /// The model's input.
    pub input: I,
    /// Which jobs go first.
    pub priority: Priority,
    /// When nobody wants it any more; none: never.
    pub deadline: Option<Deadline>,
    /// The request's span, which the run's span is linked to.
    pub span: Span,
}

/// A model behind its thread. Dropping it stops the thread and waits for its end.
pub struct Batcher<M: Model> {
    shared: Arc<Shared<M>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<M: Model> Batcher<M> {
    /// Moves `model` into a thread of its own. When the model panics, the thread ends and `readiness` says so.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(model: M, options: Options, readiness: Readiness) -> io::Result<Self> {
        let (max_batch, capacity) = (options.max_batch.max(1), options.capacity.max(1));
        let options = Options { max_batch, capacity, ..options };
        let name = options.stage.to_owned();
        let shared = Arc::new(Shared::new(options));
        let worker = Worker::new(shared.clone(), model, readiness);
        let thread = thread::Builder::new().name(name).spawn(|| worker.work())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Takes a request in; it may submit jobs until the admission is dropped. How many at once is the request's own to bound.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Stopped`].
    pub fn admit(&self) -> Result<Admission<M>, Error> {
        let Options { stage, capacity, max_batch, .. } = self.shared.options;
        let mut state = self.shared.lock();
        if state.stopped {
            return Err(self.shared.stopped());
        }
        if state.admitted >= capacity {
            let runs = state.queue.len() / max_batch + 1;
            let retry_after = state.last_run.saturating_mul(runs as u32).clamp(MIN_RETRY, MAX_RETRY);
            return Err(Error::Full { stage, capacity, retry_after });
        }
        state.admitted += 1;
        Ok(Admission { shared: self.shared.clone() })
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Requests that are admitted.
    pub fn admitted(&self) -> usize {
        self.shared.lock().admitted
    }

    /// Requests that may be admitted at once.
    pub fn capacity(&self) -> usize {
        self.shared.options.capacity
    }

    /// Ends the thread after the run that it is in, and waits for that. Jobs that wait are not run.
    pub fn stop(&self) {
        self.shared.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Panics of the model are caught and told on the spot.
            let _ = thread.join();
        }
    }
}

impl<M: Model> Drop for Batcher<M> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<M: Model> fmt::Debug for Batcher<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// A request's right to submit jobs.
pub struct Admission<M: Model> {
    shared: Arc<Shared<M>>,
}

impl<M: Model> Admission<M> {
    /// Puts a job into the queue. The ticket is awaited for its output; dropping it gives the job up.
    pub fn submit(&self, job: Job<M::Input>) -> Ticket<M> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.shared.lock();
        let id = match state.stopped {
            true => {
                let _ = answer.send(Err(self.shared.stopped()));
                u64::MAX
            }
            false => state.push(job, answer),
        };
        drop(state);
        self.shared.changed.notify_one();
        Ticket { id, shared: self.shared.clone(), receiver, done: false }
    }
}

impl<M: Model> Drop for Admission<M> {
    fn drop(&mut self) {
        self.shared.lock().admitted -= 1;
    }
}

/// An output to come.
pub struct Ticket<M: Model> {
    id: u64,
    shared: Arc<Shared<M>>,
    receiver: oneshot::Receiver<Result<M::Output, Error>>,
    done: bool,
}

impl<M: Model> Future for Ticket<M> {
    type Output = Result<M::Output, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.receiver).poll(cx));
        self.done = true;
        // The worker answers every job, or ends.
        Poll::Ready(answer.unwrap_or_else(|_| Err(self.shared.stopped())))
    }
}

impl<M: Model> Drop for Ticket<M> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.lock().queue.retain(|waiting| waiting.id != self.id);
        }
    }
}

//! The engine: one thread that owns a model and draws for many requests at once. No gRPC, no async but in [`Events`].
//!
//! ```no_run
//! use easel_sampler::{engine::{Engine, Options, Request}, model::Model};
//!
//! # fn draw(model: impl Model, caption: Vec<u32>, request: Request) -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::start(model, Options::default(), caption, |reason| eprintln!("{reason}"))?;
//! let mut events = engine.submit(request)?;
//! while let Some(event) = events.blocking_next() {
//!     println!("{:?}", event?);
//! }
//! engine.stop();
//! # Ok(())
//! # }
//! ```

mod batch;
mod inbox;
mod job;
mod meters;
mod outlet;
mod request;
mod run;
mod scheduler;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

pub use outlet::Events;
pub use request::{Candidate, Event, Failure, Refusal, Request, Statistics};

use crate::{
    course::Course,
    model::{self, Geometry, Model},
    slots::Pool,
};
use inbox::Inbox;
use job::Job;
use scheduler::Scheduler;

/// How an engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Rows of a step: a candidate takes one, with guidance two. The model must hold [`Pool::sequences`] of them.
    pub rows: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Events of a request that may wait to be read before it is paused.
    pub events: usize,
    /// Rows of a step up to which known tokens (captions, given tokens) are added.
    pub step_rows: usize,
    /// Rows of a step up to which the next tokens of its candidates are guessed and computed along (speculative Jacobi decoding, arXiv 2410.01699): fewer steps for
    /// few candidates, the same tokens. 0: none are.
    pub guess_rows: usize,
    /// How long a request may be paused.
    pub stall_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let stall_timeout = Duration::from_secs(60);
        Self { rows: 32, queue: 64, events: 256, step_rows: 1024, guess_rows: 0, stall_timeout }
    }
}

/// How busy an engine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait for their first rows.
    pub queued: usize,
    /// Requests that may.
    pub queue_capacity: usize,
    /// Rows that candidates hold.
    pub rows_used: usize,
    /// Rows in all.
    pub rows_total: usize,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model holds fewer sequences than the rows need, or does not work.
    #[error("the model does not work")]
    Model(#[from] model::Error),
    /// The model holds too few sequences.
    #[error("the model: expected room for {expected} sequences, found {found}")]
    Sequences {
        /// What the rows need.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// The system gives no thread.
    #[error("the engine's thread cannot be made")]
    Thread(#[from] std::io::Error),
}

/// The handle of an engine. Dropping it stops the engine once its work is done.
#[derive(Debug)]
pub struct Engine {
    inbox: Arc<Inbox>,
    options: Options,
    geometry: Geometry,
    course: Course,
    device: String,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Tries the model on `caption` (padded) and starts the thread that owns it. `died` is called with the reason if the thread comes to its end otherwise
    /// than by [`Engine::stop`]; from then on everything is refused.
    ///
    /// # Errors
    /// The model does not work or is too small for the options.
    pub fn start<M: Model>(
        mut model: M,
        options: Options,
        caption: Vec<u32>,
        died: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Self, StartError> {
        let (expected, found) = (Pool::sequences(options.rows), model.sequences());
        if found < expected {
            return Err(StartError::Sequences { expected, found });
        }
        let step = model::probe(&mut model, 0, &caption)?;
        let (geometry, rules, device) = (model.geometry(), model.rules(), model.device());
        let course = Course::new(geometry.cells, rules.columns, &rules.row_end);
        let load = Load { queued: 0, queue_capacity: options.queue, rows_used: 0, rows_total: options.rows };
        let inbox = Arc::new(Inbox::new(load));
        let scheduler = Scheduler::new(model, options, inbox.clone(), caption, step);
        let own = inbox.clone();
        let thread = thread::Builder::new().name("easel-sampler".to_owned()).spawn(move || {
            if let Err(reason) = live(scheduler) {
                tracing::error!(reason, "the engine died");
                own.close(Refusal::Dead(reason.clone()));
                died(&reason);
            }
        })?;
        Ok(Self { inbox, options, geometry, course, device, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a request over. Its spans are children of the current one.
    ///
    /// # Errors
    /// The queue is full, or the engine stops or died.
    pub fn submit(&self, request: Request) -> Result<Events, Refusal> {
        let (outlet, events) = outlet::channel(self.options.events, self.inbox.clone());
        self.inbox.push(Job::new(request, outlet, self.geometry, self.course.clone()))?;
        Ok(events)
    }

    /// How busy it is.
    pub fn load(&self) -> Load {
        self.inbox.load()
    }

    /// The model's sizes.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Where the model runs: "cpu" or "cuda".
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Takes no more requests, waits for the end of those that it has, and drops the model. Blocks.
    pub fn stop(&self) {
        self.inbox.close(Refusal::Stopping);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread catches its own panics.
            drop(thread.join());
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.inbox.close(Refusal::Stopping);
    }
}

/// The thread's life; the reason if it was cut short.
fn live<M: Model>(scheduler: Scheduler<M>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| scheduler.run())) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(with_sources(&error)),
        Err(panic) => Err(format!("panicked: {}", scheduler::message(&*panic))),
    }
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

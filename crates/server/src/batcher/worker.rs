//! The thread: runs batches until it is stopped.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tokio::sync::oneshot;

use super::queue::{Shared, Waiting};
use super::{Error, Model};
use crate::telemetry::names::{attribute, label, metric, span};
use crate::{Readiness, telemetry};

/// What ended a run that gave no outputs, other than the model's own error.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the model panicked")]
    Panic,
    #[error("the model gave {found} outputs for {expected} inputs")]
    Outputs { expected: usize, found: usize },
}

struct Instruments {
    rows: Histogram<f64>,
    seconds: Histogram<f64>,
}

impl Instruments {
    fn new() -> Self {
        Self { rows: telemetry::histogram(&metric::BATCH_ROWS), seconds: telemetry::histogram(&metric::RUN_DURATION) }
    }
}

/// What the thread works with.
pub(super) struct Worker<M: Model> {
    shared: Arc<Shared<M>>,
    model: M,
    readiness: Readiness,
    instruments: Instruments,
}

impl<M: Model> Worker<M> {
    pub(super) fn new(shared: Arc<Shared<M>>, model: M, readiness: Readiness) -> Self {
        Self { shared, model, readiness, instruments: Instruments::new() }
    }

    pub(super) fn work(mut self) {
        while let Some(batch) = self.shared.next_batch() {
            if self.run(batch).is_err() {
                // The model is in an unknown state: no other call may meet it.
                let stage = self.shared.options.stage;
                self.readiness.unready(format!("the {stage}'s model panicked"));
                self.shared.stop();
            }
        }
    }

    /// Runs a batch and answers its jobs.
    fn run(&mut self, batch: Vec<Waiting<M>>) -> Result<(), Fault> {
        let (stage, rows) = (self.shared.options.stage, batch.len());
        let span = tracing::info_span!(span::RUN, { attribute::STAGE } = stage, { attribute::ROWS } = rows);
        let _inside = span.enter();
        let mut inputs = Vec::with_capacity(rows);
        let mut answers = Vec::with_capacity(rows);
        for waiting in batch {
            span.follows_from(&waiting.job.span);
            inputs.push(waiting.job.input);
            answers.push(waiting.answer);
        }
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| self.model.run(inputs)));
        self.record(rows, begun.elapsed());
        let failure: Arc<dyn StdError + Send + Sync> = match result {
            Ok(Ok(outputs)) if outputs.len() == rows => {
                for (answer, output) in answers.into_iter().zip(outputs) {
                    let _ = answer.send(Ok(output));
                }
                return Ok(());
            }
            Ok(Ok(outputs)) => Arc::new(Fault::Outputs { expected: rows, found: outputs.len() }),
            Ok(Err(error)) => Arc::new(error),
            Err(_) => {
                tracing::error!(stage, "the model panicked");
                fail(answers, Arc::new(Fault::Panic));
                return Err(Fault::Panic);
            }
        };
        fail(answers, failure);
        Ok(())
    }

    fn record(&self, rows: usize, time: Duration) {
        let labels = [KeyValue::new(label::STAGE, self.shared.options.stage)];
        self.instruments.rows.record(rows as f64, &labels);
        self.instruments.seconds.record(time.as_secs_f64(), &labels);
        self.shared.lock().last_run = time;
    }
}

fn fail<O>(answers: Vec<oneshot::Sender<Result<O, Error>>>, cause: Arc<dyn StdError + Send + Sync>) {
    for answer in answers {
        let _ = answer.send(Err(Error::Failed(cause.clone())));
    }
}

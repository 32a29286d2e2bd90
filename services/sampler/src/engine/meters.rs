//! What the owner thread tells telemetry.

use std::time::{Duration, Instant};

use easel_proto::stage;
use easel_server::telemetry::{
    self,
    names::{self, attribute, label, metric},
};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
    trace::TraceContextExt,
};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::job::Job;

pub(super) struct Meters {
    first_token: Histogram<f64>,
    step_duration: Histogram<f64>,
    batch_rows: Histogram<f64>,
    tokens: Counter<u64>,
    cancelled: Counter<u64>,
    stage: [KeyValue; 1],
    text: [KeyValue; 2],
    image: [KeyValue; 2],
    epoch: Option<Epoch>,
}

/// A run of steps of the same requests: one span for all of them.
struct Epoch {
    span: Span,
    members: Vec<u64>,
    steps: u64,
    rows: usize,
}

impl Meters {
    pub(super) fn new() -> Self {
        let stage = KeyValue::new(label::STAGE, stage::SAMPLER);
        let kind = |kind| [stage.clone(), KeyValue::new(label::KIND, kind)];
        Self {
            first_token: telemetry::histogram(&metric::TIME_TO_FIRST_TOKEN),
            step_duration: telemetry::histogram(&metric::STEP_DURATION),
            batch_rows: telemetry::histogram(&metric::BATCH_ROWS),
            tokens: telemetry::counter(&metric::TOKENS),
            cancelled: telemetry::counter(&metric::CANDIDATES_CANCELLED),
            text: kind("text"),
            image: kind("image"),
            stage: [stage],
            epoch: None,
        }
    }

    /// The first token of a request was drawn this long after its arrival.
    pub(super) fn first_token(&self, age: Duration) {
        self.first_token.record(age.as_secs_f64(), &[]);
    }

    /// Tokens of prefixes were computed, and image tokens drawn.
    pub(super) fn tokens(&self, prefix: usize, drawn: usize) {
        for (count, labels) in [(prefix, &self.text), (drawn, &self.image)] {
            if count > 0 {
                self.tokens.add(count as u64, labels);
            }
        }
    }

    /// Candidates were given up.
    pub(super) fn cancelled(&self, candidates: usize) {
        self.cancelled.add(candidates as u64, &[]);
    }

    /// A step of `rows` rows ended.
    pub(super) fn step(&mut self, took: Duration, rows: usize) {
        self.step_duration.record(took.as_secs_f64(), &[]);
        self.batch_rows.record(rows as f64, &self.stage);
        if let Some(epoch) = &mut self.epoch {
            epoch.steps += 1;
            epoch.rows = epoch.rows.max(rows);
        }
    }

    /// The next step is one of these requests: a new span when others took part in the last.
    pub(super) fn members<'a>(&mut self, jobs: impl Iterator<Item = &'a Job> + Clone) {
        let same = |epoch: &Epoch| jobs.clone().map(|job| job.number).eq(epoch.members.iter().copied());
        if self.epoch.as_ref().is_some_and(same) {
            return;
        }
        self.pause();
        let span = tracing::info_span!(
            parent: None,
            names::span::STEP,
            { attribute::STAGE } = stage::SAMPLER,
            { attribute::ROWS } = field::Empty,
            steps = field::Empty
        );
        for job in jobs.clone() {
            span.add_link(job.span.context().span().span_context().clone());
        }
        self.epoch = Some(Epoch { span, members: jobs.map(|job| job.number).collect(), steps: 0, rows: 0 });
    }

    /// There is no next step for now.
    pub(super) fn pause(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            epoch.span.record("steps", epoch.steps);
            epoch.span.record(attribute::ROWS, epoch.rows);
        }
    }
}

/// The mean time of a step, of the last dozen or so.
#[derive(Debug)]
pub(super) struct StepTime(f64);

impl StepTime {
    pub(super) fn new(first: Duration) -> Self {
        Self(first.as_secs_f64())
    }

    pub(super) fn note(&mut self, took: Duration) {
        self.0 += (took.as_secs_f64() - self.0) / 12.0;
    }

    /// Time for `work`, rows × steps, on `rows` rows.
    pub(super) fn estimate(&self, work: u64, rows: usize) -> Duration {
        let seconds = self.0 * work as f64 / rows.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// The sooner of two timers.
pub(super) fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

use std::{sync::Arc, time::Duration, time::Instant};

use crate::{logits::Parameters, model};

/// A picture to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The caller's own number for it.
    pub id: u32,
    /// Fixes every draw.
    pub seed: u64,
}

/// What the engine draws: one caption, any number of candidates. The caller has checked it against the model's geometry.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The caption, padded: at least one token, at most the text length.
    pub text: Vec<u32>,
    /// The caption of the unconditional row, padded; none: no guidance, and half the rows.
    pub unconditional: Option<Vec<u32>>,
    /// At least one.
    pub candidates: Vec<Candidate>,
    /// How tokens are drawn.
    pub parameters: Parameters,
    /// Image tokens that are not drawn, (position, token) by rising position; they leave at least one cell.
    pub given: Vec<(u32, u32)>,
    /// Tokens in a chunk, at least 1.
    pub chunk_size: usize,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// What happens to a request, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It waits for rows.
    Queued {
        /// Requests before it.
        position: u32,
        /// Until it is admitted, as far as can be told.
        estimated_wait: Duration,
    },
    /// It has its first rows.
    Admitted {
        /// Rows that it may use now.
        rows: u32,
        /// Rows in all.
        rows_total: u32,
        /// Since it was submitted.
        waited: Duration,
        /// Tokens that are computed once for all candidates.
        prefill_tokens: u32,
    },
    /// A candidate has more tokens, given ones included; its chunks follow one another without gaps.
    Chunk {
        /// Its id.
        candidate: u32,
        /// Raster position of the first of them.
        start: u32,
        /// In raster order.
        tokens: Vec<u32>,
    },
    /// A candidate is complete.
    Finished {
        /// Its id.
        candidate: u32,
        /// What it took.
        statistics: Statistics,
    },
}

/// What a candidate took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Steps that it took part in.
    pub steps: u32,
    /// Computing what all candidates of the request share.
    pub prefill: Duration,
    /// From its first step to the end of its last.
    pub stepping: Duration,
    /// Mean number of rows in its steps.
    pub mean_batch_rows: f64,
    /// Σ ln p(token) over the drawn tokens under the conditional logits at temperature 1.
    pub log_likelihood: f64,
    /// The same under the unconditional logits; none without guidance.
    pub unconditional_log_likelihood: Option<f64>,
}

/// Why a request ended before its candidates were complete.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Its deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// Its events were not read.
    #[error("the response was not read for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// A step that it took part in failed.
    #[error("the model failed")]
    Model(#[source] Arc<model::Error>),
    /// The engine's thread came to its end.
    #[error("the engine died")]
    Died,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many requests wait as may.
    #[error("the queue is full")]
    Full {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The engine was told to stop.
    #[error("the engine stops")]
    Stopping,
    /// The engine's thread came to its end.
    #[error("the engine died: {0}")]
    Dead(String),
}

//! One candidate while it is drawn.

use std::time::{Duration, Instant};

use super::{Candidate, Event, Request, Statistics};
use crate::{
    draws,
    logits::{self, Parameters, Picker},
    slots::Places,
};

/// What a step tells those who took part in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) rows: usize,
}

/// The logits of the next token with and, under guidance, without the caption, f32 \[codebook\] each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logits<'a> {
    pub(super) conditional: &'a [f32],
    pub(super) unconditional: Option<&'a [f32]>,
}

/// Draws tokens; keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Drawer {
    picker: Picker,
    guided: Vec<f32>,
}

impl Drawer {
    /// A token.
    fn draw(&mut self, logits: Logits<'_>, parameters: &Parameters, uniform: f64) -> Result<u32, logits::Error> {
        let guided = match logits.unconditional {
            Some(unconditional) => {
                logits::guide(logits.conditional, unconditional, parameters.guidance_scale, &mut self.guided);
                &self.guided
            }
            None => logits.conditional,
        };
        self.picker.draw(guided, parameters, uniform)
    }
}

#[derive(Debug)]
pub(super) struct Run {
    candidate: Candidate,
    pub(super) places: Places,
    /// Known so far, given ones included, in raster order.
    tokens: Vec<u32>,
    /// Of these, how many the model has seen.
    fed: usize,
    /// Of these, how many were sent.
    sent: usize,
    steps: u32,
    rows: u64,
    first_step: Option<Instant>,
    stepping: Duration,
    log_likelihood: f64,
    unconditional_log_likelihood: Option<f64>,
}

impl Run {
    pub(super) fn new(candidate: Candidate, places: Places) -> Self {
        Self {
            candidate,
            places,
            tokens: Vec::new(),
            fed: 0,
            sent: 0,
            steps: 0,
            rows: 0,
            first_step: None,
            stepping: Duration::ZERO,
            log_likelihood: 0.0,
            unconditional_log_likelihood: None,
        }
    }

    /// Begins behind the given prefix, which the model has seen, with the first draw.
    pub(super) fn start(
        &mut self,
        prefix: &[u32],
        logits: Logits<'_>,
        forced: &[Option<u32>],
        request: &Request,
        drawer: &mut Drawer,
    ) -> Result<(), logits::Error> {
        self.tokens.reserve_exact(forced.len());
        self.tokens.extend_from_slice(prefix);
        self.fed = prefix.len();
        self.draw(logits, forced, request, drawer)
    }

    /// Draws the next token and adds the given ones that follow it.
    pub(super) fn draw(
        &mut self,
        logits: Logits<'_>,
        forced: &[Option<u32>],
        request: &Request,
        drawer: &mut Drawer,
    ) -> Result<(), logits::Error> {
        let uniform = draws::uniform(self.candidate.seed, self.tokens.len() as u32);
        let token = drawer.draw(logits, &request.parameters, uniform)?;
        self.weigh(logits, token);
        self.tokens.push(token);
        self.tokens.extend(forced[self.tokens.len()..].iter().map_while(|token| *token));
        Ok(())
    }

    /// Adds a drawn token's ln p, without temperature, guidance and filters.
    fn weigh(&mut self, logits: Logits<'_>, token: u32) {
        self.log_likelihood += logits::log_likelihood(logits.conditional, token);
        if let Some(unconditional) = logits.unconditional {
            *self.unconditional_log_likelihood.get_or_insert(0.0) += logits::log_likelihood(unconditional, token);
        }
    }

    /// Whether it has no token yet.
    pub(super) fn is_new(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether all `cells` tokens are known.
    pub(super) fn is_complete(&self, cells: usize) -> bool {
        self.tokens.len() == cells
    }

    /// Tokens that are still to be found.
    pub(super) fn left(&self, cells: usize) -> usize {
        cells - self.tokens.len()
    }

    /// The raster position of the next token for the model, and the known tokens from there on.
    pub(super) fn pending(&self) -> (usize, &[u32]) {
        (self.fed, &self.tokens[self.fed..])
    }

    /// The model has seen `count` more of the tokens.
    pub(super) fn stepped(&mut self, count: usize, step: &Step) {
        self.fed += count;
        self.steps += 1;
        self.rows += step.rows as u64;
        self.stepping = step.ended - *self.first_step.get_or_insert(step.started);
    }

    /// The next chunk to send: a full one, or at the end of the picture what is left.
    pub(super) fn chunk(&mut self, size: usize, cells: usize) -> Option<Event> {
        let left = self.tokens.len() - self.sent;
        if left == 0 || (left < size && !self.is_complete(cells)) {
            return None;
        }
        let end = self.sent + size.min(left);
        let (start, tokens) = (self.sent as u32, self.tokens[self.sent..end].to_vec());
        self.sent = end;
        Some(Event::Chunk { candidate: self.candidate.id, start, tokens })
    }

    /// The last event.
    pub(super) fn finished(&self, prefill: Duration) -> Event {
        let statistics = Statistics {
            steps: self.steps,
            prefill,
            stepping: self.stepping,
            mean_batch_rows: if self.steps == 0 { 0.0 } else { self.rows as f64 / f64::from(self.steps) },
            log_likelihood: self.log_likelihood,
            unconditional_log_likelihood: self.unconditional_log_likelihood,
        };
        Event::Finished { candidate: self.candidate.id, statistics }
    }
}

//! One candidate while it is drawn.

use std::time::{Duration, Instant};

use super::{Candidate, Event, Request, Statistics};
use crate::{
    course::Course,
    draws,
    logits::{self, Parameters, Picker},
    model::Rules,
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
    /// Cells from here on are drawn without guidance; none: none are.
    guided_tokens: Option<u32>,
}

impl Drawer {
    pub(super) fn new(rules: &Rules) -> Self {
        let picker = Picker::with_ties(rules.top_k_ties);
        Self { picker, guided_tokens: rules.guided_tokens, ..Self::default() }
    }

    /// The token of a cell.
    fn draw(
        &mut self,
        cell: u32,
        logits: Logits<'_>,
        parameters: &Parameters,
        uniform: f64,
    ) -> Result<u32, logits::Error> {
        let unconditional = logits.unconditional.filter(|_| self.guided_tokens.is_none_or(|guided| cell < guided));
        let guided = match unconditional {
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
    /// Known so far, by step: drawn, given, and behind rows.
    tokens: Vec<u32>,
    /// Of these, how many the model has seen.
    fed: usize,
    /// Guesses of the tokens behind them, which go through the model with them, or of the last step as it found them.
    guesses: Vec<u32>,
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
            guesses: Vec::new(),
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
        (course, forced): (&Course, &[Option<u32>]),
        request: &Request,
        drawer: &mut Drawer,
    ) -> Result<(), logits::Error> {
        self.tokens.reserve_exact(forced.len());
        self.tokens.extend_from_slice(prefix);
        self.fed = prefix.len();
        self.draw(logits, (course, forced), request, drawer)
    }

    /// Draws the next token and adds those that follow it and are not drawn.
    pub(super) fn draw(
        &mut self,
        logits: Logits<'_>,
        (course, forced): (&Course, &[Option<u32>]),
        request: &Request,
        drawer: &mut Drawer,
    ) -> Result<(), logits::Error> {
        let cell = course.cell(self.tokens.len()).expect("tokens behind a row are not drawn") as u32;
        let uniform = draws::uniform(self.candidate.seed, cell);
        let token = drawer.draw(cell, logits, &request.parameters, uniform)?;
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

    /// Whether all tokens are known.
    pub(super) fn is_complete(&self, course: &Course) -> bool {
        self.tokens.len() == course.steps()
    }

    /// Cells whose tokens are still to be found.
    pub(super) fn left(&self, course: &Course) -> usize {
        course.cells_in(self.tokens.len()..course.steps())
    }

    /// The step of the next token for the model, the tokens from there on, and how many of them, at the end, are guesses.
    pub(super) fn pending(&self) -> (usize, Vec<u32>, usize) {
        (self.fed, [&self.tokens[self.fed..], &self.guesses].concat(), self.guesses.len())
    }

    /// Guesses `count` tokens, or those that are left but for the last, whose successor nobody wants: what is not drawn is certain, then what the last step drew behind
    /// wrong tokens, else the token above.
    pub(super) fn guess(&mut self, count: usize, (course, forced): (&Course, &[Option<u32>])) {
        let known = self.tokens.len();
        let count = count.min(course.steps().saturating_sub(known + 1));
        self.guesses.truncate(count);
        for (step, forced) in forced.iter().enumerate().skip(known).take(count) {
            let at = |step: usize| self.tokens.get(step).unwrap_or_else(|| &self.guesses[step - known]);
            let new = forced.unwrap_or_else(|| *at(step - course.above(step)));
            match self.guesses.get_mut(step - known) {
                Some(guess) => *guess = forced.unwrap_or(*guess),
                None => self.guesses.push(new),
            }
        }
    }

    /// Draws the next token and, as long as guesses turn out to be what is drawn, those behind them. Their number. What was drawn behind a wrong guess is the next
    /// step's guess (Jacobi's iteration): exact, because each position has a number of its own that it is drawn with.
    pub(super) fn draw_all(
        &mut self,
        logits: &[Logits<'_>],
        (course, forced): (&Course, &[Option<u32>]),
        request: &Request,
        drawer: &mut Drawer,
    ) -> Result<usize, logits::Error> {
        let mut guesses = std::mem::take(&mut self.guesses);
        guesses.truncate(logits.len().saturating_sub(1));
        let (first, mut drawn, mut right) = (self.tokens.len(), 0, 0);
        for (row, logits) in logits.iter().enumerate() {
            if first + row == self.tokens.len() {
                self.draw(*logits, (course, forced), request, drawer)?;
                drawn += 1;
            }
            if guesses.get(row) != Some(&self.tokens[first + row]) {
                break;
            }
            right += 1;
        }
        self.fed += right;
        for (row, logits) in logits.iter().enumerate().skip(self.tokens.len() - first) {
            let step = first + row;
            let cell = course.cell(step).filter(|_| forced[step].is_none());
            let draw = |cell: usize| {
                let uniform = draws::uniform(self.candidate.seed, cell as u32);
                drawer.draw(cell as u32, *logits, &request.parameters, uniform).ok()
            };
            let Some(guess) = forced[step].or_else(|| cell.and_then(draw)) else { break };
            self.guesses.push(guess);
        }
        Ok(drawn)
    }

    /// How many tokens the model has seen that count.
    pub(super) fn fed(&self) -> usize {
        self.fed
    }

    /// The model has seen `count` more of the tokens.
    pub(super) fn stepped(&mut self, count: usize, step: &Step) {
        self.fed += count;
        self.steps += 1;
        self.rows += step.rows as u64;
        self.stepping = step.ended - *self.first_step.get_or_insert(step.started);
    }

    /// The next chunk to send: a full one, or at the end of the picture what is left.
    pub(super) fn chunk(&mut self, size: usize, course: &Course) -> Option<Event> {
        let start = course.cells_in(0..self.sent);
        let left = course.cells_in(0..self.tokens.len()) - start;
        if left == 0 || (left < size && !self.is_complete(course)) {
            return None;
        }
        let cells = start..start + size.min(left);
        self.sent = course.step(cells.end - 1) + 1;
        let tokens = cells.map(|cell| self.tokens[course.step(cell)]).collect();
        Some(Event::Chunk { candidate: self.candidate.id, start: start as u32, tokens })
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

//! One request from its arrival to its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use easel_server::telemetry::names;
use tracing::Span;

use super::{
    Event, Failure, Request,
    batch::{Batch, Feed, Known},
    outlet::Outlet,
    run::{Drawer, Logits, Run, Step},
};
use crate::{
    course::Course,
    model::{self, Geometry, Model, Prefix},
    slots::{Places, Pool},
};

/// What the candidates of a request share: the text and the given tokens at its start.
#[derive(Debug)]
struct Shared {
    places: Places,
    tokens: Vec<u32>,
    unconditional: Option<Vec<u32>>,
    /// The position of the next token that is fed, and of the first that is not in here: both sequences end there.
    next: usize,
    end: usize,
    /// Of the first image token that is drawn, with and without the caption; empty until all tokens were fed, unless another request had fed them.
    logits: [Vec<f32>; 2],
    /// Others may read it.
    kept: bool,
    began: Option<Instant>,
    took: Duration,
    span: Option<Span>,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) outlet: Outlet,
    /// The caller's.
    pub(super) span: Span,
    /// Position that was last told to the caller.
    pub(super) told: Option<u32>,
    pub(super) failure: Option<Failure>,
    /// Unique in the process's life.
    pub(super) number: u64,
    queued: Option<Span>,
    arrived: Instant,
    geometry: Geometry,
    course: Course,
    /// For each step the token that is not drawn.
    forced: Vec<Option<u32>>,
    /// Steps that are drawn.
    open: usize,
    shared: Option<Shared>,
    runs: Vec<Run>,
    /// Candidates that were given rows.
    begun: usize,
    finished: usize,
    announced: bool,
    drawn: bool,
}

static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl Job {
    pub(super) fn new(request: Request, outlet: Outlet, geometry: Geometry, course: Course) -> Self {
        let span = Span::current();
        let queued = tracing::info_span!(parent: &span, names::span::QUEUE);
        let forced = course.forced(&request.given);
        Self {
            request,
            outlet,
            span,
            told: None,
            failure: None,
            number: NUMBERS.fetch_add(1, Relaxed),
            queued: Some(queued),
            arrived: Instant::now(),
            geometry,
            course,
            open: forced.iter().filter(|token| token.is_none()).count(),
            forced,
            shared: None,
            runs: Vec::new(),
            begun: 0,
            finished: 0,
            announced: false,
            drawn: false,
        }
    }

    pub(super) fn is_guided(&self) -> bool {
        self.request.unconditional.is_some()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.outlet.paused_since().is_some()
    }

    /// Whether candidates still wait for rows.
    pub(super) fn has_more(&self) -> bool {
        self.begun < self.request.candidates.len()
    }

    /// Whether every candidate is complete and all was sent.
    pub(super) fn is_done(&self) -> bool {
        self.finished == self.request.candidates.len() && !self.is_paused()
    }

    /// Candidates that are not complete.
    pub(super) fn unfinished(&self) -> usize {
        self.request.candidates.len() - self.finished
    }

    /// Rows × steps until it is done, about.
    pub(super) fn outstanding(&self) -> u64 {
        let running: usize = self.runs.iter().map(|run| run.left(&self.course).min(self.open)).sum();
        let waiting = (self.request.candidates.len() - self.begun) * self.open;
        (running + waiting) as u64 * (1 + u64::from(self.is_guided()))
    }

    /// Leaves the queue with places for its prefix; none: too few are free.
    pub(super) fn admit<M: Model>(&mut self, pool: &mut Pool, model: &mut M) -> Option<Result<(), model::Error>> {
        let given = self.forced.iter().map_while(|token| *token);
        let with = |text: &[u32]| text.iter().copied().chain(given.clone()).collect::<Vec<u32>>();
        let tokens = with(&self.request.text);
        let unconditional = self.request.unconditional.as_deref().map(with);
        let places = pool.take_prefix(&tokens, unconditional.as_deref())?;
        let known = |place| pool.logits(place).map_or_else(Vec::new, <[f32]>::to_vec);
        let logits = [known(places.conditional), places.unconditional.map_or_else(Vec::new, known)];
        let end = self.geometry.text_length + tokens.len() - self.request.text.len();
        self.queued = None;
        let mut shared = Shared {
            places,
            tokens,
            unconditional,
            next: end,
            end,
            logits,
            kept: false,
            began: None,
            took: Duration::ZERO,
            span: None,
        };
        let open = shared.open();
        let begun = open.iter().flatten().try_for_each(|(place, _)| model.begin(*place, None));
        if let Some(longest) = open.iter().flatten().map(|(_, tokens)| tokens.len()).max() {
            shared.next = end - longest;
            shared.span = Some(tracing::info_span!(parent: &self.span, names::span::PREFILL, tokens = longest));
        }
        self.shared = Some(shared);
        Some(begun)
    }

    /// Tells the caller, once, that it has rows.
    pub(super) fn announce(&mut self, rows_total: usize) {
        if std::mem::replace(&mut self.announced, true) {
            return;
        }
        let rows = self.runs.iter().map(|run| run.places.count()).sum::<usize>() as u32;
        let prefill_tokens = self.shared.as_ref().map_or(0, |shared| shared.tokens.len() as u32);
        let waited = self.arrived.elapsed();
        self.outlet.push(Event::Admitted { rows, rows_total: rows_total as u32, waited, prefill_tokens });
    }

    /// Gives rows to the next candidate.
    pub(super) fn begin(&mut self, places: Places) {
        self.runs.push(Run::new(self.request.candidates[self.begun], places));
        self.begun += 1;
    }

    /// Begins the candidates that have rows but no token yet, once the prefix is known. Their number.
    pub(super) fn start<M: Model>(&mut self, model: &mut M, drawer: &mut Drawer) -> Result<usize, model::Error> {
        let Some(shared) = self.shared.as_ref().filter(|shared| shared.is_complete()) else {
            return Ok(0);
        };
        let mut started = 0;
        let prefix = |slot| Some(Prefix { slot, length: shared.end as u32 });
        for run in self.runs.iter_mut().filter(|run| run.is_new()) {
            for (place, from) in run.places.iter().zip(shared.places.iter()) {
                model.begin(place, prefix(from))?;
            }
            let given = &shared.tokens[self.request.text.len()..];
            run.start(given, shared.logits(), (&self.course, &self.forced), &self.request, drawer)?;
            started += 1;
        }
        Ok(started)
    }

    /// Sends what is new, and gives the rows of complete candidates back. When the last is complete, also those of the prefix.
    pub(super) fn settle(&mut self, pool: &mut Pool) {
        if let Some(shared) = self.shared.as_mut().filter(|shared| shared.is_complete()) {
            shared.keep(pool);
        }
        let course = &self.course;
        let prefill = self.shared.as_ref().map_or(Duration::ZERO, |shared| shared.took);
        for run in &mut self.runs {
            while let Some(chunk) = run.chunk(self.request.chunk_size, course) {
                self.outlet.push(chunk);
            }
        }
        for run in self.runs.extract_if(.., |run| run.is_complete(course)) {
            self.outlet.push(run.finished(prefill));
            self.finished += 1;
            pool.release(run.places);
        }
        if self.finished == self.request.candidates.len()
            && let Some(shared) = self.shared.take()
        {
            pool.release(shared.places);
        }
    }

    /// Gives all its rows back.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        let places = self.runs.drain(..).map(|run| run.places);
        places.chain(self.shared.take().map(|shared| shared.places)).for_each(|places| pool.release(places));
    }

    /// Adds its next rows to a step.
    pub(super) fn plan(&self, index: usize, batch: &mut Batch) {
        let Some(shared) = &self.shared else { return };
        if !shared.is_complete() {
            let known = |(slot, tokens)| {
                let position = shared.end - <[u32]>::len(tokens);
                Known { slot, position, tokens, guessed: 0 }
            };
            let mut open = shared.open().into_iter().flatten().map(known);
            if let Some(first) = open.next() {
                batch.feed((index, None), shared.next, first, open.next());
            }
            return;
        }
        for (number, run) in self.runs.iter().enumerate() {
            let (step, tokens, guessed) = run.pending();
            let position = self.geometry.text_length + step;
            let known = |slot| Known { slot, position, tokens: &tokens, guessed };
            let Places { conditional, unconditional } = run.places;
            batch.feed((index, Some(number)), position, known(conditional), unconditional.map(known));
        }
    }

    /// Rows of its candidates in a step without guesses.
    pub(super) fn rows(&self) -> usize {
        self.runs.iter().filter(|run| !run.is_new()).map(|run| run.places.count()).sum()
    }

    /// Guesses `count` tokens of each candidate.
    pub(super) fn guess(&mut self, count: usize) {
        self.runs.iter_mut().filter(|run| !run.is_new()).for_each(|run| run.guess(count, (&self.course, &self.forced)));
    }

    /// Takes guesses that were wrong back, which the model has seen.
    pub(super) fn rewind<M: Model>(&self, feed: &Feed, model: &mut M) -> Result<(), model::Error> {
        let Some(run) = feed.run.filter(|_| feed.guessed > 0).map(|number| &self.runs[number]) else { return Ok(()) };
        let length = self.geometry.text_length + run.fed();
        run.places.iter().try_for_each(|place| model.rewind(place, length))
    }

    /// Takes its part of a step: how many tokens were drawn.
    pub(super) fn absorb(
        &mut self,
        feed: &Feed,
        logits: &[Logits<'_>],
        step: &Step,
        drawer: &mut Drawer,
    ) -> Result<usize, model::Error> {
        if let Some(number) = feed.run {
            let run = &mut self.runs[number];
            run.stepped(feed.count - feed.guessed, step);
            return Ok(run.draw_all(logits, (&self.course, &self.forced), &self.request, drawer)?);
        }
        let shared = self.shared.as_mut().expect("a job with rows in a step has a prefix");
        shared.next += feed.count;
        shared.took = step.ended - *shared.began.get_or_insert(step.started);
        if let [logits] = logits {
            // In the order in which they were fed.
            let open = shared.logits.iter_mut().filter(|known| known.is_empty());
            open.zip([Some(logits.conditional), logits.unconditional].into_iter().flatten())
                .for_each(|(known, logits)| *known = logits.to_vec());
            shared.span = None;
        }
        Ok(0)
    }

    /// True the first time that it is asked.
    pub(super) fn is_first_draw(&mut self) -> bool {
        !std::mem::replace(&mut self.drawn, true)
    }

    /// Since its arrival.
    pub(super) fn age(&self) -> Duration {
        self.arrived.elapsed()
    }

    pub(super) fn fail(&mut self, error: &Arc<model::Error>) {
        self.failure = Some(Failure::Model(error.clone()));
    }
}

impl Shared {
    fn is_complete(&self) -> bool {
        self.next == self.end
    }

    /// The sequences that are not computed, or not to their end.
    fn open(&self) -> [Option<(usize, &[u32])>; 2] {
        let [conditional, unconditional] = &self.logits;
        let without = self.places.unconditional.zip(self.unconditional.as_deref());
        [
            conditional.is_empty().then_some((self.places.conditional, &*self.tokens)),
            without.filter(|_| unconditional.is_empty()),
        ]
    }

    /// Lets others read it, once.
    fn keep(&mut self, pool: &mut Pool) {
        if std::mem::replace(&mut self.kept, true) {
            return;
        }
        let [conditional, unconditional] = &self.logits;
        pool.keep(self.places.conditional, &self.tokens, conditional);
        if let Some((place, tokens)) = self.places.unconditional.zip(self.unconditional.as_deref()) {
            pool.keep(place, tokens, unconditional);
        }
    }

    fn logits(&self) -> Logits<'_> {
        let [conditional, unconditional] = &self.logits;
        Logits { conditional, unconditional: (!unconditional.is_empty()).then_some(unconditional) }
    }
}

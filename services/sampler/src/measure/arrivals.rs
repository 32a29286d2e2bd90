//! Continuous batching: requests that come at random, against a batch that is full from its first step to its last.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use easel_onnx::Transformer;
use easel_package::Manifest;
use serde::Serialize;

use super::{Error, cpu_seconds, median, pictures};
use crate::{
    draws,
    engine::{Engine, Event, Events, Failure, Options, Request},
};

/// Arrivals are a Poisson process of this seed.
const SEED: u64 = 5;
/// Of what a full batch draws, how much is asked for: by more than can be served, and by few enough that most find free slots.
const CROWD: f64 = 1.25;
const FEW: f64 = 0.5;
const ALONE: usize = 3;

/// Requests at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// Rows of the engine.
    pub rows: usize,
    /// Of each request, which has a caption of its own; a divisor of the rows.
    pub candidates: usize,
    /// How many come, of each of the two crowds.
    pub requests: usize,
}

/// What became of them. Guidance is off.
#[derive(Clone, Debug, Serialize)]
pub struct Continuous {
    /// Who came.
    #[serde(flatten)]
    pub arrivals: Arrivals,
    /// Requests that fill all rows and come at once: image tokens a second, from their arrival to their end.
    pub full_tokens_per_second: f64,
    /// A step of theirs, behind the prefills.
    pub step_ms: f64,
    /// The first token of a request when there is no other.
    pub alone_ms: f64,
    /// More requests than can be served: image tokens a second, from when as many candidates as rows have begun to the last arrival.
    pub crowd_tokens_per_second: f64,
    /// Image tokens for a second that the process computes, of the crowd, over the same of the full batch: what other processes do to the clock does not show here.
    pub computing_share: f64,
    /// Of half as many, those that came when there was a slot for each of their candidates.
    pub found_free: usize,
    /// Their time to the first token: half of them, and 95 of 100, had it sooner.
    pub first_token_p50_ms: f64,
    /// The 95 of 100.
    pub first_token_p95_ms: f64,
}

impl Continuous {
    /// What a crowd is served, of what a full batch is.
    pub fn share(&self) -> f64 {
        self.crowd_tokens_per_second / self.full_tokens_per_second
    }

    /// A prefill and two steps.
    pub fn bound_ms(&self) -> f64 {
        self.alone_ms + 2.0 * self.step_ms
    }
}

/// One request, as its caller sees it.
struct Seen {
    submitted: Moment,
    free: bool,
    /// The first token of each candidate that has one, then every token, in the order in which they came.
    firsts: Vec<Moment>,
    tokens: Vec<Instant>,
}

/// A time by the clock, and how much the process had computed by then.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    computed: f64,
}

impl Moment {
    fn now() -> Self {
        Self { at: Instant::now(), computed: cpu_seconds() }
    }
}

/// When a caller leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Finished,
    /// When all have arrived.
    Arrived,
    /// When all have arrived and it has a token.
    Begun,
}

struct Bench<'a> {
    engine: &'a Engine,
    manifest: &'a Manifest,
    arrivals: Arrivals,
    /// Requests so far: none has the caption of another.
    requests: AtomicUsize,
}

pub(super) fn measure(
    transformer: Transformer,
    manifest: &Manifest,
    arrivals: Arrivals,
    progress: &mut dyn FnMut(&str),
) -> Result<Continuous, Error> {
    let queue = arrivals.requests.max(arrivals.rows);
    let engine = pictures::engine(transformer, manifest, Options { rows: arrivals.rows, queue, ..Options::default() })?;
    let measured = Bench { engine: &engine, manifest, arrivals, requests: AtomicUsize::new(0) }.run(progress);
    engine.stop();
    measured
}

impl Bench<'_> {
    fn run(&self, progress: &mut dyn FnMut(&str)) -> Result<Continuous, Error> {
        let Arrivals { rows, candidates, requests } = self.arrivals;
        progress("requests alone");
        let mut alone = Vec::new();
        for _ in 0..ALONE {
            let seen = self.crowd(&[Duration::ZERO], Leaves::Begun)?;
            alone.extend(seen.iter().flat_map(Seen::first_token_ms));
        }
        progress("a full batch");
        let began = Moment::now();
        let seen = self.crowd(&vec![Duration::ZERO; rows / candidates], Leaves::Finished)?;
        let cells = self.engine.geometry().cells;
        let full = (rows * cells) as f64 / began.at.elapsed().as_secs_f64();
        let full_computing = (rows * cells) as f64 / (cpu_seconds() - began.computed);
        let step_ms = seen.iter().map(Seen::last_step).fold(0.0, f64::max);
        let every = (candidates * cells) as f64 / full;
        progress("more requests than can be served");
        let seen = self.crowd(&poisson(requests, every / CROWD), Leaves::Arrived)?;
        let (crowd_tokens_per_second, computing) = throughput(&seen, rows);
        progress("fewer requests");
        let seen = self.crowd(&poisson(requests, every / FEW), Leaves::Begun)?;
        let mut first: Vec<f64> = seen.iter().filter(|seen| seen.free).flat_map(Seen::first_token_ms).collect();
        Ok(Continuous {
            arrivals: self.arrivals,
            full_tokens_per_second: full,
            step_ms,
            alone_ms: median(&mut alone),
            crowd_tokens_per_second,
            computing_share: computing / full_computing,
            found_free: first.len(),
            first_token_p50_ms: median(&mut first),
            first_token_p95_ms: first.get(first.len() * 95 / 100).copied().unwrap_or(f64::NAN),
        })
    }

    /// Requests at these times from now on, and what their callers see until they leave.
    fn crowd(&self, times: &[Duration], leaves: Leaves) -> Result<Vec<Seen>, Error> {
        let arrived = &AtomicBool::new(false);
        thread::scope(|scope| {
            let begin = Instant::now();
            let submit = |due: &Duration| {
                thread::sleep(due.saturating_sub(begin.elapsed()));
                let load = self.engine.load();
                let free = load.queued == 0 && load.rows_total - load.rows_used >= self.arrivals.candidates;
                let seen = Seen { submitted: Moment::now(), free, firsts: Vec::new(), tokens: Vec::new() };
                let events = self.engine.submit(self.request())?;
                Ok(scope.spawn(move || seen.follow(events, leaves, arrived)))
            };
            let readers: Result<Vec<_>, Error> = times.iter().map(submit).collect();
            arrived.store(true, Relaxed);
            let seen = readers?.into_iter().map(|reader| Ok(reader.join().expect("a reader does not panic")?));
            seen.collect()
        })
    }

    fn request(&self) -> Request {
        let (text, candidates) = (&self.manifest.text, self.arrivals.candidates);
        let number = self.requests.fetch_add(1, Relaxed);
        let caption = [number as u32 % text.vocabulary, number as u32 / text.vocabulary];
        pictures::request(&text.pad(&caption), candidates, (number * candidates) as u64)
    }
}

impl Seen {
    fn follow(mut self, mut events: Events, leaves: Leaves, arrived: &AtomicBool) -> Result<Self, Failure> {
        while let Some(event) = events.blocking_next() {
            if let Event::Chunk { start, .. } = event? {
                self.tokens.push(Instant::now());
                self.firsts.extend((start == 0).then(Moment::now));
            }
            let enough = leaves == Leaves::Arrived || (leaves == Leaves::Begun && !self.tokens.is_empty());
            if enough && arrived.load(Relaxed) {
                break;
            }
        }
        Ok(self)
    }

    fn first_token_ms(&self) -> Option<f64> {
        self.firsts.first().map(|first| (first.at - self.submitted.at).as_secs_f64() * 1e3)
    }

    /// The mean time of a candidate's steps in the second half of its picture.
    fn last_step(&self) -> f64 {
        let (count, candidates) = (self.tokens.len(), self.firsts.len().max(1));
        let Some((last, half)) = self.tokens.last().zip(self.tokens.get(count / 2)) else { return f64::NAN };
        (*last - *half).as_secs_f64() * 1e3 / ((count - count / 2) as f64 / candidates as f64).max(1.0)
    }
}

/// Arrival times of which one comes every so many seconds in the mean.
fn poisson(count: usize, every: f64) -> Vec<Duration> {
    let gaps = (0..count).map(|i| -every * (1.0 - draws::uniform(SEED, i as u32)).ln());
    let sum = |at: &mut f64, gap| Some(std::mem::replace(at, *at + gap));
    gaps.scan(0.0, sum).map(Duration::from_secs_f64).collect()
}

/// Tokens between the first moment that `rows` candidates were begun and the last arrival: for a second, and for a second of computing.
fn throughput(seen: &[Seen], rows: usize) -> (f64, f64) {
    let mut firsts: Vec<Moment> = seen.iter().flat_map(|seen| seen.firsts.iter().copied()).collect();
    firsts.sort_by_key(|first| first.at);
    let Some((full, last)) = firsts.get(rows - 1).zip(seen.last().map(|seen| seen.submitted)) else {
        return (f64::NAN, f64::NAN);
    };
    let tokens = seen.iter().flat_map(|seen| &seen.tokens).filter(|at| (full.at..last.at).contains(at)).count() as f64;
    let seconds = last.at.saturating_duration_since(full.at).as_secs_f64();
    (tokens / seconds, tokens / (last.computed - full.computed))
}

//! Measures a package's transformer, and the engine over it: what a step takes by position and batch, prefill, draws, whole pictures, memory.
//!
//! ```no_run
//! use easel_sampler::measure::{Plan, measure};
//!
//! let package = easel_package::Package::open("models/scenes/package")?;
//! let report = measure(&package, &Plan::default(), &mut |line| eprintln!("{line}"))?;
//! println!("{} ms to load", report.load_ms);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arrivals;
mod machine;
mod pictures;
mod steps;

use std::time::Instant;

use easel_onnx::{Runtime, Transformer};
use easel_package::Package;
use serde::Serialize;

use crate::{
    engine,
    model::{self, Geometry},
    slots::Pool,
};

pub use arrivals::{Arrivals, Continuous};
pub use machine::{cpu_seconds, read_bandwidth, resident_bytes};
pub use pictures::Drawn;
pub use steps::{Step, Whole};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where and on how many threads.
    pub options: easel_onnx::Options,
    /// Positions of a sequence; those that the package's sequences do not have are left out, none: five from the first image token to the last.
    pub positions: Vec<u32>,
    /// Sequences of a step.
    pub batches: Vec<usize>,
    /// Steps timed at each position and batch, at neighbouring positions.
    pub steps: usize,
    /// Whether every sequence has a caption of its own, instead of one for all.
    pub own_captions: bool,
    /// Whole pictures to draw through the engine, so many candidates at once.
    pub pictures: Vec<usize>,
    /// Rows of a step up to which whole pictures are drawn with guesses ([`engine::Options`]).
    pub guess_rows: usize,
    /// Requests that come at random, instead of such pictures.
    pub arrivals: Option<Arrivals>,
}

impl Plan {
    /// Whether it can be measured with any package.
    ///
    /// # Errors
    /// The first number that is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        check_arrivals(self)?;
        check("batches and pictures", "1 … 4096", self.batches.iter().chain(&self.pictures), 1..=4096)?;
        check("steps", "1 … 1024", [&self.steps], 1..=1024)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            options: easel_onnx::Options::default(),
            positions: Vec::new(),
            batches: vec![1, 2, 4, 8, 16, 32],
            steps: 8,
            own_captions: false,
            pictures: Vec::new(),
            guess_rows: 0,
            arrivals: None,
        }
    }
}

/// What was measured. Times are medians, in ms.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `cpu` or `cuda`.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// Bytes a second that these threads read from memory together.
    pub read_bandwidth: f64,
    /// Time until the transformer could be used.
    pub load_ms: f64,
    /// The process's memory when it could, less what it was before.
    pub loaded_bytes: u64,
    /// What a slot may take.
    pub kv_bytes: u64,
    /// What the process grew by for each sequence of the largest batch, at the last position.
    pub kv_resident_bytes: Option<u64>,
    /// Tokens of a caption, and the time of all of them in one call.
    pub prefill_tokens: usize,
    /// The time of a caption in one call.
    pub prefill_ms: f64,
    /// The time of a draw from one row's logits, on one thread.
    pub draw_ms: f64,
    /// Steps.
    pub steps: Vec<Step>,
    /// Whole pictures, computed from the steps.
    pub whole: Vec<Whole>,
    /// Whole pictures, drawn.
    pub pictures: Vec<Drawn>,
    /// Requests that came at random.
    pub arrivals: Option<Continuous>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of the plan cannot be done.
    #[error("{field}: expected {expected}, found {found}")]
    Plan {
        /// Of the plan.
        field: &'static str,
        /// What can be done.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// The transformer does not work.
    #[error(transparent)]
    Onnx(#[from] easel_onnx::Error),
    /// The engine does not start.
    #[error(transparent)]
    Start(#[from] engine::StartError),
    /// The engine takes no request.
    #[error(transparent)]
    Refused(#[from] engine::Refusal),
    /// A picture was not completed.
    #[error(transparent)]
    Failed(#[from] engine::Failure),
    /// What the transformer gives are no logits.
    #[error(transparent)]
    Logits(#[from] crate::logits::Error),
}

/// Engine options in words, for those who do not know the engine.
///
/// # Errors
/// No device or precision is called so.
pub fn options(device: &str, threads: usize, kv: &str) -> Result<easel_onnx::Options, String> {
    Ok(easel_onnx::Options {
        device: device.parse()?,
        threads,
        kv: kv.parse().map_err(|error| format!("kv: {error}"))?,
        ..Default::default()
    })
}

/// Measures `package`; `progress` is told in lines for people what comes next.
///
/// # Errors
/// The plan asks for what the package does not have, or the model does not work.
pub fn measure(package: &Package, plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let geometry = Geometry::of(package.manifest());
    let positions = positions(plan, geometry)?;
    plan.check()?;
    let rows = plan.arrivals.map(|arrivals| arrivals.rows);
    let most = plan.batches.iter().chain(&plan.pictures).chain(&rows).copied().max().unwrap_or(1);
    let threads = match plan.options.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    progress("memory: reading");
    let read_bandwidth = read_bandwidth(threads);
    progress("loading");
    let runtime = Runtime::load()?;
    let (before, started) = (resident_bytes(), Instant::now());
    let transformer = Transformer::load(&runtime, package, &plan.options, Pool::sequences(most))?;
    let load_ms = ms(started);
    let loaded_bytes = resident_bytes().saturating_sub(before);
    let (device, kv_bytes) = (transformer.device().to_owned(), transformer.kv_bytes_per_sequence() as u64);
    let mut bench = steps::Bench::new(transformer, package.manifest(), plan, most);
    progress("prefill");
    let prefill_ms = bench.prefill()?;
    let draw_ms = bench.draw()?;
    let (mut steps, mut whole) = (Vec::new(), Vec::new());
    for &batch in &plan.batches {
        progress(&format!("batch {batch}"));
        let measured = bench.batch(batch, &positions)?;
        whole.push(Whole::of(&measured, geometry, batch, prefill_ms));
        steps.extend(measured);
    }
    let kv_resident_bytes = bench.kv_resident_bytes();
    let (transformer, manifest) = (bench.into_transformer(), package.manifest());
    let (pictures, arrivals) = match plan.arrivals {
        Some(arrivals) => (Vec::new(), Some(arrivals::measure(transformer, manifest, arrivals, progress)?)),
        None => (pictures::draw(transformer, manifest, plan, progress)?, None),
    };
    // What else ran may have disturbed the first reading.
    let read_bandwidth = read_bandwidth.max(machine::read_bandwidth(threads));
    let prefill_tokens = geometry.text_length;
    let read = Report {
        device,
        threads,
        read_bandwidth,
        load_ms,
        loaded_bytes,
        kv_bytes,
        kv_resident_bytes,
        prefill_tokens,
        prefill_ms,
        draw_ms,
        steps,
        whole,
        pictures,
        arrivals,
    };
    Ok(read)
}

/// The plan's positions that there are, rising.
fn positions(plan: &Plan, geometry: Geometry) -> Result<Vec<u32>, Error> {
    let (first, end) = (geometry.text_length as u32, (geometry.text_length + geometry.cells) as u32);
    let mut positions = plan.positions.clone();
    if positions.is_empty() {
        positions = (0..=4).map(|quarter| first + (end - 1 - first) * quarter / 4).collect();
    }
    positions.sort_unstable();
    positions.dedup();
    let wrong = positions.iter().find(|position| !(first..end).contains(position));
    match wrong {
        None => Ok(positions),
        Some(found) => Err(Error::Plan {
            field: "positions",
            expected: format!("{first} … {}", end - 1),
            found: found.to_string(),
        }),
    }
}

fn check_arrivals(plan: &Plan) -> Result<(), Error> {
    let Some(Arrivals { rows, candidates, requests }) = plan.arrivals else { return Ok(()) };
    check("rows", "1 … 4096", [&rows], 1..=4096)?;
    check("requests", "1 … 4096", [&requests], 1..=4096)?;
    check("candidates", "1 … rows", [&candidates], 1..=rows)?;
    let expected = "a divisor of the rows".to_owned();
    match rows % candidates {
        0 => Ok(()),
        _ => Err(Error::Plan { field: "candidates", expected, found: candidates.to_string() }),
    }
}

fn check<'a>(
    field: &'static str,
    expected: &str,
    numbers: impl IntoIterator<Item = &'a usize>,
    range: std::ops::RangeInclusive<usize>,
) -> Result<(), Error> {
    match numbers.into_iter().find(|number| !range.contains(number)) {
        None => Ok(()),
        Some(found) => Err(Error::Plan { field, expected: expected.to_owned(), found: found.to_string() }),
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        Self::Start(engine::StartError::Model(error))
    }
}

//! Whole pictures through the engine's loop, as a service draws them.

use std::time::Instant;

use easel_onnx::Transformer;
use easel_package::Manifest;
use serde::Serialize;

use super::{Error, Plan, ms};
use crate::{
    engine::{Candidate, Engine, Event, Options, Request, StartError},
    logits::Parameters,
    model::Transformer as Model,
};

/// A request of so many candidates, without guidance.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    /// Pictures drawn at once.
    pub candidates: usize,
    /// From the request to its last event.
    pub ms: f64,
    /// Until the first token was at hand, the prefill included.
    pub first_token_ms: f64,
    /// Steps of a picture, in the mean.
    pub steps: f64,
    /// Image tokens of all pictures.
    pub tokens_per_second: f64,
}

/// Draws with an engine of as many rows as the largest of these counts.
pub(super) fn draw(
    transformer: Transformer,
    manifest: &Manifest,
    plan: &Plan,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Drawn>, Error> {
    let Some(&rows) = plan.pictures.iter().max() else { return Ok(Vec::new()) };
    let engine = engine(transformer, manifest, Options { rows, guess_rows: plan.guess_rows, ..Options::default() })?;
    let drawn = plan.pictures.iter().map(|&candidates| {
        progress(&format!("{candidates} whole pictures"));
        // A caption of its own for each: the engine keeps those that it has computed.
        one(&engine, &manifest.text.pad(&[candidates as u32 % manifest.text.vocabulary]), candidates)
    });
    let drawn = drawn.collect();
    engine.stop();
    drawn
}

/// An engine of the package's transformer.
pub(super) fn engine(transformer: Transformer, manifest: &Manifest, options: Options) -> Result<Engine, StartError> {
    let died = |reason: &str| tracing::error!(reason, "the engine died");
    Engine::start(Model::new(transformer, manifest), options, manifest.text.pad(&[]), died)
}

/// Of candidates with the seeds from `seed` on, whose every token is told at once.
pub(super) fn request(caption: &[u32], candidates: usize, seed: u64) -> Request {
    Request {
        text: caption.to_vec(),
        unconditional: None,
        candidates: (0..candidates).map(|id| Candidate { id: id as u32, seed: seed + id as u64 }).collect(),
        parameters: Parameters { temperature: 1.0, top_k: 256, top_p: 1.0, guidance_scale: 1.0 },
        given: Vec::new(),
        chunk_size: 1,
        deadline: None,
    }
}

fn one(engine: &Engine, caption: &[u32], candidates: usize) -> Result<Drawn, Error> {
    let started = Instant::now();
    let mut events = engine.submit(request(caption, candidates, 0))?;
    let (mut first, mut steps) = (None, 0);
    while let Some(event) = events.blocking_next() {
        match event? {
            Event::Chunk { .. } => drop(first.get_or_insert_with(|| ms(started))),
            Event::Finished { statistics, .. } => steps += statistics.steps,
            Event::Queued { .. } | Event::Admitted { .. } => {}
        }
    }
    let (ms, tokens) = (ms(started), candidates * engine.geometry().cells);
    let first_token_ms = first.unwrap_or(ms);
    let steps = f64::from(steps) / candidates as f64;
    Ok(Drawn { candidates, ms, first_token_ms, steps, tokens_per_second: tokens as f64 / ms * 1e3 })
}

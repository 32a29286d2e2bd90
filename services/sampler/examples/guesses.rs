//! What guessed tokens bring on the embedded model, a picture at a time with its own defaults: image tokens a step, and the time against that without guesses.
//!
//! `cargo run --release -p easel-sampler --example guesses [-- PICTURES]`
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use easel_onnx::Runtime;
use easel_package::Package;
use easel_sampler::{
    engine::{Candidate, Engine, Event, Options, Request},
    logits::Parameters,
    model::Transformer,
    slots::Pool,
};

/// Captions of the package's manifest, by its tokenizer.
const CAPTIONS: [&[u32]; 4] = [
    &[285, 463, 282, 262, 343, 263, 285, 512],
    &[256, 332, 418, 272, 262, 528],
    &[473, 338, 686],
    &[256, 426, 282, 578],
];

/// Steps and ms of a picture.
fn draw(package: &Package, guess_rows: usize, scale: f32, pictures: u64) -> (f64, f64) {
    let manifest = package.manifest();
    let runtime = Runtime::load().unwrap();
    let options = Options { rows: 2, guess_rows, ..Options::default() };
    let model = easel_onnx::Transformer::load(&runtime, package, &Default::default(), Pool::sequences(2)).unwrap();
    let model = Transformer::new(model, manifest);
    let engine = Engine::start(model, options, manifest.text.pad(&[]), |reason| panic!("{reason}")).unwrap();
    let defaults = manifest.sampling;
    let (mut steps, started) = (0, Instant::now());
    for seed in 0..pictures {
        let text = manifest.text.pad(CAPTIONS[seed as usize % CAPTIONS.len()]);
        let guidance = manifest.guidance.as_ref().filter(|_| scale != 1.0);
        let request = Request {
            unconditional: guidance.map(|guidance| guidance.unconditional(&manifest.text, &text)),
            text,
            candidates: vec![Candidate { id: 0, seed }],
            parameters: Parameters {
                temperature: defaults.temperature,
                top_k: defaults.top_k,
                top_p: defaults.top_p,
                guidance_scale: scale,
            },
            given: Vec::new(),
            chunk_size: manifest.grid.columns as usize,
            deadline: None,
        };
        let mut events = engine.submit(request).unwrap();
        while let Some(event) = events.blocking_next() {
            if let Event::Finished { statistics, .. } = event.unwrap() {
                steps += statistics.steps;
            }
        }
    }
    let each = |total: f64| total / pictures as f64;
    (each(steps.into()), each(started.elapsed().as_secs_f64() * 1e3))
}

fn main() {
    let pictures = std::env::args().nth(1).map_or(64, |word| word.parse().unwrap());
    let package = Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/scenes/package")).unwrap();
    println!("| guidance | tokens guessed along | image tokens a step | ms a picture | of those without |");
    println!("|---|---|---|---|---|");
    for scale in [package.manifest().sampling.guidance_scale, 1.0] {
        let rows = if scale == 1.0 { 1 } else { 2 };
        let (steps, ms) = draw(&package, 0, scale, pictures);
        for window in [1, 2, 4, 8, 16] {
            let (fewer, took) = draw(&package, rows * window, scale, pictures);
            println!("| {scale} | {} | {:.2} | {took:.1} | {:.2} |", window - 1, steps / fewer, took / ms);
        }
    }
}

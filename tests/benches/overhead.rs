//! What the suite adds to the bare models: one request of 8 candidates through all five services over loopback gRPC, against the sampler's engine loop, the
//! decoder and CLIP called directly on the same work. Runs alternate; the table gives medians and their ratio.
//!
//! `cargo bench -p easel-tests --bench overhead [-- --package DIR --geometry S|M|L --candidates N --runs N --threads N]`
//!
//! With `--geometry`, random weights at 4 bits: that transformer with a grid of 8×8, pictures of 256×256 from a decoder of 12 million parameters, and CLIP of ViT-B's
//! width and layers. Made once, in `target/bench`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use easel_import::{ImportOptions, Weights, synthetic};
use easel_onnx::{Clip, ImageDecoder, Options, Runtime, Transformer};
use easel_package::Package;
use easel_proto::v1::{GenerateRequest, ImageFormat, generate_response::Event as Told};
use easel_sampler::{
    engine::{Candidate, Engine, Event, Options as EngineOptions, Request},
    logits::Parameters,
    model::Transformer as Model,
    slots::Pool,
};
use easel_standalone::{Config, Suite};

const PROMPT: &str = "an armchair in the shape of an avocado";
const WORDS: [&str; 8] = ["and", "car", "red", "on", "the", "blue", "fox", "green"];
const SEED: u64 = 7;

struct Arguments {
    package: PathBuf,
    candidates: u32,
    runs: usize,
    threads: usize,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { package: easel_tests::embedded(), candidates: 8, runs: 15, threads: 0 };
    let mut words = std::env::args().skip(1).filter(|w| w != "--bench");
    while let Some(flag) = words.next() {
        let value = words.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        match flag.as_str() {
            "--package" => arguments.package = value.into(),
            "--geometry" => (arguments.package, arguments.runs) = (made(&value), 5),
            "--candidates" => arguments.candidates = value.parse().unwrap(),
            "--threads" => arguments.threads = value.parse().unwrap(),
            "--runs" => arguments.runs = value.parse().unwrap(),
            _ => panic!("unknown option {flag}"),
        }
    }
    arguments
}

/// The package of random weights.
fn made(geometry: &str) -> PathBuf {
    let (width, layers) = match geometry {
        "S" => (384, 8),
        "M" => (1024, 24),
        "L" => (2048, 24),
        _ => panic!("--geometry: expected S, M or L, found {geometry}"),
    };
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let (name, weights) = (format!("whole-{width}x{layers}"), Weights::Q4);
    let folder = cache.join(format!("{name}-{weights}"));
    if !folder.join("manifest.json").is_file() {
        eprintln!("random weights: {} …", folder.display());
        let geometry = synthetic::Geometry {
            name: name.clone(),
            patch: 32,
            decoder_stages: [(512, 6), (256, 4)],
            clip_image_size: 64,
            clip_tower: (768, 12),
            clip_heads: 12,
            ..synthetic::Geometry::dalle(width, layers, 8)
        };
        synthetic::checkpoint(&cache.join(&name), &geometry, 1).unwrap();
        let options = ImportOptions { weights, overwrite: true, ..ImportOptions::default() };
        easel_import::import(&cache.join(&name), &folder, &options, &mut |_| {}).unwrap();
        std::fs::remove_dir_all(cache.join(&name)).unwrap();
    }
    folder
}

/// The models, called directly.
struct Bare {
    package: Package,
    engine: Engine,
    decoder: ImageDecoder,
    clip: Clip,
}

/// How long each bare model took.
struct BareTimes {
    sampler: Duration,
    decoder: Duration,
    clip: Duration,
}

impl Bare {
    fn load(folder: &Path, threads: usize) -> Self {
        let package = Package::open(folder).unwrap();
        let manifest = package.manifest();
        let (runtime, options, rows) =
            (Runtime::load().unwrap(), Options { threads, ..Options::default() }, EngineOptions::default());
        let transformer = Transformer::load(&runtime, &package, &options, Pool::sequences(rows.rows)).unwrap();
        let engine =
            Engine::start(Model::new(transformer, manifest), rows, manifest.text.pad(&[]), |reason| panic!("{reason}"));
        Self {
            engine: engine.unwrap(),
            decoder: ImageDecoder::load(&runtime, &package, &options).unwrap(),
            clip: Clip::load(&runtime, &package, &options).unwrap(),
            package,
        }
    }

    /// Draws, decodes and embeds; the same tokens and parameters as the suite.
    fn run(&mut self, text: &[u32], caption: &[u32], candidates: u32) -> BareTimes {
        let manifest = self.package.manifest();
        let defaults = manifest.sampling;
        let unconditional = manifest.guidance.as_ref().filter(|_| defaults.guidance_scale != 1.0);
        let request = Request {
            text: manifest.text.pad(text),
            unconditional: unconditional
                .map(|guidance| guidance.unconditional(&manifest.text, &manifest.text.pad(text))),
            candidates: (0..candidates).map(|id| Candidate { id, seed: SEED + u64::from(id) }).collect(),
            parameters: Parameters {
                temperature: defaults.temperature,
                top_k: defaults.top_k,
                top_p: defaults.top_p,
                guidance_scale: defaults.guidance_scale,
            },
            given: vec![],
            chunk_size: manifest.grid.columns as usize,
            deadline: None,
        };
        let begin = Instant::now();
        let mut tokens = vec![Vec::new(); candidates as usize];
        let mut events = self.engine.submit(request).unwrap();
        while let Some(event) = events.blocking_next() {
            if let Event::Chunk { candidate, tokens: chunk, .. } = event.unwrap() {
                tokens[candidate as usize].extend(chunk);
            }
        }
        let drawn = Instant::now();
        let pixels = self.decoder.decode(&tokens.concat()).unwrap();
        let decoded = Instant::now();
        let ranker = manifest.ranker.as_ref().unwrap();
        let size = manifest.image;
        let picture = size.width as usize * size.height as usize * 3;
        let seen: Vec<u8> =
            pixels.chunks(picture).flat_map(|p| ranker.preprocess.apply(size.width, size.height, p).unwrap()).collect();
        let mut padded = caption.to_vec();
        padded.resize(ranker.text.context_length as usize, ranker.text.pad);
        self.clip.embed_texts(&padded).unwrap();
        self.clip.embed_images(&seen).unwrap();
        BareTimes { sampler: drawn - begin, decoder: decoded - drawn, clip: decoded.elapsed() }
    }
}

/// The same work through the suite; the wall time that a client sees, and the caption's tokens.
async fn suite(url: &str, prompt: &str, candidates: u32, format: ImageFormat, previews: u32) -> (Duration, Vec<u32>) {
    let request = GenerateRequest {
        format: format.into(),
        previews: Some(previews),
        ..easel_tests::request(prompt, candidates, SEED)
    };
    let begin = Instant::now();
    let drawing = easel_tests::draw(url, request).await.unwrap();
    let elapsed = begin.elapsed();
    assert_eq!(drawing.pictures.len(), candidates as usize);
    let started = drawing.events.into_iter().find_map(|e| match e {
        Told::Started(started) => Some(started.text_tokens),
        _ => None,
    });
    (elapsed, started.unwrap())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Arguments { package, candidates, runs, threads } = arguments();
    let mut bare = Bare::load(&package, threads);
    let models = easel_standalone::Engine { threads, ..Default::default() };
    let config =
        Config { package: vec![package], listen: ([127, 0, 0, 1], 0).into(), engine: models, ..Config::default() };
    let running = runtime.block_on(Suite::start(config)).unwrap();
    let url = running.url();

    // A prompt of its own for each, of equal length: the engine keeps the captions that it has computed.
    let mut numbers = 0..;
    let mut through_suite = |format, previews| {
        let number: usize = numbers.next().unwrap();
        let prompt = format!("{PROMPT} {} {}", WORDS[number % WORDS.len()], WORDS[number / WORDS.len()]);
        runtime.block_on(suite(&url, &prompt, candidates, format, previews))
    };
    let (_, text) = through_suite(ImageFormat::Raw, 0);
    bare.run(&text, &text, candidates);
    let (mut direct, mut through, mut full) = (vec![], vec![], vec![]);
    for _ in 0..runs {
        let (took, text) = through_suite(ImageFormat::Raw, 0);
        through.push(took);
        direct.push(bare.run(&text, &text, candidates));
        full.push(through_suite(ImageFormat::Png, 4).0);
    }
    runtime.block_on(running.shutdown()).unwrap();

    let of = |part: fn(&BareTimes) -> Duration| median(direct.iter().map(part).collect());
    let (sampler, decoder, clip) = (of(|t| t.sampler), of(|t| t.decoder), of(|t| t.clip));
    let sum = of(|t| t.sampler + t.decoder + t.clip);
    let (through, full) = (median(through), median(full));
    println!("{candidates} candidates, medians of {runs} alternating runs, ms");
    println!(
        "| bare sampler | bare decoder | bare CLIP | sum | through five services | ratio | with PNG and 4 previews a picture | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    println!(
        "| {sampler:.1} | {decoder:.1} | {clip:.1} | {sum:.1} | {through:.1} | {:.3} | {full:.1} | {:.3} |",
        through / sum,
        full / sum
    );
}

//! What a precision costs: `cargo run -p easel-import --example precision -- REFERENCE PACKAGE [SAMPLES [CAPTION…]]`, two packages of one checkpoint.
//!
//! For each caption (by default, the manifest's examples), the reference draws SAMPLES pictures (4 by default) from its own distribution; both packages
//! are given those tokens, and their distributions of the next one are compared at every place.

use std::{path::Path, process::ExitCode};

use easel_onnx::{Device, Options, Row, Runtime, Transformer};
use easel_package::Package;
use tokenizers::Tokenizer;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SAMPLES: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<String, Failure> {
    let (reference, package, samples, captions) = match arguments {
        [reference, package] => (reference, package, SAMPLES, &[][..]),
        [reference, package, samples, captions @ ..] => {
            (reference, package, samples.parse::<usize>()?.max(1), captions)
        }
        _ => return Err("expected: REFERENCE PACKAGE [SAMPLES [CAPTION…]]".into()),
    };
    let packages = [Package::open(Path::new(reference))?, Package::open(Path::new(package))?];
    let [manifest, other] = [packages[0].manifest(), packages[1].manifest()];
    if (manifest.codebook, manifest.grid, &manifest.text) != (other.codebook, other.grid, &other.text) {
        return Err("expected two packages of one checkpoint, found another text, grid or codebook".into());
    }
    if !manifest.sampler.row_end.is_empty() {
        return Err("expected a grid of drawn tokens alone, found rows that end in others".into());
    }
    let (runtime, options) = (Runtime::load()?, Options { device: Device::Cpu, ..Options::default() });
    let load = |package: &Package| Transformer::load(&runtime, package, &options, samples);
    let mut both = [load(&packages[0])?, load(&packages[1])?];
    let mut compared = Compared::default();
    for text in texts(&packages[0], captions)? {
        compare(&mut both, &text, &packages[0], samples, &mut compared)?;
    }
    Ok(compared.summary())
}

/// The captions, or the package's examples where there are none, as the sampler reads them.
fn texts(package: &Package, captions: &[String]) -> Result<Vec<Vec<u32>>, Failure> {
    let manifest = package.manifest();
    let Some(tokenizer) = &manifest.text.tokenizer else { return Ok(vec![manifest.text.pad(&[])]) };
    let tokenizer = Tokenizer::from_file(package.file(tokenizer)?)?;
    let text = |caption: &String| Ok(manifest.text.pad(tokenizer.encode(caption.as_str(), true)?.get_ids()));
    let captions = if captions.is_empty() { &manifest.examples } else { captions };
    captions.iter().map(text).collect()
}

/// Draws pictures of one caption with the first engine and adds up how the second differs.
fn compare(
    both: &mut [Transformer; 2],
    text: &[u32],
    package: &Package,
    samples: usize,
    compared: &mut Compared,
) -> Result<(), Failure> {
    let (length, codebook) = (package.manifest().text.length as usize, package.manifest().codebook as usize);
    let first = length - text.len();
    let mut rows: Vec<Row> = Vec::new();
    for slot in 0..samples {
        both.iter_mut().try_for_each(|engine| engine.begin(slot, None))?;
        rows.extend(text.iter().enumerate().map(|(i, token)| {
            let position = (first + i) as u32;
            Row { slot, token: *token, position, logits: i + 1 == text.len() }
        }));
    }
    for cell in 0..package.manifest().grid.cells() {
        let [reference, other] = both;
        let (reference, other) = (reference.step(&rows)?, other.step(&rows)?);
        rows.clear();
        for (slot, (a, b)) in reference.chunks_exact(codebook).zip(other.chunks_exact(codebook)).enumerate() {
            let token = compared.add(&softmax(a), &softmax(b));
            rows.push(Row { slot, token: token as u32, position: (length + cell) as u32, logits: true });
        }
    }
    Ok(())
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let mut values: Vec<f64> = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).collect();
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value /= sum);
    values
}

#[derive(Default)]
struct Compared {
    places: usize,
    same_best: usize,
    same_draw: usize,
    divergences: Vec<f64>,
    /// The state of SplitMix64.
    random: u64,
}

impl Compared {
    /// Compares the distributions at one place, and draws from the first.
    fn add(&mut self, a: &[f64], b: &[f64]) -> usize {
        let best = |p: &[f64]| p.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)).map_or(0, |(i, _)| i);
        let divergence =
            a.iter().zip(b).filter(|(a, _)| **a > 0.0).map(|(a, b)| a * (a / b.max(f64::MIN_POSITIVE)).ln());
        self.divergences.push(divergence.sum());
        self.places += 1;
        self.same_best += usize::from(best(a) == best(b));
        let uniform = self.uniform();
        let [drawn, other] = [a, b].map(|p| draw(p, uniform));
        self.same_draw += usize::from(drawn == other);
        drawn
    }

    /// 0 … 1.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn summary(mut self) -> String {
        self.divergences.sort_by(f64::total_cmp);
        let share = |count: usize| 100.0 * count as f64 / self.places.max(1) as f64;
        let mean = self.divergences.iter().sum::<f64>() / self.places.max(1) as f64;
        let high = self.divergences.get(self.places * 99 / 100).copied().unwrap_or_default();
        format!(
            "{} places: arg max equal at {:.2} %, draw by the same uniform number equal at {:.2} %, divergence (nats) {mean:.2e} on average, {high:.2e} at the 99th percentile",
            self.places,
            share(self.same_best),
            share(self.same_draw),
        )
    }
}

/// The first token at which the distribution adds up to `uniform`.
fn draw(distribution: &[f64], uniform: f64) -> usize {
    let mut sum = 0.0;
    let reached = distribution.iter().position(|p| {
        sum += p;
        sum > uniform
    });
    reached.unwrap_or(distribution.len() - 1)
}

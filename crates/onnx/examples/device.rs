//! A package for CUDA against one for the CPU, both of the same random weights: logits, then ms a step by batch. See `tests/gpu/run`.
#![allow(clippy::print_stdout)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use easel_import::{Device as For, ImportOptions, Mask, Weights, import, synthetic};
use easel_onnx::{Device, Options, Prefix, Row, Runtime, Transformer};
use easel_package::Package;

type Failure = Box<dyn std::error::Error>;

/// Steps timed at each batch.
const STEPS: u32 = 16;

struct Arguments {
    dir: PathBuf,
    dry: bool,
    cuda_graphs: bool,
    width: u32,
    layers: usize,
    grid: u32,
    batches: Vec<usize>,
    /// Between logits of a spread of 4.
    tolerance: f32,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        dir: PathBuf::from("out"),
        dry: false,
        cuda_graphs: false,
        width: 128,
        layers: 4,
        grid: 8,
        batches: vec![1],
        tolerance: 0.1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--dry" => arguments.dry = true,
            "--cuda-graphs" => arguments.cuda_graphs = true,
            "--dir" => arguments.dir = value()?.into(),
            "--width" => arguments.width = value()?.parse()?,
            "--layers" => arguments.layers = value()?.parse()?,
            "--grid" => arguments.grid = value()?.parse()?,
            "--batches" => arguments.batches = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--tolerance" => arguments.tolerance = value()?.parse()?,
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(arguments)
}

fn run(a: &Arguments) -> Result<(), Failure> {
    let [here, there] = packages(a)?;
    let runtime = Runtime::load()?;
    let most = a.batches.iter().max().copied().unwrap_or(1);
    let cpu = Options { device: Device::Cpu, ..Options::default() };
    let cuda = Options { device: Device::Cuda, cuda_graphs: a.cuda_graphs, ..Options::default() };
    let mut expected = Transformer::load(&runtime, &here, &cpu, 3)?;
    let mut found = match a.dry {
        true => Transformer::rehearse(&runtime, &there, 0, most + 1)?,
        false => Transformer::load(&runtime, &there, &cuda, (most + 1).max(3))?,
    };
    let (farthest, agreed) = compare(&mut expected, &mut found, &there)?;
    println!(
        "{} wide, {} layers, on {}: logits differ by {farthest:.2e}, likeliest tokens are equal in {agreed:.1} %",
        a.width,
        a.layers,
        found.device()
    );
    if farthest.is_nan() || farthest > a.tolerance {
        return Err(format!("logits differ by {farthest}, more than {}", a.tolerance).into());
    }
    let weights = there.manifest().files.iter().filter(|(name, _)| name.starts_with("sampler.onnx"));
    let weights: u64 = weights.map(|(_, file)| file.bytes).sum();
    println!("keys and values of a candidate: {:.1} MiB", found.kv_bytes_per_candidate() as f64 / f64::from(1 << 20));
    println!("batch | ms a step | tokens a second | GB a second of weights alone");
    for &batch in &a.batches {
        let seconds = time(&mut found, &there, batch)?;
        let (ms, tokens, bandwidth) = (1e3 * seconds, batch as f64 / seconds, weights as f64 / seconds / 1e9);
        println!("{batch:5} | {ms:9.3} | {tokens:15.0} | {bandwidth:.0}");
    }
    Ok(())
}

/// One checkpoint for the CPU and for CUDA.
fn packages(a: &Arguments) -> Result<[Package; 2], Failure> {
    let mask = |layer: usize| match layer {
        last if last + 1 == a.layers => Mask::Conv,
        layer if layer % 4 == 1 => Mask::Column,
        _ => Mask::Row,
    };
    let geometry = synthetic::Geometry {
        name: format!("random-{}x{}", a.width, a.layers),
        text_length: if a.dry { 16 } else { 256 },
        grid: a.grid,
        levels: if a.dry { vec![8, 5, 5] } else { vec![8, 8, 8, 16] },
        width: a.width,
        heads: (a.width / 64).max(1),
        masks: (0..a.layers).map(mask).collect(),
        conv_kernel: 11,
        ..synthetic::Geometry::default()
    };
    let checkpoint = a.dir.join("checkpoint");
    synthetic::checkpoint(&checkpoint, &geometry, 1)?;
    let package = |device: For, out: &Path| {
        let options = ImportOptions { device, weights: Weights::F16, ..ImportOptions::default() };
        import(&checkpoint, out, &options, &mut |_| ())
    };
    Ok([package(For::Cpu, &a.dir.join("cpu"))?, package(For::Cuda, &a.dir.join("cuda"))?])
}

/// The largest difference of logits, and how often the same token is the likeliest, in %: a caption, then tokens of two candidates of it.
fn compare(expected: &mut Transformer, found: &mut Transformer, package: &Package) -> Result<(f32, f64), Failure> {
    let manifest = package.manifest();
    let (text, codebook) = (manifest.text.length, manifest.codebook);
    let steps = 40.min(manifest.grid.cells() as u32);
    let likeliest = |logits: &[f32]| logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
    let (mut farthest, mut rows_seen, mut agreed) = (0.0_f32, 0, 0);
    for step in 0..=steps {
        let token = |slot: usize, position: u32| (slot as u32 * 7 + position * 131) % codebook;
        let row = |slot, position| Row { slot, token: token(slot, position), position, logits: true };
        let rows: Vec<Row> = match step {
            0 => (0..text).map(|p| Row { slot: 2, token: p % 5, position: p, logits: p + 1 == text }).collect(),
            _ => (0..2.min(expected.sequences() - 1)).map(|slot| row(slot, text + step - 1)).collect(),
        };
        for transformer in [&mut *expected, &mut *found] {
            match step {
                0 => transformer.begin(2, None)?,
                1 => (0..2).try_for_each(|slot| transformer.begin(slot, Some(Prefix { slot: 2, length: text })))?,
                _ => {}
            }
        }
        let (one, other) = (expected.step(&rows)?, found.step(&rows)?);
        for (a, b) in one.chunks_exact(codebook as usize).zip(other.chunks_exact(codebook as usize)) {
            let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
            farthest = distances.fold(farthest, |most, d| if d.is_nan() { d } else { most.max(d) });
            rows_seen += 1;
            agreed += usize::from(likeliest(a) == likeliest(b));
        }
    }
    Ok((farthest, 100.0 * agreed as f64 / f64::from(rows_seen)))
}

/// Median seconds of a step of `batch` candidates of one caption, in the middle of their pictures.
fn time(transformer: &mut Transformer, package: &Package, batch: usize) -> Result<f64, Failure> {
    let manifest = package.manifest();
    let (text, half) = (manifest.text.length, manifest.grid.cells() as u32 / 2);
    transformer.begin(batch, None)?;
    transformer.fill(batch, 0..text)?;
    for slot in 0..batch {
        transformer.begin(slot, Some(Prefix { slot: batch, length: text }))?;
        transformer.fill(slot, text..text + half)?;
    }
    let mut times = Vec::new();
    for position in text + half..text + half + STEPS {
        let rows: Vec<Row> = (0..batch).map(|slot| Row { slot, token: 1, position, logits: true }).collect();
        let started = Instant::now();
        transformer.step(&rows)?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

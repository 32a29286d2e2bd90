//! What attention alone costs: a transformer of nothing but `easel.Attention`, 24 layers of 16 heads of 64 with DALL·E's masks, 256 text and 1024 image tokens.
//!
//! `cargo bench -p easel-onnx --bench attend [-- --kv bf16] [-- --threads N]`
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::{fs, time::Instant};

use easel_import::{ImportOptions, import, synthetic};
use easel_onnx::{Device, Options, Precision, Prefix, Row, Runtime, Transformer};
use easel_package::Package;

const TEXT: usize = 256;
const SIDE: usize = 32;
const POSITIONS: usize = TEXT + SIDE * SIDE;
const LAYERS: usize = 24;
const HEADS: usize = 16;
const WIDTH: usize = 1024;
/// Steps of a measurement.
const STEPS: usize = 24;

/// Protobuf: a field is a key (number · 8 + wire type), then a number or a length and bytes.
mod onnx {
    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    pub fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        [&varint(field << 3 | 2), &varint(value.as_ref().len() as u64), value.as_ref()].concat()
    }

    pub fn node(operator: &str, domain: &str, inputs: &[&str], output: &str, attributes: Vec<u8>) -> Vec<u8> {
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
        let output = [bytes(2, output), bytes(4, operator), attributes, bytes(7, domain)].concat();
        bytes(1, [inputs, output].concat())
    }

    pub fn int(name: &str, value: usize) -> Vec<u8> {
        bytes(5, [bytes(1, name), number(3, value as u64), number(20, 2)].concat())
    }

    pub fn text(name: &str, value: &str) -> Vec<u8> {
        bytes(5, [bytes(1, name), bytes(4, value), number(20, 3)].concat())
    }

    pub fn float(name: &str, value: f32) -> Vec<u8> {
        let value = [vec![2 << 3 | 5], value.to_le_bytes().to_vec()].concat();
        bytes(5, [bytes(1, name), value, number(20, 1)].concat())
    }

    pub fn value(field: u64, name: &str, element: u64, shape: &[Result<usize, &str>]) -> Vec<u8> {
        let dimension = |n: &Result<usize, &str>| bytes(1, n.map_or_else(|n| bytes(2, n), |n| number(1, n as u64)));
        let shape: Vec<u8> = shape.iter().flat_map(dimension).collect();
        let tensor = bytes(1, [number(1, element), bytes(2, shape)].concat());
        bytes(field, [bytes(1, name), bytes(2, tensor)].concat())
    }

    pub fn table(name: &str, shape: [usize; 2], numbers: &[f32]) -> Vec<u8> {
        let raw: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = shape.map(|n| number(1, n as u64)).concat();
        bytes(5, [shape, number(2, 1), bytes(8, name), bytes(9, raw)].concat())
    }
}

/// Numbers that look random: SplitMix64, about normal.
fn numbers(count: usize, mut state: u64) -> Vec<f32> {
    let mut uniform = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 1.7 - 3.4).collect()
}

/// Layers 2, 6, 10 … see columns, the last a square of 11×11, the others rows.
fn mask(layer: usize) -> &'static str {
    match layer {
        _ if layer + 1 == LAYERS => "conv",
        _ if layer % 4 == 1 => "column",
        _ => "row",
    }
}

fn graph(ids: usize) -> Vec<u8> {
    let mut graph = onnx::bytes(2, "attention");
    for (seed, name) in ["query", "key", "value"].into_iter().enumerate() {
        let table = format!("{name}.table");
        graph.extend(onnx::table(&table, [ids, WIDTH], &numbers(ids * WIDTH, seed as u64)));
        graph.extend(onnx::node("Gather", "", &[&table, "token_ids"], name, Vec::new()));
    }
    let mut query = "query".to_owned();
    for layer in 0..LAYERS {
        let context = format!("context.{layer}");
        let ints = [("layer", layer), ("heads", HEADS), ("text_length", TEXT), ("rows", SIDE), ("columns", SIDE)];
        let mut attributes: Vec<u8> = ints.iter().flat_map(|(name, value)| onnx::int(name, *value)).collect();
        attributes
            .extend([onnx::int("kernel", 11), onnx::text("mask", mask(layer)), onnx::float("scale", 0.125)].concat());
        let inputs = [&query, "key", "value", "slots", "positions"];
        graph.extend(onnx::node("Attention", "easel", &inputs, &context, attributes));
        query = context;
    }
    graph.extend(onnx::node("Gather", "", &[&query, "logit_rows"], "logits", Vec::new()));
    for name in ["token_ids", "positions", "slots"] {
        graph.extend(onnx::value(11, name, 7, &[Err("n")]));
    }
    graph.extend(onnx::value(11, "logit_rows", 7, &[Err("m")]));
    graph.extend(onnx::value(12, "logits", 1, &[Err("m"), Ok(WIDTH)]));
    let opset = |domain: &str, version| onnx::bytes(8, [onnx::bytes(1, domain), onnx::number(2, version)].concat());
    [onnx::number(1, 9), onnx::bytes(7, graph), opset("", 20), opset("easel", 1)].concat()
}

fn package(dir: &std::path::Path) -> Package {
    let geometry = synthetic::Geometry {
        text_length: TEXT as u32,
        grid: SIDE as u32,
        levels: vec![4, 4, 8, 8],
        ..synthetic::Geometry::default()
    };
    let (checkpoint, package) = (dir.join("checkpoint"), dir.join("package"));
    synthetic::checkpoint(&checkpoint, &geometry, 1).unwrap();
    let package = import(&checkpoint, &package, &ImportOptions::default(), &mut |_| ()).unwrap();
    let mut manifest = package.manifest().clone();
    let attention = &mut manifest.sampler.attention;
    (attention.layers, attention.heads, attention.head_width) = (LAYERS as u32, HEADS as u32, (WIDTH / HEADS) as u32);
    let ids = manifest.text.vocabulary.max(manifest.codebook) as usize;
    fs::write(package.dir().join(&manifest.sampler.graph), graph(ids)).unwrap();
    Package::seal(package.dir(), manifest).unwrap()
}

fn row(slot: usize, position: usize) -> Row {
    Row { slot, token: ((slot * 31 + position * 7) % 200) as u32, position: position as u32, logits: true }
}

/// Processor time of all threads, in milliseconds, where the system tells it: it is what can be compared on a machine that does other work too.
fn processor_ms() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = |task: fs::DirEntry| -> Option<f64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(nanoseconds).sum::<f64>() * 1e-6
}

/// Milliseconds of a step: processor time, and the least time by the clock.
fn measure(steps: impl Iterator<Item = Vec<Row>>, transformer: &mut Transformer) -> (f64, f64) {
    let (mut least, mut count, before) = (f64::INFINITY, 0, processor_ms());
    for rows in steps {
        let started = Instant::now();
        transformer.step(&rows).unwrap();
        least = least.min(started.elapsed().as_secs_f64() * 1e3);
        count += 1;
    }
    ((processor_ms() - before) / f64::from(count), least)
}

/// Steps of `batch` rows of as many sequences with `captions` captions, at the begin and the end of a picture.
fn steps(transformer: &mut Transformer, batch: usize, captions: usize) {
    for slot in batch..batch + captions {
        transformer.begin(slot, None).unwrap();
        transformer.step(&(0..TEXT).map(|position| row(slot, position)).collect::<Vec<_>>()).unwrap();
    }
    for slot in 0..batch {
        transformer.begin(slot, Some(Prefix { slot: batch + slot % captions, length: TEXT as u32 })).unwrap();
    }
    for (position, count) in [(TEXT, STEPS), (TEXT + STEPS, POSITIONS - TEXT - 2 * STEPS), (POSITIONS - STEPS, STEPS)] {
        let positions = position..position + count;
        if count != STEPS {
            for slot in 0..batch {
                transformer.step(&positions.clone().map(|position| row(slot, position)).collect::<Vec<_>>()).unwrap();
            }
            continue;
        }
        let step = |position| (0..batch).map(|slot| row(slot, position)).collect();
        let (processor, clock) = measure(positions.map(step), transformer);
        println!(
            "{batch} rows, {captions} captions, from position {position}: {processor:.2} ms of processor time a step, {clock:.2} by the clock"
        );
    }
}

fn main() {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let kv: Precision = argument("--kv").map_or(Precision::F32, |kv| kv.parse().unwrap());
    let threads = argument("--threads").map_or(0, |threads| threads.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path());
    let options = Options { device: Device::Cpu, threads, kv, ..Options::default() };
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &package, &options, 16).unwrap();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let (whole, candidate) = (transformer.kv_bytes_per_sequence(), transformer.kv_bytes_per_candidate());
    println!("{kv}: {:.1} MiB a sequence, {:.1} of them a candidate's own", mib(whole), mib(candidate));
    for (batch, captions) in [(1, 1), (8, 1), (8, 8)] {
        steps(&mut transformer, batch, captions);
    }
    for (name, before, count) in [("a caption", 0, TEXT), ("half a picture", TEXT, SIDE * SIDE / 2)] {
        transformer.begin(0, None).unwrap();
        let rows =
            |from: usize, count: usize| (from..from + count).map(|position| row(0, position)).collect::<Vec<_>>();
        if before > 0 {
            transformer.step(&rows(0, before)).unwrap();
        }
        let (processor, clock) = measure(std::iter::once(rows(before, count)), &mut transformer);
        println!("prefill of {name}, {count} tokens: {processor:.1} ms of processor time, {clock:.1} by the clock");
    }
}

//! Packages for CUDA, rehearsed on the CPU: the graph of stock operators and the engine on the device give what Easel's own attention gives.
//!
//! Sums are taken in another order, so that logits (of a spread of about 4) are held to [`TOLERANCE`], and what they decide to the token.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, Random, cpu, middle, tiny};
use easel_import::{ImportOptions, Mask, Weights, synthetic::Geometry};
use easel_onnx::{Device, Options, Prefix, Row, Runtime, Transformer};
use easel_package::Package;

/// Of logits in 32 bits.
const TOLERANCE: f32 = 1e-4;

fn package(geometry: &Geometry, device: easel_import::Device, weights: Weights) -> Fixture {
    Fixture::import(geometry, &ImportOptions { device, weights, ..ImportOptions::default() })
}

/// One layer of every mask.
fn masks() -> Geometry {
    let masks = vec![Mask::Row, Mask::Column, Mask::AxialRow, Mask::Corner, Mask::Conv, Mask::Torus, Mask::Full];
    Geometry { masks, ..tiny() }
}

fn on_cpu(package: &Package, sequences: usize) -> Transformer {
    Transformer::load(&Runtime::load().unwrap(), package, &cpu(2), sequences).unwrap()
}

fn on_device(package: &Package, sequences: usize) -> Transformer {
    Transformer::rehearse(&Runtime::load().unwrap(), package, 2, sequences).unwrap()
}

/// Captions, every third of them the same, and their pictures.
fn sequences(package: &Package, count: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let manifest = package.manifest();
    let (text, image) = (manifest.text.vocabulary as usize, manifest.codebook as usize);
    let mut tokens = |count: u32, bound: usize| (0..count).map(|_| random.below(bound) as u32).collect::<Vec<_>>();
    let captions: Vec<Vec<u32>> = (0..3).map(|_| tokens(manifest.text.length, text)).collect();
    let cells = manifest.grid.cells() as u32;
    (0..count).map(|i| [captions[i % 3].clone(), tokens(cells, image)].concat()).collect()
}

/// The logits after every position of a sequence, from the last of the text on.
fn alone(transformer: &mut Transformer, tokens: &[u32], text: usize) -> Vec<Vec<f32>> {
    transformer.begin(0, None).unwrap();
    let step = |(position, token): (usize, &u32)| {
        let row = Row { slot: 0, token: *token, position: position as u32, logits: position + 1 >= text };
        transformer.step(&[row]).unwrap().to_vec()
    };
    tokens.iter().enumerate().map(step).filter(|logits| !logits.is_empty()).collect()
}

/// The largest difference to `expected`.
fn farthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |most, d| if d.is_nan() { f32::NAN } else { most.max(d) })
}

/// What a slot holds: which sequence, and how much of it.
type Held = Option<(usize, usize)>;

/// Slots are begun, alone or behind what others hold, given up, and fed with any number of tokens: every logit is the one of the sequence alone.
fn hold(geometry: &Geometry, weights: Weights, (slots, steps): (usize, usize), tolerance: f32) {
    let random = &mut Random(5);
    let here = package(geometry, easel_import::Device::Cpu, weights);
    let there = package(geometry, easel_import::Device::Cuda, weights);
    let (text, codebook) = (geometry.text_length as usize, here.package.manifest().codebook as usize);
    let sequences = sequences(&here.package, 6, random);
    let mut transformer = on_cpu(&here.package, 1);
    let expected: Vec<_> = sequences.iter().map(|tokens| alone(&mut transformer, tokens, text)).collect();
    let mut transformer = on_device(&there.package, slots);
    let mut held: Vec<Held> = vec![None; slots];
    let (mut compared, mut worst) = (0, 0.0_f32);
    for _ in 0..steps {
        let slot = random.below(slots);
        if held[slot].is_none() || random.below(4) == 0 {
            let sequence = random.below(sequences.len());
            let shared = |&(other, next): &(usize, usize)| {
                sequences[other].iter().zip(&sequences[sequence]).take(next).take_while(|(a, b)| a == b).count()
            };
            let source = (0..slots).filter(|&source| source != slot);
            let source = source.filter_map(|source| Some((source, held[source].as_ref().map(shared)?)));
            let prefix = source.filter(|(_, length)| *length > 0).max_by_key(|(_, length)| *length);
            let whole = random.below(2) == 0;
            let length = |most: usize| if whole { most } else { most.min(text) };
            let prefix = prefix.map(|(slot, most)| Prefix { slot, length: length(most) as u32 });
            transformer.begin(slot, prefix).unwrap();
            held[slot] = Some((sequence, prefix.map_or(0, |prefix| prefix.length as usize)));
        }
        let (mut rows, mut origins) = (Vec::new(), Vec::new());
        for _ in 0..random.below(3 * slots) {
            let slot = random.below(slots);
            let Some((sequence, next)) = held[slot].as_mut().filter(|(_, next)| *next < sequences[0].len()) else {
                continue;
            };
            let many = if *next < text { 1 + random.below(text - *next) } else { 1 };
            for _ in 0..many {
                let logits = *next + 1 >= text && random.below(4) > 0;
                rows.push(Row { slot, token: sequences[*sequence][*next], position: *next as u32, logits });
                if logits {
                    origins.push((*sequence, *next + 1 - text));
                }
                *next += 1;
            }
        }
        let found = transformer.step(&rows).unwrap();
        assert_eq!(found.len(), origins.len() * codebook);
        for (&(sequence, place), found) in origins.iter().zip(found.chunks_exact(codebook)) {
            let distance = farthest(found, &expected[sequence][place]);
            assert!(distance <= tolerance, "sequence {sequence}, place {place}: {distance}");
            worst = worst.max(distance);
            compared += 1;
        }
    }
    assert!(compared > steps, "{compared}");
    println!("{compared} rows of logits, the farthest {worst}");
}

#[test]
fn every_mask_sees_what_it_sees_on_the_cpu_whatever_slots_hold() {
    hold(&masks(), Weights::F32, (7, 300), TOLERANCE);
}

#[test]
fn a_larger_model_gives_the_same_logits() {
    hold(&middle(), Weights::F32, (5, 60), TOLERANCE);
}

#[test]
fn weights_and_sums_of_16_bits_stay_near() {
    hold(&masks(), Weights::F16, (3, 60), 0.05);
}

/// The tokens of `candidates` of one caption with guidance, always the likeliest.
fn greedy(transformer: &mut Transformer, package: &Package, candidates: usize) -> Vec<Vec<u32>> {
    let manifest = package.manifest();
    let (text, codebook) = (manifest.text.length, manifest.codebook as usize);
    let (conditional, unconditional) = (2 * candidates, 2 * candidates + 1);
    let mut rows = Vec::new();
    for (slot, token) in [(conditional, 3), (unconditional, 1)] {
        transformer.begin(slot, None).unwrap();
        rows.extend((0..text).map(|position| Row { slot, token, position, logits: position + 1 == text }));
    }
    let mut logits = transformer.step(&rows).unwrap().repeat(candidates);
    for slot in 0..2 * candidates {
        let prefix = Prefix { slot: [conditional, unconditional][slot % 2], length: text };
        transformer.begin(slot, Some(prefix)).unwrap();
    }
    let mut drawn = vec![Vec::new(); candidates];
    for cell in 0..manifest.grid.cells() {
        let mut rows = Vec::new();
        for (i, both) in logits.chunks_exact(2 * codebook).enumerate() {
            let guided = |k: usize| both[codebook + k] + 3.0 * (both[k] - both[codebook + k]);
            // Candidates part ways at their first token.
            let rank = if cell == 0 { i } else { 0 };
            let mut tokens: Vec<usize> = (0..codebook).collect();
            tokens.sort_by(|&a, &b| guided(b).total_cmp(&guided(a)));
            let token = tokens[rank] as u32;
            drawn[i].push(token);
            let row = |slot| Row { slot, token, position: text + cell as u32, logits: true };
            rows.extend([row(2 * i), row(2 * i + 1)]);
        }
        if cell + 1 < manifest.grid.cells() {
            logits = transformer.step(&rows).unwrap().to_vec();
        }
    }
    drawn
}

#[test]
fn candidates_of_a_caption_get_the_same_tokens_with_guidance() {
    let here = package(&masks(), easel_import::Device::Cpu, Weights::F32);
    let there = package(&masks(), easel_import::Device::Cuda, Weights::F32);
    let expected = greedy(&mut on_cpu(&here.package, 12), &here.package, 5);
    let mut transformer = on_device(&there.package, 12);
    assert_eq!(greedy(&mut transformer, &there.package, 5), expected);
    assert_eq!(greedy(&mut transformer, &there.package, 5), expected, "in slots that held others");
}

#[test]
fn a_package_for_another_device_is_refused_by_the_names_of_both() {
    let refusal = |device: easel_import::Device, asked: Device| {
        let fixture = package(&tiny(), device, Weights::F32);
        let options = Options { device: asked, ..cpu(1) };
        Transformer::load(&Runtime::load().unwrap(), &fixture.package, &options, 1).unwrap_err().to_string()
    };
    let message = "package synthetic: its sampler is made for cpu, and cuda is asked for: \
                   ask for cpu, or import the checkpoint with --device cuda";
    assert_eq!(refusal(easel_import::Device::Cpu, Device::Cuda), message);
    let message = "package synthetic: its sampler is made for cuda, and cpu is asked for: \
                   ask for cuda, or import the checkpoint with --device cpu";
    assert_eq!(refusal(easel_import::Device::Cuda, Device::Cpu), message);
}

#[test]
fn weights_in_blocks_are_refused_for_cuda() {
    let dir = tempfile::tempdir().unwrap();
    easel_import::synthetic::checkpoint(dir.path(), &tiny(), 1).unwrap();
    let options =
        ImportOptions { device: easel_import::Device::Cuda, weights: Weights::Q4, ..ImportOptions::default() };
    let error = easel_import::import(dir.path(), &dir.path().join("out"), &options, &mut |_| ()).unwrap_err();
    let message = "device cuda: weights: expected f16 or f32, found q4; import with --device cpu";
    assert_eq!(error.to_string(), message);
}

#[test]
fn memory_is_told_and_bounded() {
    let there = package(&tiny(), easel_import::Device::Cuda, Weights::F32);
    let transformer = on_device(&there.package, 3);
    // Texts of 16 and their spare entries; a ring of 7, six columns of 6, a ring of 8 and all 36, each with spare entries.
    let entries = |read: usize| (read + 1).next_multiple_of(4);
    let kept = 4 * entries(16) + entries(7) + 6 * entries(6) + entries(8) + entries(36);
    assert_eq!(transformer.kv_bytes_per_sequence(), kept * 2 * 32 * 4);
}

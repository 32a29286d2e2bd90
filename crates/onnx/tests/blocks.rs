//! Weights in 4 and 8 bits: a row's bits are its own, and the numbers are those that the blocks stand for.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::{Fixture, Random, cpu, tiny};
use easel_import::{ImportOptions, Mask, Weights, import, synthetic, synthetic::Geometry};
use easel_onnx::{Row, Runtime, Transformer};
use easel_package::Package;
use serde_json::Value;

/// Rows of a call; ONNX Runtime cuts many into pieces of 128, of which one row may be left.
const COUNTS: [usize; 15] = [2, 3, 4, 5, 7, 8, 15, 16, 31, 33, 64, 128, 129, 130, 257];
const SLOTS: usize = 257;

fn options(weights: Weights) -> ImportOptions {
    ImportOptions { weights, ..ImportOptions::default() }
}

fn wide() -> Geometry {
    Geometry { width: 192, heads: 3, masks: vec![Mask::Row, Mask::Full], ..tiny() }
}

/// Logits after the first token of each slot, alone.
fn alone(transformer: &mut Transformer, rows: &[Row]) -> Vec<Vec<f32>> {
    let one = |row: &Row| {
        transformer.begin(row.slot, None).unwrap();
        transformer.step(&[*row]).unwrap().to_vec()
    };
    rows.iter().map(one).collect()
}

#[test]
fn a_rows_bits_do_not_depend_on_how_many_there_are_nor_on_their_order() {
    let runtime = Runtime::load().unwrap();
    for (geometry, weights) in
        [(tiny(), Weights::Q8), (tiny(), Weights::Q4), (wide(), Weights::Q8), (wide(), Weights::Q4)]
    {
        let fixture = Fixture::import(&geometry, &options(weights));
        let codebook = fixture.package.manifest().codebook as usize;
        let random = &mut Random(4);
        let mut rows: Vec<Row> =
            (0..SLOTS).map(|slot| Row { slot, token: random.below(268) as u32, position: 0, logits: true }).collect();
        let mut expected = None;
        for threads in [1, 2, 3] {
            let mut transformer = Transformer::load(&runtime, &fixture.package, &cpu(threads), SLOTS).unwrap();
            let expected = expected.get_or_insert_with(|| alone(&mut transformer, &rows));
            for count in COUNTS {
                random.shuffle(&mut rows);
                rows[..count].iter().for_each(|row| transformer.begin(row.slot, None).unwrap());
                let out = transformer.step(&rows[..count]).unwrap();
                for (row, out) in rows.iter().zip(out.chunks_exact(codebook)) {
                    assert!(out == expected[row.slot], "{weights}, {threads} threads, {count} rows");
                }
            }
            rows.sort_by_key(|row| row.slot);
        }
    }
}

/// Makes every matrix of the transformer one that 4-bit blocks of 32 hold exactly: codes −8 … 7, with a −8 in each block, times a power of two.
fn make_exact(path: &Path) {
    let mut file = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&file[8..start]).unwrap();
    for (name, tensor) in header.as_object().unwrap() {
        let shape: Vec<usize> =
            tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        if shape.len() != 2 || !(name.starts_with("layers.") || name == "image_head.weight") {
            continue;
        }
        let from = start + tensor["data_offsets"][0].as_u64().unwrap() as usize;
        let numbers = file[from..from + 4 * shape[0] * shape[1]].as_chunks_mut::<4>().0;
        let scale = 2_f32.powi(-2) / (shape[1] as f32).sqrt().round();
        let scale = f32::from_bits(scale.to_bits() & 0xff80_0000);
        for (i, number) in numbers.iter_mut().enumerate() {
            let code = (f32::from_le_bytes(*number) / scale).round().clamp(-8.0, 7.0);
            *number = (if i % 32 == i / 32 % 32 { -8.0 } else { code } * scale).to_le_bytes();
        }
    }
    fs::write(path, file).unwrap();
}

/// The logits after each position of one sequence, one after another.
fn logits(package: &Package) -> Vec<f32> {
    let manifest = package.manifest();
    let (text, cells) = (manifest.text.length as usize, manifest.grid.cells());
    let random = &mut Random(8);
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), package, &cpu(2), 1).unwrap();
    transformer.begin(0, None).unwrap();
    let rows: Vec<Row> = (0..text + cells)
        .map(|position| Row { slot: 0, token: random.below(200) as u32, position: position as u32, logits: true })
        .collect();
    transformer.step(&rows).unwrap().to_vec()
}

/// The root of the mean square of the difference, as a share of that of `a`.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let square = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|v| f64::from(v).powi(2)).sum::<f64>();
    (square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut a.iter().copied())).sqrt()
}

#[test]
fn matrices_that_blocks_hold_exactly_give_the_logits_of_full_precision() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("checkpoint");
    synthetic::checkpoint(&checkpoint, &wide(), 2).unwrap();
    let package = |weights: Weights, name: &str| {
        import(&checkpoint, &dir.path().join(name), &options(weights), &mut |_| ()).unwrap()
    };
    let plain = [Weights::F16, Weights::Q8, Weights::Q4].map(|weights| logits(&package(weights, &weights.to_string())));
    let lost = [difference(&plain[0], &plain[1]), difference(&plain[0], &plain[2])];
    make_exact(&checkpoint.join("transformer.safetensors"));
    let exact = [Weights::F16, Weights::Q4].map(|weights| logits(&package(weights, &format!("exact-{weights}"))));
    let left = difference(&exact[0], &exact[1]);
    println!("lost with 8 bits {:.4}, with 4 {:.4}; with 4 of exact matrices {left:.4}", lost[0], lost[1]);
    assert!(lost[0] < 0.03 && lost[1] < 0.4, "{lost:?}");
    assert!(left < 0.03, "{left}");
}

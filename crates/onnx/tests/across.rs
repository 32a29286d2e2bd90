//! A text that is encoded and attended to across, and that the decoder's own attention does not see: DALL·E Mini, whose own package gave the tokens
//! (`tests/families/make_fixtures.py`).
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{
    cpu,
    formula::{Shapes, fixture, write},
};
use easel_import::{ImportOptions, Weights};
use easel_onnx::{Prefix, Row, Runtime, Transformer};
use easel_package::Package;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

/// Positions of the encoder, and of what the decoder begins with.
const TEXT_LENGTH: usize = 65;

#[derive(Deserialize)]
struct Model {
    encoder: Shapes,
    decoder: Shapes,
    pictures: Shapes,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    text: Vec<u32>,
    image: Vec<u32>,
}

impl Sequence {
    /// Its rows in `slot`: those of the text end where those of the image begin. The last token is drawn, and never read.
    fn rows(&self, slot: usize) -> Vec<Row> {
        let (_, image) = self.image.split_last().unwrap();
        // The decoder begins with its only text id.
        let tokens: Vec<u32> = self.text.iter().chain(&[0]).chain(image).copied().collect();
        let first = TEXT_LENGTH - self.text.len() - 1;
        let row = |(i, token): (usize, &u32)| {
            let position = first + i;
            Row { slot, token: *token, position: position as u32, logits: position + 1 >= TEXT_LENGTH }
        };
        tokens.iter().enumerate().map(row).collect()
    }
}

fn package(model: &Model) -> (TempDir, Package) {
    let dir = TempDir::new().unwrap();
    let checkpoint = dir.path().join("checkpoint");
    fs::create_dir(&checkpoint).unwrap();
    for (name, shapes) in [("encoder", &model.encoder), ("decoder", &model.decoder), ("detoker", &model.pictures)] {
        write(&checkpoint.join(format!("{name}.safetensors")), shapes);
    }
    let vocabulary = json!({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4});
    fs::write(checkpoint.join("vocab.json"), vocabulary.to_string()).unwrap();
    fs::write(checkpoint.join("merges.txt"), "#version: 0.2\n").unwrap();
    let options = ImportOptions { weights: Weights::F32, ..ImportOptions::default() };
    let package = easel_import::import(&checkpoint, &dir.path().join("package"), &options, &mut |_| ()).unwrap();
    (dir, package)
}

/// The logits of the rows that ask for them, one after another.
fn step(transformer: &mut Transformer, rows: &[Row], codebook: usize) -> Vec<Vec<f32>> {
    transformer.step(rows).unwrap().chunks_exact(codebook).map(<[f32]>::to_vec).collect()
}

fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

#[test]
fn tokens_are_the_originals_and_no_bit_depends_on_company() {
    let model: Model = fixture("min-dalle");
    let (_dir, package) = package(&model);
    let codebook = package.manifest().codebook as usize;
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &package, &cpu(1), 3).unwrap();
    let mut alone = Vec::new();
    for sequence in &model.sequences {
        transformer.begin(0, None).unwrap();
        let logits = step(&mut transformer, &sequence.rows(0), codebook);
        let drawn: Vec<u32> = logits.iter().map(|logits| best(logits)).collect();
        assert_eq!(drawn, sequence.image);
        alone.push(logits);
    }
    // The first text is read from a slot of its own, the second comes in pieces, and both sequences go step by step.
    let [first, second] = [&model.sequences[0], &model.sequences[1]];
    let (shared, own) = (first.text.len() + 1, second.text.len() + 1);
    transformer.begin(2, None).unwrap();
    let start = step(&mut transformer, &first.rows(2)[..shared], codebook);
    transformer.begin(0, Some(Prefix { slot: 2, length: TEXT_LENGTH as u32 })).unwrap();
    transformer.begin(1, None).unwrap();
    let rows = [first.rows(0), second.rows(1)];
    assert!(step(&mut transformer, &rows[1][..7], codebook).is_empty());
    let mut together = [start, step(&mut transformer, &rows[1][7..own], codebook)];
    for cell in 0..first.image.len() - 1 {
        let pair = [rows[1][own + cell], rows[0][shared + cell]];
        let logits = step(&mut transformer, &pair, codebook);
        together[1].push(logits[0].clone());
        together[0].push(logits[1].clone());
    }
    assert!(together == alone[..], "a sequence depends on another");
}

#[test]
fn logits_of_a_text_that_is_encoded_are_refused() {
    let model: Model = fixture("min-dalle");
    let (_dir, package) = package(&model);
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &package, &cpu(1), 1).unwrap();
    transformer.begin(0, None).unwrap();
    let mut rows = model.sequences[0].rows(0);
    rows[1].logits = true;
    let error = transformer.step(&rows).unwrap_err().to_string();
    assert!(error.contains("rows[1].logits"), "{error}");
    rows[1].logits = false;
    transformer.step(&rows).unwrap();
}

//! A text that another model reads and gives embeddings of: LlamaGen with T5's encoder. Its transformer, written anew, and T5's own package gave the tokens
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

#[derive(Deserialize)]
struct Model {
    heads: usize,
    picture: usize,
    pieces: Vec<String>,
    transformer: Shapes,
    reader: Shapes,
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
    fn rows(&self, slot: usize, text_length: usize) -> Vec<Row> {
        let (_, image) = self.image.split_last().unwrap();
        let first = text_length - self.text.len();
        let row = |(i, token): (usize, &u32)| {
            let position = first + i;
            Row { slot, token: *token, position: position as u32, logits: position + 1 >= text_length }
        };
        self.text.iter().chain(image).enumerate().map(row).collect()
    }
}

fn package(model: &Model) -> (TempDir, Package) {
    let dir = TempDir::new().unwrap();
    let [checkpoint, reader] = ["checkpoint", "t5"].map(|name| dir.path().join(name));
    fs::create_dir(&checkpoint).unwrap();
    fs::create_dir(&reader).unwrap();
    write(&checkpoint.join("t2i.safetensors"), &model.transformer);
    write(&checkpoint.join("vq.safetensors"), &model.pictures);
    write(&reader.join("model.safetensors"), &model.reader);
    let config = json!({"n_head": model.heads, "image_size": model.picture});
    fs::write(checkpoint.join("config.json"), config.to_string()).unwrap();
    let config = json!({"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 30});
    fs::write(reader.join("config.json"), config.to_string()).unwrap();
    let pieces: Vec<_> = model.pieces.iter().map(|piece| json!([piece, -1.0])).collect();
    let tokenizer = json!({"model": {"type": "Unigram", "unk_id": 2, "vocab": pieces}});
    fs::write(reader.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let options = ImportOptions { weights: Weights::F32, text_encoder: Some(reader), ..ImportOptions::default() };
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
    let model: Model = fixture("llamagen");
    let (_dir, package) = package(&model);
    let (codebook, length) = (package.manifest().codebook as usize, package.manifest().text.length as usize);
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &package, &cpu(1), 3).unwrap();
    let mut alone = Vec::new();
    for sequence in &model.sequences {
        transformer.begin(0, None).unwrap();
        let logits = step(&mut transformer, &sequence.rows(0, length), codebook);
        let drawn: Vec<u32> = logits.iter().map(|logits| best(logits)).collect();
        assert_eq!(drawn, sequence.image);
        alone.push(logits);
    }
    // The first text is read from a slot of its own, the third comes in pieces, and both sequences go step by step.
    let [first, third] = [&model.sequences[0], &model.sequences[2]];
    let (shared, own) = (first.text.len(), third.text.len());
    transformer.begin(2, None).unwrap();
    transformer.begin(1, None).unwrap();
    let rows = [first.rows(0, length), third.rows(1, length)];
    let start: Vec<Row> = first.rows(2, length)[..shared].iter().chain(&rows[1][..7]).copied().collect();
    let mut together = [step(&mut transformer, &start, codebook), Vec::new()];
    transformer.begin(0, Some(Prefix { slot: 2, length: length as u32 })).unwrap();
    together[1].extend(step(&mut transformer, &rows[1][7..own], codebook));
    for cell in 0..first.image.len() - 1 {
        let pair = [rows[1][own + cell], rows[0][shared + cell]];
        let logits = step(&mut transformer, &pair, codebook);
        together[1].push(logits[0].clone());
        together[0].push(logits[1].clone());
    }
    assert!(together[0] == alone[0] && together[1] == alone[2], "a sequence depends on another");
}

#[test]
fn a_text_is_read_as_a_whole_or_not_at_all() {
    let model: Model = fixture("llamagen");
    let (_dir, package) = package(&model);
    let length = package.manifest().text.length;
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &package, &cpu(1), 2).unwrap();
    transformer.begin(0, None).unwrap();
    let mut rows = model.sequences[0].rows(0, length as usize);
    rows[1].logits = true;
    let error = transformer.step(&rows).unwrap_err().to_string();
    assert_eq!(error, "rows[1].logits: expected none of a text that is encoded, found some");
    rows[1].logits = false;
    transformer.step(&rows).unwrap();
    let error = transformer.begin(1, Some(Prefix { slot: 0, length: length - 1 })).unwrap_err().to_string();
    assert_eq!(error, "prefix.length: expected at least 40, a text that is encoded, found 39");
}

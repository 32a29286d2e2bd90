//! What is imported of other projects' autoencoders and of CLIP computes what those projects compute (`tests/families/make_fixtures.py` asked them).
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{
    Fixture, cpu,
    formula::{Shapes, fixture, integers, write},
    tiny,
};
use easel_import::{ImportOptions, Weights, parts, synthetic};
use easel_onnx::{Clip, ImageDecoder, ImageEncoder, Runtime};
use easel_package::{Grid, Package};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Autoencoder {
    layout: String,
    rows: u32,
    columns: u32,
    codes: u32,
    height: u32,
    width: u32,
    tensors: Shapes,
    pixels: String,
    /// Tokens of the picture; −1 where two are about as good.
    encoded: Vec<i64>,
}

#[derive(Deserialize)]
struct Ranker {
    size: usize,
    context: usize,
    end: u32,
    at: usize,
    tensors: Shapes,
    image: Vec<f32>,
    text: Vec<f32>,
}

fn picture(pixels: usize) -> Vec<u8> {
    integers("picture", pixels * 3, 256).into_iter().map(|v| v as u8).collect()
}

fn full() -> ImportOptions {
    ImportOptions { weights: Weights::F32, ..ImportOptions::default() }
}

/// A package whose picture side is the fixture's.
fn package(expected: &Autoencoder) -> Fixture {
    let checkpoint = tempfile::tempdir().unwrap();
    let file = checkpoint.path().join("model.safetensors");
    write(&file, &expected.tensors);
    let grid = Grid { rows: expected.rows, columns: expected.columns };
    Fixture::new(&tiny()).with(|dir, manifest| {
        let layout = expected.layout.parse().unwrap();
        let made = parts::pictures(&file, layout, grid, dir, &full(), &mut |_| ()).unwrap();
        (manifest.image, manifest.grid, manifest.codebook) = (made.image, made.grid, made.codebook);
        (manifest.decoder, manifest.encoder) = (made.decoder, made.encoder);
    })
}

fn hold(name: &str) {
    let expected: Autoencoder = fixture(&format!("pictures/{name}"));
    let fixture = package(&expected);
    let runtime = Runtime::load().unwrap();
    let mut decoder = ImageDecoder::load(&runtime, &fixture.package, &cpu(1)).unwrap();
    let tokens = integers("tokens", (expected.rows * expected.columns) as usize, expected.codes);
    let pixels = decoder.decode(&tokens).unwrap();
    let bytes = |i: usize| u8::from_str_radix(&expected.pixels[i..i + 2], 16).unwrap();
    let right: Vec<u8> = (0..expected.pixels.len()).step_by(2).map(bytes).collect();
    assert_eq!(pixels.len(), right.len());
    assert!(pixels.iter().zip(&right).all(|(a, b)| a.abs_diff(*b) <= 1), "{name}: pixels");
    let twice = decoder.decode(&[tokens.clone(), tokens.into_iter().rev().collect()].concat()).unwrap();
    assert!(twice[..pixels.len()] == pixels, "{name}: a picture depends on another");

    let mut encoder = ImageEncoder::load(&runtime, &fixture.package, &cpu(1)).unwrap();
    let encoded = encoder.encode(&picture((expected.height * expected.width) as usize)).unwrap();
    let differs = |(a, b): (&u32, &i64)| *b >= 0 && i64::from(*a) != *b;
    assert_eq!(encoded.len(), expected.encoded.len());
    assert_eq!(encoded.iter().zip(&expected.encoded).filter(|pair| differs(*pair)).count(), 0, "{name}: tokens");
}

#[test]
fn tamings_vqgan() {
    hold("taming");
}

#[test]
fn rudalles_vqgan_behind_wavelets() {
    hold("rudalle");
}

#[test]
fn janus() {
    hold("janus");
}

#[test]
fn emu3() {
    hold("emu3");
}

#[test]
fn dalle_pytorchs_discrete_vae() {
    hold("dalle-pytorch");
}

#[test]
fn openais_dvae() {
    hold("openai");
}

#[test]
fn image_gpts_palette() {
    let dir = tempfile::tempdir().unwrap();
    let clusters = json!({"clusters": [[-1.0, -1.0, -1.0], [1.0, 0.0, -1.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]]});
    fs::write(dir.path().join("preprocessor_config.json"), clusters.to_string()).unwrap();
    let fixture = Fixture::new(&tiny()).with(|out, manifest| {
        let grid = Grid { rows: 2, columns: 3 };
        let made = parts::pictures(dir.path(), parts::Autoencoder::Palette, grid, out, &full(), &mut |_| ()).unwrap();
        (manifest.image, manifest.grid, manifest.codebook) = (made.image, made.grid, made.codebook);
        (manifest.decoder, manifest.encoder) = (made.decoder, made.encoder);
    });
    let runtime = Runtime::load().unwrap();
    let tokens = [0, 1, 2, 3, 2, 1];
    let pixels = ImageDecoder::load(&runtime, &fixture.package, &cpu(1)).unwrap().decode(&tokens).unwrap();
    let [black, orange, grey, white] = [[0, 0, 0], [255, 128, 0], [191, 191, 191], [255, 255, 255]];
    assert_eq!(pixels, [black, orange, grey, white, grey, orange].concat());
    let near: Vec<u8> = pixels.iter().map(|v| v.saturating_sub(9)).collect();
    assert_eq!(ImageEncoder::load(&runtime, &fixture.package, &cpu(1)).unwrap().encode(&near).unwrap(), tokens);
}

#[test]
fn clip_in_the_names_of_hugging_face() {
    let expected: Ranker = fixture("pictures/clip");
    let (checkpoint, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synthetic::checkpoint(model.path(), &tiny(), 1).unwrap();
    write(&checkpoint.path().join("model.safetensors"), &expected.tensors);
    fs::copy(model.path().join("ranker_tokenizer.json"), checkpoint.path().join("tokenizer.json")).unwrap();
    let tower = json!({"num_attention_heads": 2, "hidden_act": "gelu"});
    let config = json!({"model_type": "clip", "text_config": tower, "vision_config": tower});
    fs::write(checkpoint.path().join("config.json"), config.to_string()).unwrap();
    let out = model.path().join("package");
    let options = ImportOptions { ranker: Some(checkpoint.path().into()), ..full() };
    let package: Package = easel_import::import(model.path(), &out, &options, &mut |_| ()).unwrap();
    let mut clip = Clip::load(&Runtime::load().unwrap(), &package, &cpu(1)).unwrap();
    let mut ids = integers("ids", expected.context, expected.end);
    ids[expected.at] = expected.end;
    let near = |made: Vec<f32>, right: &[f32]| {
        assert!(made.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-5), "{made:?}\n{right:?}");
        assert_eq!(made.len(), right.len());
    };
    near(clip.embed_images(&picture(expected.size.pow(2))).unwrap(), &expected.image);
    near(clip.embed_texts(&ids).unwrap(), &expected.text);
}

//! A graph that is not what the manifest says is refused at load, with the file, what was expected and what was found.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use common::{Fixture, Random, cpu, tiny};
use easel_import::ImportOptions;
use easel_onnx::{Clip, Device, Error, ImageDecoder, ImageEncoder, Options, Runtime, Transformer};
use easel_package::Manifest;

fn runtime() -> Runtime {
    Runtime::load().unwrap()
}

/// Why the sampler of this package is refused.
fn refusal(change: impl FnOnce(&Path, &mut Manifest)) -> String {
    let fixture = Fixture::new(&tiny()).with(change);
    Transformer::load(&runtime(), &fixture.package, &cpu(1), 2).unwrap_err().to_string()
}

fn names(message: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn another_codebook_is_refused() {
    let message = refusal(|_, manifest| manifest.codebook = 201);
    assert_eq!(message, "sampler.onnx: output logits: expected f32 [m, 201], found f32 [?, 200]");
}

#[test]
fn another_attention_is_refused() {
    let message = refusal(|_, manifest| manifest.sampler.attention.layers = 5);
    assert_eq!(message, "sampler.onnx: attention of layer 4: expected one node, found 0");
    let message = refusal(|_, manifest| manifest.sampler.attention.layers = 3);
    names(&message, &["sampler.onnx: ", "layer: expected 0 … 2, found 3"]);
    let message = refusal(|_, manifest| manifest.sampler.attention.heads = 4);
    names(&message, &["sampler.onnx: ", "heads: expected 4, found 2"]);
    let message = refusal(|_, manifest| manifest.sampler.attention.head_width = 8);
    names(&message, &["sampler.onnx: ", "query: expected width 16, found 32"]);
    let message = refusal(|_, manifest| manifest.text.length = 15);
    names(&message, &["sampler.onnx: ", "text_length: expected 15, found 16"]);
    let message = refusal(|_, manifest| (manifest.grid.rows, manifest.grid.columns) = (4, 9));
    names(&message, &["sampler.onnx: ", "rows: expected 4, found 6"]);
}

#[test]
fn a_graph_with_other_inputs_is_refused() {
    let decoder_as_sampler = refusal(|dir, manifest| {
        fs::copy(dir.join(&manifest.decoder.graph), dir.join(&manifest.sampler.graph)).unwrap();
    });
    assert_eq!(decoder_as_sampler, "sampler.onnx: input token_ids: expected i64 [n], found none");

    let fixture = Fixture::new(&tiny()).with(|_, manifest| {
        (manifest.image.width, manifest.encoder) = (50, None);
    });
    let error = ImageDecoder::load(&runtime(), &fixture.package, &cpu(1)).unwrap_err().to_string();
    assert_eq!(error, "decoder.onnx: output pixels: expected u8 [b, 48, 50, 3], found u8 [?, 48, 48, 3]");
}

#[test]
fn a_damaged_graph_is_refused() {
    let truncated = refusal(|dir, manifest| {
        let path = dir.join(&manifest.sampler.graph);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    names(&truncated, &["sampler.onnx: "]);
    names(
        &refusal(|dir, manifest| fs::write(dir.join(&manifest.sampler.graph), "not a graph").unwrap()),
        &["sampler.onnx: "],
    );

    let fixture = Fixture::new(&tiny());
    let path = fixture.package.dir().join("sampler.onnx");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Transformer::load(&runtime(), &fixture.package, &cpu(1), 2).unwrap_err();
    assert!(matches!(error, Error::Package(_)), "{error}");
}

#[test]
fn damaged_weights_beside_a_graph_are_refused() {
    let fixture = Fixture::import(&tiny(), &ImportOptions { inline_limit_bytes: 0, ..ImportOptions::default() });
    Transformer::load(&runtime(), &fixture.package, &cpu(1), 2).unwrap();
    let path = fixture.package.dir().join("sampler.onnx.data");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Transformer::load(&runtime(), &fixture.package, &cpu(1), 2).unwrap_err();
    assert!(matches!(error, Error::Package(_)), "{error}");
    names(&error.to_string(), &["sampler.onnx.data: expected sha256 "]);
}

#[test]
fn a_graph_with_a_changed_byte_never_takes_the_process_down() {
    let mut random = Random(3);
    let fixture = Fixture::new(&tiny());
    let whole = fs::read(fixture.package.dir().join("sampler.onnx")).unwrap();
    let mut fixture = fixture;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        // The nodes come first; a change in the weights behind them is no damage that could be seen.
        let at = random.below(6000.min(bytes.len()));
        bytes[at] = random.below(256) as u8;
        fixture = fixture.with(|dir, manifest| fs::write(dir.join(&manifest.sampler.graph), bytes).unwrap());
        if let Err(error) = Transformer::load(&runtime(), &fixture.package, &cpu(1), 2) {
            names(&error.to_string(), &["sampler.onnx: "]);
        }
    }
}

#[test]
fn a_part_that_the_package_lacks_is_named() {
    let fixture = Fixture::new(&tiny()).with(|_, manifest| (manifest.encoder, manifest.ranker) = (None, None));
    let error = ImageEncoder::load(&runtime(), &fixture.package, &cpu(1)).unwrap_err().to_string();
    assert_eq!(error, "package synthetic has no encoder");
    let error = Clip::load(&runtime(), &fixture.package, &cpu(1)).unwrap_err().to_string();
    assert_eq!(error, "package synthetic has no ranker");
}

#[test]
fn memory_that_does_not_suffice_is_told_in_numbers() {
    let fixture = Fixture::new(&tiny());
    let load = |limit_mib, sequences| {
        let options = Options { memory_limit_mib: Some(limit_mib), ..cpu(1) };
        Transformer::load(&runtime(), &fixture.package, &options, sequences)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    load(8, 100).unwrap();
    let error = load(8, 1000).unwrap_err();
    names(&error, &["the keys and values of 1000 sequences need", "MiB, the limit is 8 MiB"]);
    names(&load(8, usize::MAX).unwrap_err(), &["the limit is 8 MiB"]);
    assert_eq!(load(8, 0).unwrap_err(), "sequences: expected at least 1, found 0");
}

#[test]
fn more_threads_than_a_machine_has_are_refused() {
    let fixture = Fixture::new(&tiny());
    let error = Transformer::load(&runtime(), &fixture.package, &cpu(usize::MAX), 2).unwrap_err().to_string();
    assert_eq!(error, format!("threads: expected 0 … 1024, found {}", usize::MAX));
}

#[test]
fn cuda_is_an_error_where_it_cannot_be_had() {
    let fixture = Fixture::new(&tiny());
    let load = |device| ImageDecoder::load(&runtime(), &fixture.package, &Options { device, ..cpu(1) });
    assert_eq!(load(Device::Cpu).unwrap().device(), "cpu");
    let auto = load(Device::Auto).unwrap();
    match load(Device::Cuda) {
        Ok(cuda) => assert_eq!((cuda.device(), auto.device()), ("cuda", "cuda")),
        Err(error) => {
            assert_eq!(auto.device(), "cpu");
            names(&error.to_string(), &["device cuda cannot be used for decoder.onnx: "]);
        }
    }
}

//! A package is opened only when everything in it is what its manifest says.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{
    AttentionGeometry, Decoder, Error, Grid, Guidance, Manifest, Package, Padding, Sampler, Sampling, Size, Text,
};

fn manifest() -> Manifest {
    Manifest {
        schema: 1,
        name: "tiny".into(),
        version: "1".into(),
        license: "Apache-2.0".into(),
        description: "a package for tests".into(),
        family: "dalle".into(),
        examples: vec![],
        provenance: BTreeMap::new(),
        image: Size { width: 16, height: 16 },
        grid: Grid { rows: 2, columns: 2 },
        codebook: 8,
        text: Text {
            tokenizer: "tokenizer.json".into(),
            length: 4,
            vocabulary: 14,
            padding: Padding::PerPosition { first_id: 10 },
            words: None,
        },
        sampler: Sampler {
            graph: "sampler.onnx".into(),
            contract: "easel.sampler/1".into(),
            attention: AttentionGeometry { layers: 2, heads: 2, head_width: 4 },
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, guidance_scale: 3.0 },
        decoder: Decoder { graph: "decoder.onnx".into() },
        encoder: None,
        ranker: None,
        files: BTreeMap::new(),
    }
}

fn write_files(dir: &Path) {
    for name in ["tokenizer.json", "sampler.onnx", "decoder.onnx"] {
        fs::write(dir.join(name), name).unwrap();
    }
}

#[test]
fn a_sealed_package_opens_verifies_and_has_a_stable_digest() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_files(a.path());
    write_files(b.path());
    let first = Package::seal(a.path(), manifest()).unwrap();
    let second = Package::seal(b.path(), manifest()).unwrap();
    assert_eq!(first.digest(), second.digest());
    first.verify().unwrap();
    assert_eq!(Package::open(a.path()).unwrap().manifest().files.len(), 3);
}

#[test]
fn a_damaged_file_is_named_with_both_digests() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    let package = Package::seal(dir.path(), manifest()).unwrap();
    fs::write(dir.path().join("sampler.onnx"), "sampler.onnX").unwrap();
    let message = package.file("sampler.onnx").unwrap_err().to_string();
    assert!(message.contains("sampler.onnx: expected sha256 ") && message.contains("found sha256 "), "{message}");
}

#[test]
fn a_file_of_another_size_is_refused_when_the_package_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    Package::seal(dir.path(), manifest()).unwrap();
    fs::write(dir.path().join("decoder.onnx"), "short").unwrap();
    let message = Package::open(dir.path()).unwrap_err().to_string();
    assert!(message.ends_with("decoder.onnx: expected 12 bytes, found 5 bytes"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    Package::seal(dir.path(), manifest()).unwrap();
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(matches!(Package::open(dir.path()), Err(Error::Io { path, .. }) if path.ends_with("tokenizer.json")));
}

#[test]
fn senseless_fields_are_refused_by_name() {
    type Spoil = fn(&mut Manifest);
    let cases: [(&str, Spoil); 10] = [
        ("schema", |m| m.schema = 2),
        ("name", |m| m.name = "../up".into()),
        ("grid.rows", |m| m.grid.rows = 0),
        ("codebook", |m| m.codebook = u32::MAX),
        ("text.padding.first_id", |m| m.text.padding = Padding::PerPosition { first_id: 11 }),
        ("sampler.graph", |m| m.sampler.graph = "../sampler.onnx".into()),
        ("sampler.contract", |m| m.sampler.contract = "easel.sampler/9".into()),
        ("sampling.temperature", |m| m.sampling.temperature = f32::NAN),
        ("sampling.top_p", |m| m.sampling.top_p = 0.0),
        ("sampling.guidance_scale", |m| m.guidance = None),
    ];
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    for (field, spoil) in cases {
        let mut m = manifest();
        spoil(&mut m);
        let message = Package::seal(dir.path(), m).unwrap_err().to_string();
        assert!(message.contains(field) && message.contains("expected"), "{field}: {message}");
    }
}

#[test]
fn an_unknown_field_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    Package::seal(dir.path(), manifest()).unwrap();
    let path = dir.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"schema\"", "\"surprise\": 1, \"schema\"");
    fs::write(&path, text).unwrap();
    let message = Package::open(dir.path()).unwrap_err().to_string();
    assert!(message.contains("manifest.json") && message.contains("surprise"), "{message}");
}

#[test]
fn a_file_outside_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    Package::seal(dir.path(), manifest()).unwrap();
    let path = dir.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for name in ["../up", "/etc/hostname", "a/b", "..", ""] {
        let listed = format!("\"files\": {{ \"{name}\": {{ \"bytes\": 0, \"sha256\": \"\" }},");
        fs::write(&path, text.replace("\"files\": {", &listed)).unwrap();
        let message = Package::open(dir.path()).unwrap_err().to_string();
        assert!(message.ends_with(&format!("files: expected names without a folder, found {name:?}")), "{message}");
    }
}

//! A package is opened only when everything in it is what its manifest says.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use easel_package::{
    AttentionGeometry, CUDA_CONTRACT, Decoder, Device, Error, Grid, Guidance, Manifest, Package, Padding, Sampler,
    Sampling, ShiftGeometry, Size, Text, TextEncoder, Ties,
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
            tokenizer: Some("tokenizer.json".into()),
            length: 4,
            vocabulary: 14,
            padding: Padding::PerPosition { first_id: 10 },
            prefix: vec![],
            suffix: vec![],
            template: None,
            words: None,
        },
        sampler: Sampler {
            graph: "sampler.onnx".into(),
            contract: "easel.sampler/1".into(),
            attention: AttentionGeometry { layers: 2, heads: 2, head_width: 4 },
            row_end: vec![],
            shift: None,
            text_encoder: None,
        },
        guidance: Some(Guidance::Tokens { ids: vec![] }),
        sampling: Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            guidance_scale: 3.0,
            top_k_ties: Ties::Cut,
            guided_tokens: None,
        },
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
    fs::create_dir(dir.path().join("tokenizer.json")).unwrap();
    let message = Package::open(dir.path()).unwrap_err().to_string();
    assert!(message.ends_with("tokenizer.json: expected a regular file, found another kind"), "{message}");
}

#[test]
fn senseless_fields_are_refused_by_name() {
    type Spoil = fn(&mut Manifest);
    let cases: [(&str, Spoil); 18] = [
        ("schema", |m| m.schema = 2),
        ("name", |m| m.name = "../up".into()),
        ("grid.rows", |m| m.grid.rows = 0),
        ("codebook", |m| m.codebook = u32::MAX),
        ("text.padding.first_id", |m| m.text.padding = Padding::PerPosition { first_id: 11 }),
        ("text.prefix", |m| m.text.prefix = vec![14]),
        ("text.prefix and text.suffix", |m| m.text.suffix = vec![0; 5]),
        ("text.length (without a tokenizer", |m| m.text.tokenizer = None),
        ("guidance.first", |m| m.guidance = Some(Guidance::Blank { id: 0, first: 5, last: 1 })),
        ("easel.sampler/2", |m| m.text.padding = Padding::None),
        ("sampler.row_end", |m| m.sampler.row_end = vec![9]),
        ("text.padding (with", |m| {
            let graph = "sampler.onnx".into();
            m.sampler.text_encoder = Some(TextEncoder { graph, length: 2, embedding_width: None })
        }),
        ("sampler.text_encoder.length: expected 4 … 4, found 2", |m| {
            m.text.padding = Padding::None;
            let graph = "sampler.onnx".into();
            m.sampler.text_encoder = Some(TextEncoder { graph, length: 2, embedding_width: Some(8) })
        }),
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
fn a_caption_becomes_what_the_sampler_reads() {
    let Manifest { mut text, .. } = manifest();
    assert_eq!(text.pad(&[1, 2]), [1, 2, 12, 13]);
    text.prefix = vec![7];
    assert_eq!(text.pad(&[1, 2]), [7, 1, 2, 12], "pads are counted behind the prefix");
    text.suffix = vec![8, 9];
    assert_eq!(text.pad(&[1, 2]), [7, 1, 8, 9], "what is too long is cut");
    text.padding = Padding::None;
    assert_eq!((text.room(), text.pad(&[])), (1, vec![7, 8, 9]));
}

#[test]
fn the_unconditional_row_is_a_caption_or_the_same_one_blanked() {
    let Manifest { text, guidance, .. } = manifest();
    assert_eq!(guidance.unwrap().unconditional(&text, &[1, 2, 12, 13]), [10, 11, 12, 13]);
    let blank = |first, last| Guidance::Blank { id: 5, first, last }.unconditional(&text, &[1, 2, 3]);
    assert_eq!((blank(1, 1), blank(0, 0), blank(3, 3)), (vec![1, 5, 3], vec![5, 5, 5], vec![1, 2, 3]));
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

#[test]
fn a_samplers_contract_says_its_device() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    let mut m = manifest();
    assert_eq!(m.device(), Device::Cpu);
    m.sampler.contract = CUDA_CONTRACT.into();
    assert_eq!(Package::seal(dir.path(), m.clone()).unwrap().manifest().device(), Device::Cuda);
    m.sampler.shift = Some(ShiftGeometry { count: 1, width: 2 });
    let message = Package::seal(dir.path(), m).unwrap_err().to_string();
    assert!(message.contains("sampler.contract") && message.ends_with("found easel.sampler.cuda/1"), "{message}");
}

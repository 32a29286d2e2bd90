//! A checkpoint of CLIP becomes the ranker of another model's package.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use easel_import::{ImportOptions, Progress, import, synthetic};
use serde_json::{Value, json};
use tempfile::TempDir;

const RANKER: [&str; 3] = ["ranker_image.onnx", "ranker_text.onnx", "ranker_tokenizer.json"];

fn model(seed: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    synthetic::checkpoint(dir.path(), &synthetic::Geometry::default(), seed).unwrap();
    dir
}

/// The CLIP of a model, as open_clip keeps it.
fn clip(model: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config: Value = serde_json::from_slice(&fs::read(model.join("config.json")).unwrap()).unwrap();
    let c = &config["clip"];
    let text = json!({"heads": c["text_heads"]});
    let width = 32 / c["vision_heads"].as_u64().unwrap();
    let open_clip = json!({
        "model_cfg": {"quick_gelu": true, "vision_cfg": {"head_width": width}, "text_cfg": text},
        "preprocess_cfg": {"mean": c["mean"], "std": c["std"]},
    });
    fs::write(dir.path().join("open_clip_config.json"), open_clip.to_string()).unwrap();
    fs::copy(model.join("clip.safetensors"), dir.path().join("open_clip_model.safetensors")).unwrap();
    fs::copy(model.join("ranker_tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    dir
}

#[test]
fn its_graphs_are_those_of_the_model_it_came_with() {
    let [first, second] = [model(1), model(2)];
    let given = clip(second.path());
    let out = tempfile::tempdir().unwrap();
    let options = ImportOptions { ranker: Some(given.path().into()), ..ImportOptions::default() };
    let mut told = Vec::new();
    let ranked = import(first.path(), &out.path().join("ranked"), &options, &mut |p| told.push(p)).unwrap();
    let own = import(second.path(), &out.path().join("own"), &ImportOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(ranked.manifest().ranker, own.manifest().ranker);
    for name in RANKER.iter().take(2) {
        assert!(ranked.file(name).unwrap() != own.file(name).unwrap());
        assert_eq!(ranked.manifest().files[*name], own.manifest().files[*name], "{name}");
    }
    assert_ne!(ranked.manifest().files["decoder.onnx"], own.manifest().files["decoder.onnx"]);
    assert!(ranked.manifest().provenance["sha256 of the ranker"].len() == 64);
    assert!(told.is_sorted_by_key(|p| p.read_bytes) && told.iter().all(|p| p.total_bytes == told[0].total_bytes));
    let Some(Progress { read_bytes, total_bytes }) = told.last() else { panic!("progress is told") };
    assert_eq!(read_bytes, total_bytes);
}

#[test]
fn a_folder_without_clip_is_refused_before_anything_is_read() {
    let (model, empty, out) = (model(1), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let refused = |ranker: &Path| {
        let options = ImportOptions { ranker: Some(ranker.into()), ..ImportOptions::default() };
        let mut told = 0;
        let error = import(model.path(), &out.path().join("p"), &options, &mut |_| told += 1).unwrap_err();
        assert_eq!(told, 0);
        assert!(fs::read_dir(out.path()).unwrap().next().is_none());
        error.to_string()
    };
    let message = refused(empty.path());
    assert!(message.contains("expected a tensor visual.conv1.weight or vision_model."), "{message}");
}

#[test]
fn what_its_tensors_do_not_tell_is_asked_for() {
    let (model, out) = (model(1), tempfile::tempdir().unwrap());
    let refused = |missing: &str| {
        let given = clip(model.path());
        fs::remove_file(given.path().join(missing)).unwrap();
        let options = ImportOptions { ranker: Some(given.path().into()), ..ImportOptions::default() };
        import(model.path(), &out.path().join("p"), &options, &mut |_| ()).unwrap_err().to_string()
    };
    assert!(refused("open_clip_config.json").contains("expected open_clip_config.json beside the weights"));
    assert!(refused("tokenizer.json").contains("expected tokenizer.json or bpe_simple_vocab_16e6.txt.gz"));
}

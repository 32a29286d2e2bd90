//! A checkpoint becomes a package that holds together, the same one each time, and nothing else is touched.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use easel_import::{Error, ImportOptions, Mask, Weights, import, synthetic};
use easel_package::{Grid, Manifest, Package, Padding, Size};
use tempfile::TempDir;

fn checkpoint() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    synthetic::checkpoint(dir.path(), &synthetic::Geometry::default(), 1).unwrap();
    dir
}

fn run(checkpoint: &Path, out: &Path, options: &ImportOptions) -> Result<Package, Error> {
    import(checkpoint, out, options, &mut |_| ())
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_package_says_what_the_checkpoint_is() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let package = run(from.path(), &to.path().join("p"), &ImportOptions::default()).unwrap();
    package.verify().unwrap();
    let m = package.manifest();
    assert_eq!((m.name.as_str(), m.family.as_str(), m.license.as_str()), ("synthetic", "dalle", "Apache-2.0"));
    assert_eq!((m.grid, m.codebook), (Grid { rows: 6, columns: 6 }, 200));
    assert_eq!(m.image, Size { width: 48, height: 48 });
    assert_eq!((m.text.length, m.text.vocabulary), (16, 268 + 16));
    assert_eq!(m.text.padding, Padding::PerPosition { first_id: 268 });
    assert_eq!(m.text.words.as_deref(), Some("words.txt"));
    let attention = m.sampler.attention;
    assert_eq!((attention.layers, attention.heads, attention.head_width), (4, 2, 16));
    let ranker = m.ranker.as_ref().unwrap();
    assert_eq!((ranker.embedding_width, ranker.text.context_length, ranker.text.vocabulary), (24, 20, 270));
    assert!((ranker.logit_scale - 3_f32.exp()).abs() < 1e-4);
    assert_eq!(m.provenance["weights"], "f16");
    assert!(m.files.contains_key("LICENSE"));
    assert_eq!(names(to.path()), ["p"], "nothing lies beside the package");
}

#[test]
fn what_is_told_stands_in_the_place_of_what_the_checkpoint_says() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let plain = run(from.path(), &to.path().join("a"), &ImportOptions::default()).unwrap();
    let named = ImportOptions { name: Some("second-0.1_b".into()), ..ImportOptions::default() };
    let other = run(from.path(), &to.path().join("b"), &named).unwrap();
    let renamed = Manifest { name: "second-0.1_b".into(), ..plain.manifest().clone() };
    assert_eq!(*other.manifest(), renamed, "nothing else differs");
    let told = ImportOptions {
        version: Some("2".into()),
        license: Some("MIT OR Apache-2.0".into()),
        description: Some("Draws circles.".into()),
        overwrite: true,
        ..named
    };
    let package = run(from.path(), &to.path().join("b"), &told).unwrap();
    let m = package.manifest();
    assert_eq!((m.version.as_str(), m.license.as_str()), ("2", "MIT OR Apache-2.0"));
    assert_eq!((m.name.as_str(), m.description.as_str()), ("second-0.1_b", "Draws circles."));
}

#[test]
fn a_name_that_is_none_is_refused_before_anything_is_read() {
    let to = tempfile::tempdir().unwrap();
    for name in ["", "Second", "a b", "a/b", "é", &"a".repeat(65)] {
        let options = ImportOptions { name: Some(name.to_owned()), ..ImportOptions::default() };
        let error = run(Path::new("nowhere"), &to.path().join("p"), &options).unwrap_err().to_string();
        let expected = format!("name: expected 1 … 64 of a-z, 0-9, '.', '_', '-', found {name:?}");
        assert!(error.ends_with(&expected), "{error}");
    }
    assert!(names(to.path()).is_empty());
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let (a, b, to) = (checkpoint(), checkpoint(), tempfile::tempdir().unwrap());
    let digest = |from: &TempDir, name: &str, options: &ImportOptions| {
        run(from.path(), &to.path().join(name), options).unwrap().digest().to_owned()
    };
    let halves = ImportOptions::default();
    let wide = ImportOptions { weights: Weights::F32, ..halves.clone() };
    assert_eq!(digest(&a, "a", &halves), digest(&b, "b", &halves));
    assert_eq!(digest(&a, "c", &wide), digest(&b, "d", &wide));
    let bytes = |name: &str| fs::metadata(to.path().join(name).join("sampler.onnx")).unwrap().len();
    assert!(bytes("a") < bytes("c") * 6 / 10, "16-bit weights take about half: {} and {}", bytes("a"), bytes("c"));
}

#[test]
fn weights_in_blocks_are_the_same_bytes_each_time_and_fewer() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let size = |weights: Weights| {
        let options = ImportOptions { weights, ..ImportOptions::default() };
        let import = |name: &str| run(from.path(), &to.path().join(format!("{name}-{weights}")), &options).unwrap();
        let (a, b) = (import("a"), import("b"));
        assert_eq!((a.digest(), &a.manifest().provenance["weights"]), (b.digest(), &weights.to_string()));
        assert_eq!(weights.to_string().parse(), Ok(weights));
        a.manifest().files["sampler.onnx"].bytes
    };
    let [wide, half, eight, four] = [Weights::F32, Weights::F16, Weights::Q8, Weights::Q4].map(size);
    assert!(wide > half && half > eight && eight > four, "{wide}, {half}, {eight}, {four}");
}

#[test]
fn another_seed_gives_another_package() {
    let (to, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synthetic::checkpoint(other.path(), &synthetic::Geometry::default(), 2).unwrap();
    let digest = |from: &Path, name: &str| {
        run(from, &to.path().join(name), &ImportOptions::default()).unwrap().digest().to_owned()
    };
    assert_ne!(digest(checkpoint().path(), "a"), digest(other.path(), "b"));
}

#[test]
fn every_geometry_that_can_be_asked_for_imports() {
    let geometry = synthetic::Geometry {
        name: "other".into(),
        text_length: 5,
        grid: 4,
        levels: vec![3, 4],
        patch: 4,
        local_encoder: true,
        width: 24,
        heads: 3,
        masks: vec![Mask::Full],
        conv_kernel: 1,
        decoder_stages: [(20, 1), (12, 2)],
        clip_image_size: 16,
        clip_tower: (24, 1),
        clip_heads: 3,
    };
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synthetic::checkpoint(from.path(), &geometry, 3).unwrap();
    let package = run(from.path(), to.path(), &ImportOptions::default()).unwrap();
    assert_eq!((package.manifest().codebook, package.manifest().image.width), (12, 16));
}

#[test]
fn large_weights_go_beside_the_graph() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let options = ImportOptions { inline_limit_bytes: 200_000, ..ImportOptions::default() };
    let package = run(from.path(), to.path(), &options).unwrap();
    package.verify().unwrap();
    let files = &package.manifest().files;
    assert!(files["sampler.onnx.data"].bytes > 100_000);
    assert!(files["sampler.onnx"].bytes < 50_000);
    assert!(!files.contains_key("decoder.onnx.data"), "its checkpoint file is below the limit");
}

#[test]
fn progress_rises_to_the_whole() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let mut seen = vec![];
    import(from.path(), to.path(), &ImportOptions::default(), &mut |p| seen.push(p)).unwrap();
    assert!(seen.len() > 50);
    assert!(seen.is_sorted_by_key(|p| p.read_bytes));
    let last = seen.last().unwrap();
    assert_eq!(last.read_bytes, last.total_bytes);
}

#[test]
fn only_a_package_is_ever_replaced_and_only_when_asked() {
    let (from, to) = (checkpoint(), tempfile::tempdir().unwrap());
    let (out, options) = (to.path().join("p"), ImportOptions::default());
    let overwrite = ImportOptions { overwrite: true, ..options.clone() };
    fs::write(&out, "mine").unwrap();
    let error = run(from.path(), &out, &overwrite).unwrap_err().to_string();
    assert!(error.ends_with("p: expected a folder, or nothing yet, found a file"), "{error}");
    fs::remove_file(&out).unwrap();
    fs::create_dir(&out).unwrap();
    let first = run(from.path(), &out, &options).unwrap();
    let error = run(from.path(), &out, &options).unwrap_err().to_string();
    assert!(error.ends_with("p: expected nothing yet, or --overwrite, found a package"), "{error}");
    fs::write(out.join("stray"), "").unwrap();
    let error = run(from.path(), &out, &overwrite).unwrap_err().to_string();
    assert!(
        error.ends_with("expected a package and nothing else, since all of it is replaced, found stray"),
        "{error}"
    );
    fs::remove_file(out.join("stray")).unwrap();
    assert_eq!(run(from.path(), &out, &overwrite).unwrap().digest(), first.digest());
    fs::remove_file(out.join("manifest.json")).unwrap();
    let error = run(from.path(), &out, &overwrite).unwrap_err().to_string();
    assert!(error.ends_with("p: expected an empty folder or a package, found other files"), "{error}");
    assert!(out.join("sampler.onnx").exists());
    assert_eq!(names(to.path()), ["p"]);
}

#[test]
fn a_package_that_holds_the_checkpoint_is_not_replaced() {
    let to = tempfile::tempdir().unwrap();
    let out = to.path().join("p");
    run(checkpoint().path(), &out, &ImportOptions::default()).unwrap();
    let inner = out.join("checkpoint");
    synthetic::checkpoint(&inner, &synthetic::Geometry::default(), 1).unwrap();
    let overwrite = ImportOptions { overwrite: true, ..ImportOptions::default() };
    let error = run(&inner, &out, &overwrite).unwrap_err().to_string();
    assert!(error.contains("expected a folder that the checkpoint does not lie in"), "{error}");
    assert!(inner.join("config.json").exists());
}

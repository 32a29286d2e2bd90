//! `easel bench engine`.

use serde_json::Value;
use tempfile::tempdir;

use crate::suite::{easel, json, package, stderr, stdout};

/// The fields of every step, with its share of the memory's speed.
fn check(report: &Value, batches: &[u64], positions: &[u64]) {
    let steps = report["steps"].as_array().unwrap();
    let places = |list: &Value| -> Vec<(u64, u64)> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|s| (s["batch"].as_u64().unwrap(), s["position"].as_u64().unwrap()))
            .collect()
    };
    let expected: Vec<(u64, u64)> = batches.iter().flat_map(|&b| positions.iter().map(move |&p| (b, p))).collect();
    assert_eq!(places(&report["steps"]), expected);
    assert_eq!(places(&report["roofline"]), expected);
    assert!(steps.iter().all(|s| s["ms"].as_f64().unwrap() >= s["least_ms"].as_f64().unwrap()), "{report}");
    let positive = ["read_bandwidth", "load_ms", "kv_bytes", "prefill_ms", "draw_ms", "weight_bytes"];
    assert!(positive.iter().all(|field| report[field].as_f64().unwrap() > 0.0), "{report}");
    let whole = report["whole"].as_array().unwrap();
    assert_eq!(whole.iter().map(|w| w["batch"].as_u64().unwrap()).collect::<Vec<_>>(), batches);
}

#[test]
fn a_package_is_measured_by_position_and_batch() {
    let folder = tempdir().unwrap();
    let run = |extra: &[&str]| {
        let arguments = ["bench", "engine", "--batches", "1,3", "--steps", "2", "--threads", "1"];
        easel(folder.path()).args(arguments).args(extra).arg(package()).output().unwrap()
    };
    let report = json(&run(&["--positions", "16,51", "--pictures", "2", "--json", "--out", "report.json"]));
    // The first step is at the first image position; two are timed.
    check(&report, &[1, 3], &[16, 51]);
    assert_eq!((&report["engine"], &report["device"], &report["threads"]), (&"easel".into(), &"cpu".into(), &1.into()));
    let drawn = &report["pictures"][0];
    assert_eq!(drawn["candidates"], 2);
    assert!(drawn["first_token_ms"].as_f64().unwrap() <= drawn["ms"].as_f64().unwrap());
    let written: Value = serde_json::from_slice(&std::fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(written, report);

    let text = stdout(&run(&["--own-captions"]));
    assert!(text.contains("ms a step") && text.contains("\nbatch  at 16") && text.contains("at 51"), "{text}");

    let line = stderr(&run(&["--positions", "15"]));
    assert!(line.contains("positions: expected 16 … 51, found 15"), "{line}");
}

#[test]
fn random_weights_of_a_geometry_are_made_once() {
    let folder = tempdir().unwrap();
    let run = || {
        let arguments = ["bench", "engine", "--geometry", "64x2", "--weights", "q8", "--batches", "2", "--steps", "1"];
        easel(folder.path()).args(arguments).args(["--cache", "cache", "--json"]).output().unwrap()
    };
    let first = run();
    assert!(stderr(&first).contains("importing"), "{}", stderr(&first));
    let report = json(&first);
    check(&report, &[2], &[256, 511, 767, 1023, 1279]);
    assert_eq!((&report["width"], &report["layers"], &report["kv"]), (&64.into(), &2.into(), &"f32".into()));
    assert!(folder.path().join("cache/random-64x2-q8/manifest.json").is_file());
    let second = run();
    assert!(!stderr(&second).contains("importing"), "{}", stderr(&second));
    assert_eq!(json(&second)["digest"], report["digest"]);
}

#[test]
fn something_to_measure_must_be_named() {
    let folder = tempdir().unwrap();
    let output = easel(folder.path()).args(["bench", "engine"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = easel(folder.path()).args(["bench", "engine", "--geometry", "huge"]).output().unwrap();
    assert!(stderr(&output).contains("expected S, M, L or WIDTHxLAYERS"), "{}", stderr(&output));
}

#[test]
fn numbers_out_of_range_are_refused_before_weights_are_made() {
    let folder = tempdir().unwrap();
    for (arguments, expected) in [
        (["--batches", "0"], "batches and pictures: expected 1 … 4096, found 0"),
        (["--steps", "2000"], "steps: expected 1 … 1024, found 2000"),
        (["--kv", "f16"], "kv: expected f32 or bf16, found \"f16\""),
    ] {
        let mut command = easel(folder.path());
        command.args(["bench", "engine", "--geometry", "64x2", "--cache", "cache"]).args(arguments);
        let output = command.output().unwrap();
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!folder.path().join("cache").exists());
    }
}

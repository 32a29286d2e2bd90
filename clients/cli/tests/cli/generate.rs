//! `easel generate`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::tempdir;

use crate::suite::{at_suite, easel, json, package, stderr, stdout};

/// Names of the pictures in a folder, and hashes of their contents.
fn pictures(folder: &Path) -> BTreeMap<String, u64> {
    let hash = |path: PathBuf| {
        let mut hasher = DefaultHasher::new();
        fs::read(path).unwrap().hash(&mut hasher);
        hasher.finish()
    };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = files.map(|file| (file.file_name().into_string().unwrap(), hash(file.path())));
    named.filter(|(name, _)| name.contains("-seed")).collect()
}

fn seeds(record: &Value) -> Vec<u64> {
    record["pictures"].as_array().unwrap().iter().map(|picture| picture["seed"].as_u64().unwrap()).collect()
}

#[test]
fn the_folder_holds_ranked_pictures_a_sheet_and_the_record() {
    let folder = tempdir().unwrap();
    let output = at_suite(folder.path(), &["generate", "a", "red", "car", "--candidates", "3", "--seed", "42"]);
    let text = stdout(&output);
    let out = folder.path().join("out/a-red-car-42");
    let record: Value = serde_json::from_slice(&fs::read(out.join("generation.json")).unwrap()).unwrap();
    assert_eq!(record["prompt"], "a red car");
    assert_eq!(record["seeds"], serde_json::json!([42, 43, 44]));
    assert_eq!(record["package"]["name"], "synthetic");
    assert_eq!(record["easel_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(record["stages"].as_array().unwrap().len(), 5);
    assert!(record["parameters"]["temperature"].is_number());

    let (mut last, listed) = (f64::INFINITY, record["pictures"].as_array().unwrap());
    assert_eq!(listed.len(), 3);
    for (i, picture) in listed.iter().enumerate() {
        assert_eq!(picture["rank"], i + 1);
        assert_eq!(picture["image_tokens"].as_array().unwrap().len(), 36);
        let score = picture["clip_score"].as_f64().unwrap();
        assert!(score <= last);
        last = score;
        let file = picture["file"].as_str().unwrap();
        assert!(file.starts_with(&format!("{:02}-seed{}-", i + 1, picture["seed"])), "{file}");
        assert_eq!(image::open(out.join(file)).unwrap().to_rgb8().dimensions(), (48, 48));
        assert!(text.contains(file));
    }
    assert_eq!(pictures(&out).len(), 3);
    assert!(image::open(out.join("sheet.png")).is_ok());
    assert!(stderr(&output).contains("tokens"), "progress is told in lines");
}

#[test]
fn the_same_seed_draws_the_same_pictures_and_the_command_repeats_them() {
    let folder = tempdir().unwrap();
    let draw = |arguments: &[&str]| json(&at_suite(folder.path(), &[&["generate", "--json"], arguments].concat()));
    let first = draw(&["a red car", "--candidates", "4", "--seed", "5", "--out", "first"]);
    draw(&["a red car", "--candidates", "4", "--seed", "5", "--out", "second"]);
    let drawn = pictures(&folder.path().join("first"));
    assert_eq!(drawn.len(), 4);
    assert_eq!(drawn, pictures(&folder.path().join("second")));

    let command = first["command"].as_str().unwrap();
    assert!(command.starts_with("easel generate --candidates 4 --seed 5 --temperature "), "{command}");
    assert!(command.ends_with(" 'a red car'"), "{command}");
    let again = std::process::Command::new("sh")
        .args(["-c", &format!("{} --out third", command.replacen("easel", env!("CARGO_BIN_EXE_easel"), 1))])
        .current_dir(folder.path())
        .output()
        .unwrap();
    stdout(&again);
    assert_eq!(drawn, pictures(&folder.path().join("third")));
}

#[test]
fn the_best_are_kept_and_replace_an_earlier_generation() {
    let folder = tempdir().unwrap();
    let all = ["generate", "a red car", "--candidates", "4", "--seed", "5", "--out", "out", "--json"];
    let every = seeds(&json(&at_suite(folder.path(), &all)));
    let best = seeds(&json(&at_suite(folder.path(), &[&all[..], &["--keep", "2"]].concat())));
    assert_eq!(best, every[..2]);
    assert_eq!(pictures(&folder.path().join("out")).len(), 2);
}

#[test]
fn what_was_asked_for_orders_the_pictures_and_says_which_are_kept() {
    let folder = tempdir().unwrap();
    let draw = |arguments: &[&str]| {
        let all = ["generate", "a red car", "--candidates", "5", "--seed", "5", "--guidance", "2", "--json", "--out"];
        json(&at_suite(folder.path(), &[&all[..], arguments].concat()))
    };
    let cells = 36.0;
    for (order, score) in [
        ("likelihood", (|entry| entry["log_likelihood"].as_f64().unwrap()) as fn(&Value) -> f64),
        ("gain", |entry| {
            entry["log_likelihood"].as_f64().unwrap() - entry["unconditional_log_likelihood"].as_f64().unwrap()
        }),
    ] {
        let record = draw(&["out", "--rank-by", order]);
        assert_eq!(record["rank_by"], order);
        let mut last = f64::INFINITY;
        for (place, entry) in record["ranking"].as_array().unwrap().iter().enumerate() {
            let expected = score(entry) / cells;
            assert!((entry["score"].as_f64().unwrap() - expected).abs() < 1e-9 && expected <= last, "{entry}");
            last = expected;
            let picture = &record["pictures"][place];
            assert_eq!((&picture["seed"], &picture["score"]), (&entry["seed"], &entry["score"]));
        }
        let kept = draw(&["kept", "--rank-by", order, "--keep", "2"]);
        assert_eq!(seeds(&kept), seeds(&record)[..2]);
        assert!(kept["command"].as_str().unwrap().contains(&format!(" --rank-by {order} ")));
    }
    let both = draw(&["both", "--rank-by", "both"]);
    assert_eq!(both["rank_by"], "both");
    let sum: f64 = both["ranking"].as_array().unwrap().iter().map(|entry| entry["score"].as_f64().unwrap()).sum();
    assert!(sum.abs() < 1e-9, "z-scores add up to nothing");
    assert_eq!(draw(&["clip"])["rank_by"], "clip");
}

#[test]
fn a_negative_prompt_changes_the_picture_and_is_told() {
    let folder = tempdir().unwrap();
    let all = ["generate", "a red car", "--candidates", "1", "--seed", "5", "--json", "--out"];
    let draw = |arguments: &[&str]| at_suite(folder.path(), &[&all[..], arguments].concat());
    let plain = json(&draw(&["plain", "--guidance", "3"]));
    let negative = json(&draw(&["negative", "--guidance", "3", "--negative-prompt", "a blue car"]));
    assert_eq!((&plain["negative_prompt"], &negative["negative_prompt"]), (&Value::Null, &"a blue car".into()));
    assert_ne!(plain["pictures"][0]["image_tokens"], negative["pictures"][0]["image_tokens"]);
    assert!(negative["command"].as_str().unwrap().contains(" --negative-prompt 'a blue car' "), "{negative}");
    let refused = draw(&["refused", "--guidance", "1", "--negative-prompt", "a blue car"]);
    assert_eq!(refused.status.code(), Some(2));
    let line = stderr(&refused);
    assert!(line.contains("--negative-prompt: needs a guidance_scale other than 1"), "{line}");
}

#[test]
fn tokens_draw_what_their_caption_draws_and_nothing_ranks_them() {
    let folder = tempdir().unwrap();
    let arguments = ["generate", "--json", "--candidates", "2", "--seed", "9", "--temperature", "0", "--out"];
    let spoken = json(&at_suite(folder.path(), &[&arguments[..], &["spoken", "a red car"]].concat()));
    let tokens = spoken["text_tokens"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    let given = json(&at_suite(folder.path(), &[&arguments[..], &["given", "--text-tokens", &tokens]].concat()));
    assert_eq!(given["text_tokens"], spoken["text_tokens"]);
    assert_eq!(given["pictures"][0]["clip_score"], Value::Null);
    assert_eq!(given["pictures"][0]["file"], "01-seed9.png");
    // Greedy: every candidate is the same, whatever its seed.
    let tokens = |record: &Value, i: usize| record["pictures"][i]["image_tokens"].clone();
    assert_eq!(tokens(&given, 0), tokens(&spoken, 0));
    assert_eq!(tokens(&given, 0), tokens(&given, 1));
}

#[test]
fn a_picture_is_completed_below_the_rows_that_are_kept() {
    let folder = tempdir().unwrap();
    let draw = ["generate", "a red car", "--candidates", "1", "--json"];
    let first = json(&at_suite(folder.path(), &[&draw[..], &["--seed", "1", "--out", "first"]].concat()));
    let file = format!("first/{}", first["pictures"][0]["file"].as_str().unwrap());
    let kept = ["--seed", "2", "--out", "second", "--image", &file, "--keep-rows", "3"];
    let second = json(&at_suite(folder.path(), &[&draw[..], &kept[..]].concat()));
    assert_eq!(second["image_prompt"]["given_tokens"], 18);
    assert_eq!(second["image_prompt"]["keep_rows"], 3);
    let corner = ["--seed", "2", "--out", "third", "--image", &file, "--redraw-from", "4,4"];
    let third = json(&at_suite(folder.path(), &[&draw[..], &corner[..]].concat()));
    assert_eq!(third["image_prompt"]["given_tokens"], 32);
    assert_eq!(third["tokens_drawn"], 4);
}

#[test]
fn pictures_come_in_the_format_that_was_asked_for() {
    let folder = tempdir().unwrap();
    for (format, extension, quality) in [("jpeg", "jpg", Value::from(90)), ("webp", "webp", Value::Null)] {
        let arguments = ["generate", "a red car", "--candidates", "1", "--json", "--out", format, "--format", format];
        let record = json(&at_suite(folder.path(), &arguments));
        let file = record["pictures"][0]["file"].as_str().unwrap().to_owned();
        assert!(file.ends_with(&format!(".{extension}")), "{file}");
        assert!(image::open(folder.path().join(format).join(file)).is_ok());
        assert_eq!(record["image"]["format"], extension);
        assert_eq!(record["image"]["quality"], quality);
    }
}

#[test]
fn words_that_the_model_was_not_taught_are_named() {
    let folder = tempdir().unwrap();
    let output = at_suite(folder.path(), &["generate", "a zyzzyva", "--candidates", "1"]);
    stdout(&output);
    assert!(stderr(&output).contains("the model was not taught: zyzzyva\n"), "{}", stderr(&output));
    let slips = json(&at_suite(folder.path(), &["generate", "a reed carr, 2!", "--candidates", "1", "--json"]));
    assert_eq!(slips["unknown_words"], serde_json::json!(["reed", "carr"]));
    assert_eq!(slips["nearest_words"], serde_json::json!(["red", "car"]));
    let output = at_suite(folder.path(), &["generate", "a reed car, 2!", "--candidates", "1"]);
    assert!(stderr(&output).contains("not taught: reed (did you mean red?)\n"), "{}", stderr(&output));
    let long = "a red car ".repeat(20);
    let output = at_suite(folder.path(), &["generate", &long, "--candidates", "1"]);
    assert!(stderr(&output).contains("longer than the model reads"), "{}", stderr(&output));
}

#[test]
fn without_a_gateway_the_suite_runs_in_the_command() {
    let folder = tempdir().unwrap();
    let arguments = ["generate", "a red car", "--candidates", "1", "--seed", "3", "--json", "--out"];
    let package = package();
    let alone = easel(folder.path()).args(arguments).args(["alone", "--package"]).arg(&package).output().unwrap();
    json(&alone);
    assert!(stderr(&alone).contains("in this process"), "{}", stderr(&alone));
    json(&at_suite(folder.path(), &[&arguments[..], &["served"]].concat()));
    assert_eq!(pictures(&folder.path().join("alone")), pictures(&folder.path().join("served")));
}

#[test]
fn keys_and_values_of_16_bits_are_asked_for_again_and_no_others_are_known() {
    let folder = tempdir().unwrap();
    let package = package();
    let run = |kv: &str| {
        let arguments =
            ["generate", "a red car", "--candidates", "1", "--seed", "3", "--json", "--kv", kv, "--package"];
        easel(folder.path()).args(arguments).arg(&package).output().unwrap()
    };
    let command = json(&run("bf16"))["command"].as_str().unwrap().to_owned();
    assert!(command.contains(" --kv bf16 "), "{command}");
    let refused = run("fp8");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("expected f32 or bf16, found \"fp8\""), "{}", stderr(&refused));
}

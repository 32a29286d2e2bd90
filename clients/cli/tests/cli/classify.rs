//! `easel classify`.

use tempfile::tempdir;

use crate::suite::{at_suite, json, stderr, stdout};

#[test]
fn labels_come_most_likely_first() {
    let folder = tempdir().unwrap();
    image::RgbImage::from_pixel(60, 40, image::Rgb([200, 10, 10])).save(folder.path().join("red.png")).unwrap();
    let arguments = ["classify", "red.png", "a red car", "a blue house", "a cat"];
    let entries = json(&at_suite(folder.path(), &[&arguments[..], &["--json"]].concat()));
    let likely: Vec<f64> = entries.as_array().unwrap().iter().map(|e| e["probability"].as_f64().unwrap()).collect();
    assert_eq!(likely.len(), 3);
    assert!(likely.is_sorted_by(|a, b| a >= b), "{likely:?}");
    assert!((likely.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{likely:?}");
    assert_eq!(stdout(&at_suite(folder.path(), &arguments)).lines().count(), 3);
}

#[test]
fn words_of_a_label_that_the_model_was_not_taught_are_named() {
    let folder = tempdir().unwrap();
    image::RgbImage::from_pixel(32, 32, image::Rgb([200, 10, 10])).save(folder.path().join("red.png")).unwrap();
    let arguments = ["classify", "red.png", "a reed car", "a red car", "a reed carr"];
    let told = stderr(&at_suite(folder.path(), &arguments));
    assert!(told.contains("the model was not taught: carr (did you mean car?), reed (did you mean red?)"), "{told}");
    let entries = json(&at_suite(folder.path(), &[&arguments[..], &["--json"]].concat()));
    let known = entries.as_array().unwrap().iter().find(|entry| entry["label"] == "a red car").unwrap();
    assert_eq!(known["unknown_words"], serde_json::json!([]));
}

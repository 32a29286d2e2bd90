//! What can be asked of a running gateway: `easel packages`, `easel status`, `easel bench`.

use tempfile::tempdir;

use crate::suite::{at_suite, json, stdout};

#[test]
fn packages_are_listed_with_their_defaults_and_limits() {
    let folder = tempdir().unwrap();
    let packages = json(&at_suite(folder.path(), &["packages", "--json"]));
    assert_eq!(packages[0]["name"], "synthetic");
    assert_eq!(packages[0]["grid"], serde_json::json!({"rows": 6, "columns": 6}));
    assert!(packages[0]["limits"]["max_candidates"].as_u64().unwrap() > 0);
    assert!(packages[0]["defaults"]["top_p"].is_number());
    assert!(stdout(&at_suite(folder.path(), &["packages"])).starts_with("synthetic"));
}

#[test]
fn status_tells_of_every_stage() {
    let folder = tempdir().unwrap();
    let stages = json(&at_suite(folder.path(), &["status", "--json"]));
    for name in ["tokenizer", "sampler", "decoder", "ranker"] {
        let stage = stages.as_array().unwrap().iter().find(|stage| stage["stage"] == name).unwrap();
        assert_eq!((&stage["reachable"], &stage["status"]["ready"]), (&true.into(), &true.into()), "{stage}");
    }
    let text = stdout(&at_suite(folder.path(), &["status"]));
    assert!(text.starts_with("STAGE") && text.contains("sampler"), "{text}");
}

#[test]
fn bench_counts_every_request() {
    let folder = tempdir().unwrap();
    let arguments = ["bench", "--requests", "6", "--concurrency", "3", "--candidates", "2"];
    let report = json(&at_suite(folder.path(), &[&arguments[..], &["--json"]].concat()));
    assert_eq!(report["succeeded"], 6);
    assert_eq!(report["errors"], serde_json::json!({}));
    assert_eq!(report["latency_seconds"]["count"], 6);
    let latency = &report["latency_seconds"];
    assert!(latency["p50"].as_f64() <= latency["p99"].as_f64());
    assert!(report["first_token_seconds"]["p50"].as_f64() <= latency["p50"].as_f64());
    assert!(report["pictures_per_second"].as_f64().unwrap() > 0.0);

    // Not one request can succeed: the code is counted, and the command fails.
    let output = at_suite(folder.path(), &[&arguments[..], &["--prompt", "", "--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["errors"]["INVALID_ARGUMENT"], 6);
    assert!(report["error_messages"]["INVALID_ARGUMENT"].as_str().unwrap().starts_with("PROMPT: "), "{report}");

    // One failure of two is a failure.
    let prompts = ["bench", "--requests", "2", "--prompt", "a red car", "--prompt", ""];
    let output = at_suite(folder.path(), &prompts);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("INVALID_ARGUMENT: 1, the first: PROMPT: "), "{text}");
}

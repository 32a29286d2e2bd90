//! The rules of the house that Cargo alone does not keep: who may import whom, which crate knows a foreign engine, licences and sources.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Which of our crates a crate may import. Tests (dev-dependencies) are free.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("easel-proto", &[]),
    ("easel-package", &[]),
    ("easel-server", &["easel-proto"]),
    ("easel-onnx", &["easel-package"]),
    ("easel-import", &["easel-package"]),
    ("easel-tokenizer", &["easel-proto", "easel-server", "easel-package"]),
    ("easel-sampler", &["easel-proto", "easel-server", "easel-package", "easel-onnx"]),
    ("easel-decoder", &["easel-proto", "easel-server", "easel-package", "easel-onnx"]),
    ("easel-ranker", &["easel-proto", "easel-server", "easel-package", "easel-onnx"]),
    ("easel-gateway", &["easel-proto", "easel-server"]),
    (
        "easel-standalone",
        &[
            "easel-onnx",
            "easel-package",
            "easel-server",
            "easel-tokenizer",
            "easel-sampler",
            "easel-decoder",
            "easel-ranker",
            "easel-gateway",
        ],
    ),
    ("easel-client", &["easel-proto"]),
    ("easel-cli", &["easel-client", "easel-standalone", "easel-import", "easel-package", "easel-server"]),
    ("easel-tests", &["easel-import", "easel-package", "easel-proto"]),
];

/// Foreign crates that one of ours alone may name.
const ENGINES: &[(&str, &[&str])] = &[
    ("ort", &["easel-onnx"]),
    ("tokenizers", &["easel-tokenizer"]),
    ("safetensors", &["easel-import"]),
    ("image", &["easel-gateway", "easel-cli"]),
];

/// Licences that need nothing of us but attribution.
const LICENSES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "0BSD",
    "Unlicense",
    "BSL-1.0",
];

fn metadata() -> Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().unwrap().iter()
}

/// Names of what a package imports outside of its tests.
fn imports(package: &Value) -> BTreeSet<&str> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    dependencies.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap()).collect()
}

#[test]
fn our_crates_import_only_what_the_table_allows() {
    let metadata = metadata();
    let ours: Vec<&Value> = packages(&metadata).filter(|p| p["source"].is_null()).collect();
    assert_eq!(ours.len(), MAY_IMPORT.len(), "a crate is missing from the table");
    for package in ours {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) =
            MAY_IMPORT.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is not in the table"));
        for import in imports(package).into_iter().filter(|i| i.starts_with("easel-")) {
            assert!(allowed.contains(&import), "{name} must not import {import}");
        }
    }
}

#[test]
fn a_foreign_engine_has_one_crate_that_knows_it() {
    let metadata = metadata();
    for package in packages(&metadata).filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        for (engine, knowers) in ENGINES {
            assert!(!imports(package).contains(engine) || knowers.contains(&name), "{name} must not import {engine}");
        }
    }
}

#[test]
fn dependencies_come_from_the_registry_under_licences_that_allow_it() {
    let metadata = metadata();
    for package in packages(&metadata).filter(|p| !p["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        assert!(package["source"].as_str().unwrap().starts_with("registry+"), "{name}: {}", package["source"]);
        let license = package["license"].as_str().unwrap_or_else(|| panic!("{name} states no licence"));
        assert!(allowed(license), "{name}: {license}");
    }
}

/// Whether an SPDX expression (AND of ORs, as the registry writes them) can be met with the allowed licences.
fn allowed(expression: &str) -> bool {
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']).replace('/', " OR ");
        part.split(" OR ").any(|l| LICENSES.contains(&l.trim().trim_matches(['(', ')'])))
    })
}

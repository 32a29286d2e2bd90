//! What is said of an ONNX Runtime library that cannot be used. One test, for the library is loaded once for a process.
#![allow(clippy::unwrap_used)]

use std::{env, fs};

use easel_onnx::Runtime;

#[test]
fn a_library_that_cannot_be_used_is_named_and_the_next_try_may_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, text) = (dir.path().join("missing.so"), dir.path().join("text.so"));
    fs::write(&text, "not a library").unwrap();
    let chosen = env::var_os("ORT_DYLIB_PATH");
    for path in [missing, text] {
        // SAFETY: this process has no other test, and nothing that reads the environment meanwhile.
        unsafe { env::set_var("ORT_DYLIB_PATH", &path) };
        let error = Runtime::load().unwrap_err().to_string();
        assert!(error.starts_with(&format!("onnx runtime: {}: ", path.display())), "{error}");
    }
    match chosen {
        // SAFETY: as above.
        Some(path) => unsafe { env::set_var("ORT_DYLIB_PATH", path) },
        // SAFETY: as above.
        None => unsafe { env::remove_var("ORT_DYLIB_PATH") },
    }
    Runtime::load().unwrap();
}

//! One line that names what was typed, and the exit code.

use tempfile::tempdir;

use crate::suite::{at_suite, easel, stderr};

#[test]
fn what_the_gateway_refuses_is_named_as_it_was_typed() {
    let folder = tempdir().unwrap();
    for (arguments, named) in [
        (&["a red car", "--top-p", "2"][..], "--top-p: "),
        (&["a red car", "--temperature", "-1"], "--temperature: "),
        (&["a red car", "--candidates", "10001"], "--candidates: "),
        (&["a red car", "--package", "none"], "--package: "),
        (&["--text-tokens", "999999"], "--text-tokens: "),
        (&["  "], "PROMPT: "),
    ] {
        let output = at_suite(folder.path(), &[&["generate"], arguments].concat());
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(line.starts_with(&format!("easel: {named}")), "{arguments:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_starts() {
    let folder = tempdir().unwrap();
    for arguments in [
        &["generate"][..],
        &["generate", "a red car", "--candidates", "0"],
        &["generate", "a red car", "--image", "a.png"],
        &["generate", "a red car", "--redraw-from", "4"],
        &["generate", "a red car", "--timeout-seconds", "-0.0"],
        &["classify", "a.png"],
        &["draw"],
    ] {
        let output = easel(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_gateway_that_is_not_there_is_named() {
    let folder = tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = easel(folder.path()).args(["status", "--gateway", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address) && stderr(&output).contains("easel serve"), "{}", stderr(&output));
}

#[test]
fn a_package_that_is_not_there_is_named() {
    let folder = tempdir().unwrap();
    let output =
        easel(folder.path()).args(["generate", "a red car"]).env("EASEL_PACKAGES", "nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere/manifest.json"), "{}", stderr(&output));
}

//! One line that names what was typed, and the exit code.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};

use tempfile::tempdir;

use crate::suite::{at_suite, easel, stage, stderr};

#[test]
fn what_the_gateway_refuses_is_named_as_it_was_typed() {
    let folder = tempdir().unwrap();
    // The package reads captions, so that the picture is not looked at without one.
    std::fs::write(folder.path().join("a.png"), "no picture").unwrap();
    for (arguments, named) in [
        (&["a red car", "--top-p", "2"][..], "--top-p: "),
        (&["a red car", "--temperature", "-1"], "--temperature: "),
        (&["a red car", "--candidates", "10001"], "--candidates: "),
        (&["a red car", "--rank-by", "gain", "--guidance", "1"], "--rank-by: needs a guidance_scale other than 1"),
        (&["--text-tokens", "1", "--rank-by", "clip"], "--rank-by: "),
        (&["a red car", "--package", "none"], "--package: "),
        (&["--text-tokens", "999999"], "--text-tokens: "),
        (&["  "], "PROMPT: "),
        (&[], "PROMPT: "),
        (&["--image", "a.png", "--keep-rows", "1"], "PROMPT: "),
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
        &["generate", "a red car", "--candidates", "0"][..],
        &["generate", "a red car", "--image", "a.png"],
        &["generate", "a red car", "--redraw-from", "4"],
        &["generate", "a red car", "--timeout-seconds", "-0.0"],
        &["generate", "a red car", "--quality", "50"],
        &["generate", "a red car", "--threads", "1025"],
        &["classify", "a.png"],
        &["draw"],
    ] {
        let output = easel(folder.path()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_named_with_its_bounds() {
    let folder = tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (arguments, named) in [
        (&["--timeout-seconds", "1e300"][..], "at most 31536000"),
        (&["--seed", "-1"], "invalid value '-1' for '--seed"),
        (&["--top-k", "-1"], "invalid value '-1' for '--top-k"),
        (&["--redraw-from", "-1,2", "--image", "a.png"], "invalid value '-1,2' for '--redraw-from"),
        (&["--package", "/nonexistent/package"], "--package: /nonexistent/package does not exist"),
        (&["--package", "empty"], "--package: empty has no manifest.json"),
    ] {
        let output = easel(folder.path()).args(["generate", "a red car", "--out", "made"]).args(arguments).output();
        let output = output.unwrap();
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {line}");
        assert!(line.contains(named) && !line.contains("in this process"), "{arguments:?}: {line}");
        assert!(!folder.path().join("made").exists());
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

/// A server that reads a little of each connection and closes it.
fn closing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    address
}

#[test]
fn what_is_no_gateway_is_told_from_one_that_went_away() {
    let folder = tempdir().unwrap();
    for (address, told) in
        [(stage(), "is not an Easel gateway"), (closing().to_string(), "the gateway closed the connection: ")]
    {
        let output = easel(folder.path()).args(["status", "--gateway", &address]).output().unwrap();
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(line.contains(told) && !line.contains("easel serve"), "{line}");
    }
}

#[test]
fn options_that_a_gateway_cannot_follow_are_named() {
    let folder = tempdir().unwrap();
    let output = at_suite(folder.path(), &["packages", "--threads", "2"]);
    assert!(output.status.success());
    assert_eq!(stderr(&output), "--threads is ignored: the gateway decides\n");
}

#[test]
fn a_package_that_is_not_there_is_named() {
    let folder = tempdir().unwrap();
    let output =
        easel(folder.path()).args(["generate", "a red car"]).env("EASEL_PACKAGES", "nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere/manifest.json"), "{}", stderr(&output));
}

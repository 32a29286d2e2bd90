//! `easel serve`, and what an interrupt does.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use tempfile::tempdir;

use crate::suite::{easel, json, package};

/// Starts the command and reads its standard error up to the line that holds `word`.
fn spawn(folder: &Path, arguments: &[&str], word: &str) -> (Child, BufReader<ChildStderr>, String) {
    let mut command = easel(folder);
    command.args(arguments).arg("--package").arg(package());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the command ended without \"{word}\"");
    }
    (child, lines, line)
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn serve_answers_until_it_is_told_to_stop() {
    let folder = tempdir().unwrap();
    let (mut child, mut lines, line) =
        spawn(folder.path(), &["serve", "--listen", "127.0.0.1:0"], "the suite is ready");
    let url = line.split("http://").nth(1).unwrap();
    let port: String = url.split(':').nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    let status = easel(folder.path()).args(["status", "--json", "--gateway", &format!("127.0.0.1:{port}")]).output();
    assert!(json(&status.unwrap()).as_array().unwrap().len() >= 4);
    signal(&child, "-TERM");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
}

#[test]
fn an_interrupt_ends_a_command() {
    let folder = tempdir().unwrap();
    let (mut child, mut lines, _) = spawn(folder.path(), &["generate", "a red car"], "in this process");
    signal(&child, "-INT");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("easel: interrupted"), "{rest}");
    assert!(!folder.path().join("out").exists());
}

//! The example is a program that works.

use std::process::Command;

use crate::gateway;

#[tokio::test]
async fn the_example_draws_and_saves_best_first() {
    let gateway = gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    // Cargo builds a package's examples with its tests, beside their folder.
    let example = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/generate");
    let mut command = Command::new(example);
    command.arg(format!("http://{}", gateway.address)).arg(folder.path()).args(["a", "cat"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["01-seed8.jpg", "02-seed7.jpg"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("01-seed8.jpg: clip_score"));
}

//! `easel import` and `easel package`.

use std::fs;

use tempfile::tempdir;

use crate::suite::{checkpoint, easel, json, stderr, stdout};

#[test]
fn an_imported_package_checks_and_shows() {
    let folder = tempdir().unwrap();
    let import = || {
        let mut command = easel(folder.path());
        command.arg("import").arg(checkpoint()).args(["--weights", "f32"]);
        command
    };
    let output = import().args(["--out", "package"]).output().unwrap();
    let imported = stdout(&output);
    let told = stderr(&output);
    assert!(told.starts_with("import: 10 % of ") && told.contains("import: 100 % of "), "{told}");
    let checked = stdout(&easel(folder.path()).args(["package", "check", "package"]).output().unwrap());
    let digest = checked.lines().last().unwrap();
    assert_eq!(imported.lines().last().unwrap(), digest);
    let shown = json(&easel(folder.path()).args(["package", "show", "package", "--json"]).output().unwrap());
    assert_eq!((shown["digest"].as_str().unwrap(), &shown["manifest"]["name"]), (digest, &"synthetic".into()));
    assert!(stdout(&easel(folder.path()).args(["package", "show", "package"]).output().unwrap()).contains(digest));

    // There is a package now: it is replaced only when that is asked for.
    let output = import().args(["--out", "package"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("easel: package"), "{}", stderr(&output));
    stdout(&import().args(["--out", "package", "--overwrite"]).output().unwrap());

    let told = ["--name", "second", "--version", "0.2", "--license", "MIT", "--description", "Another one."];
    let line = stdout(&import().args(["--out", "second"]).args(told).output().unwrap());
    assert!(line.starts_with("second: "), "{line}");
    let second = json(&easel(folder.path()).args(["package", "show", "second", "--json"]).output().unwrap());
    let fields = ["name", "version", "license", "description"].map(|field| second["manifest"][field].clone());
    assert_eq!(fields, ["second", "0.2", "MIT", "Another one."]);
    let output = import().args(["--out", "third", "--name", "No name"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("name: expected 1 … 64 of a-z"), "{}", stderr(&output));

    let graph = folder.path().join("package").join(shown["manifest"]["decoder"]["graph"].as_str().unwrap());
    let mut bytes = fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&graph, bytes).unwrap();
    let output = easel(folder.path()).args(["package", "check", "package"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = stderr(&output);
    assert!(line.contains("expected sha256") && line.contains(graph.file_name().unwrap().to_str().unwrap()), "{line}");
}

#[test]
fn what_is_no_checkpoint_is_refused_with_the_file() {
    let folder = tempdir().unwrap();
    let import = |dir: &str| easel(folder.path()).args(["import", dir, "--out", "package"]).output().unwrap();
    let output = import("nowhere");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nowhere: "), "{}", stderr(&output));

    fs::create_dir(folder.path().join("strange")).unwrap();
    fs::write(folder.path().join("strange/config.json"), r#"{"family": "unheard-of"}"#).unwrap();
    let line = stderr(&import("strange"));
    assert!(line.contains("family") && line.contains("unheard-of"), "{line}");
    let line =
        stderr(&easel(folder.path()).args(["import", "strange", "--out", "p", "--family", "x"]).output().unwrap());
    assert!(line.contains("expected one of dalle, dalle-pytorch, janus") && line.contains("\"x\""), "{line}");
    fs::write(folder.path().join("strange.pt"), "no weights").unwrap();
    let line = stderr(&import("strange.pt"));
    assert!(line.contains("strange.pt: not a usable PyTorch file"), "{line}");
    assert!(!folder.path().join("package").exists());
}

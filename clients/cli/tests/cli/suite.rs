//! A package of random weights, a suite that serves it, and the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use easel_import::{ImportOptions, synthetic};
use easel_standalone::{Config, Suite};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct Shared {
    folder: TempDir,
    // Runs the suite for as long as the tests run.
    _runtime: Runtime,
    suite: Suite,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        synthetic::checkpoint(&checkpoint, &synthetic::Geometry::default(), 1).unwrap();
        let package = folder.path().join("package");
        easel_import::import(&checkpoint, &package, &ImportOptions::default(), &mut |_| {}).unwrap();
        let runtime = Runtime::new().unwrap();
        let config = Config { package: vec![package], listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
        let suite = runtime.block_on(Suite::start(config)).unwrap();
        Shared { folder, _runtime: runtime, suite }
    })
}

/// Folder of the checkpoint that the package was made of.
pub(crate) fn checkpoint() -> PathBuf {
    shared().folder.path().join("checkpoint")
}

/// Folder of the package.
pub(crate) fn package() -> PathBuf {
    shared().folder.path().join("package")
}

/// Address of the suite's gateway.
pub(crate) fn url() -> String {
    shared().suite.url()
}

/// Address of one of the suite's stages.
pub(crate) fn stage() -> String {
    shared().suite.addresses()[0].1.to_string()
}

/// The command, in `folder`, without what the environment may say.
pub(crate) fn easel(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_easel"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EASEL_"));
    ours.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.current_dir(folder);
    command
}

/// Runs the command with the suite as its gateway.
pub(crate) fn at_suite(folder: &Path, arguments: &[&str]) -> Output {
    easel(folder).args(arguments).env("EASEL_GATEWAY", url()).output().unwrap()
}

/// What went well wrote.
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What went well wrote, as JSON.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// What was told beside the result.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

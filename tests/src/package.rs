use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use easel_import::{ImportOptions, import, synthetic};

/// The embedded package: trained weights.
pub fn embedded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/scenes/package")
}

/// A small package with random weights, made once per process: every part real, nothing to look at.
pub fn tiny() -> &'static Path {
    static TINY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, package) = TINY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        let package = folder.path().join("tiny");
        synthetic::checkpoint(&checkpoint, &synthetic::Geometry::default(), 1).unwrap();
        import(&checkpoint, &package, &ImportOptions::default(), &mut |_| {}).unwrap();
        (folder, package)
    });
    package
}

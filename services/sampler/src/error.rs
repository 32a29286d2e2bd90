use std::path::PathBuf;

use crate::engine;

/// Why the sampler cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bad option, or a failure of what all services share.
    #[error(transparent)]
    Server(#[from] easel_server::Error),
    /// A package is damaged.
    #[error(transparent)]
    Package(#[from] easel_package::Error),
    /// A package's transformer cannot be loaded, or ONNX Runtime cannot.
    #[error(transparent)]
    Onnx(#[from] easel_onnx::Error),
    /// A package's engine cannot start.
    #[error("package {package}: {source}")]
    Start {
        /// Its name.
        package: String,
        /// The cause.
        source: engine::StartError,
    },
    /// Two packages have one name.
    #[error("{path}: a package {name:?} is loaded already", path = path.display())]
    Duplicate {
        /// The second one.
        path: PathBuf,
        /// Their name.
        name: String,
    },
    /// There are too few rows for one candidate.
    #[error("package {package}: a candidate needs {needed} slots, {reason} {found}")]
    Slots {
        /// Its name.
        package: String,
        /// Rows of one candidate.
        needed: usize,
        /// What leaves so few.
        reason: &'static str,
        /// Rows that there are.
        found: usize,
    },
    /// The system gives no thread to load the packages with.
    #[error("the packages could not be loaded: {0}")]
    Loading(#[from] std::io::Error),
}

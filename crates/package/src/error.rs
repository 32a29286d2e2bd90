use std::path::PathBuf;

/// Why a package, or a picture meant for its models, cannot be used. Every message names what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The manifest is not JSON of the expected form.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The manifest.
        path: PathBuf,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A field of the manifest has a value that makes no sense.
    #[error("{path}: {field}: expected {expected}, found {found}", path = path.display())]
    Field {
        /// The manifest.
        path: PathBuf,
        /// The field, dotted.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file is not what the manifest says, or the manifest does not list it.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A picture is not what its size says.
    #[error("picture: expected {expected}, found {found}")]
    Picture {
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

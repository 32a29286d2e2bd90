use std::path::PathBuf;

/// Why the service cannot start or go on, or a call cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to serve.
    #[error("--package: at least one is needed")]
    NoPackage,
    /// Two packages have one name.
    #[error("--package: {name} is given twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A package cannot be used.
    #[error(transparent)]
    Package(#[from] easel_package::Error),
    /// A vocabulary's file is not what the manifest says.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The list of words cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Words {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A prompt that the vocabulary cannot spell.
    #[error("prompt: {0}")]
    Prompt(String),
    /// An id that the vocabulary does not have.
    #[error("ids[{index}]: {id} is not in the vocabulary")]
    Id {
        /// Its place in the request.
        index: usize,
        /// The id.
        id: u32,
    },
    /// The tokenizer failed.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// The service failed.
    #[error(transparent)]
    Server(#[from] easel_server::Error),
    /// The system refused something that the service needs.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

use easel_server::batcher;

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
    /// A model cannot be loaded or run.
    #[error(transparent)]
    Onnx(#[from] easel_onnx::Error),
    /// A message is not what it should be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The part of the message.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The package lacks a part that a call needs.
    #[error("package {package} has no encoder: it takes no pictures")]
    NoEncoder {
        /// Its name.
        package: String,
    },
    /// The model is busy, has stopped or failed.
    #[error(transparent)]
    Batch(#[from] batcher::Error),
    /// The service failed.
    #[error(transparent)]
    Server(#[from] easel_server::Error),
    /// The system refused something that the service needs.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

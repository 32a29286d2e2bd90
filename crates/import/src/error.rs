use std::path::PathBuf;

use easel_package::Device;

use crate::Family;

/// Why a checkpoint cannot be imported. Every message names the file, what was expected and what was found.
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
    /// A file is not JSON of the expected form.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// A file is not safetensors.
    #[error("{path}: not a safetensors file: {source}", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: safetensors::SafeTensorError,
    },
    /// A file is not one of PyTorch's, or holds what cannot be read as data.
    #[error("{path}: not a usable PyTorch file: {reason}", path = path.display())]
    Torch {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A field of the configuration has a value that makes no sense.
    #[error("{path}: {field}: expected {expected}, found {found}", path = path.display())]
    Field {
        /// The configuration.
        path: PathBuf,
        /// The field, dotted.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor is missing, has another shape or type, or holds values that cannot be used.
    #[error("{path}: tensor {tensor}: expected {expected}, found {found}", path = path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's key.
        tensor: String,
        /// What the configuration asks for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file or folder is not what it should be.
    #[error("{path}: expected {expected}, found {found}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A weight does not fit the precision that was asked for.
    #[error("{tensor}: {value} does not fit 16-bit floats; import with --weights f32")]
    Precision {
        /// The tensor's key.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// The device that was asked for has no graph for this.
    #[error("device {device}: {what}: expected {expected}, found {found}; import with --device cpu")]
    Device {
        /// What was asked for.
        device: Device,
        /// Of the options or the model.
        what: &'static str,
        /// What would do.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The checkpoint is not of the family that was told, but looks like another.
    #[error("{reason} (told was the family {told}, the checkpoint looks like {known})")]
    Family {
        /// What is wrong with it.
        reason: Box<Self>,
        /// The family that was told.
        told: Family,
        /// What the checkpoint's configuration or keys are known of.
        known: Family,
    },
    /// The finished package does not hold together.
    #[error(transparent)]
    Package(#[from] easel_package::Error),
}

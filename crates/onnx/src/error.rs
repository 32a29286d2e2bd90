use std::path::PathBuf;

use crate::Device;

/// Why an engine cannot be made or cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No ONNX Runtime library was found.
    #[error(
        "onnx runtime: no library in .tools/onnxruntime near {searched}: type `make onnxruntime`, or set ORT_DYLIB_PATH to libonnxruntime"
    )]
    LibraryMissing {
        /// The folders from which it was searched upward.
        searched: String,
    },
    /// The ONNX Runtime library cannot be used.
    #[error("onnx runtime: {path}: {reason}; set ORT_DYLIB_PATH to libonnxruntime, or unset it and type `make onnxruntime`", path = path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The package's files are not what its manifest says.
    #[error(transparent)]
    Package(#[from] easel_package::Error),
    /// The package lacks a part that was asked for.
    #[error("package {package} has no {part}")]
    Absent {
        /// Its name.
        package: String,
        /// The part, as the manifest calls it.
        part: &'static str,
    },
    /// A graph is not what the manifest says.
    #[error("{file}: {item}: expected {expected}, found {found}")]
    Contract {
        /// The ONNX file.
        file: String,
        /// What of the graph.
        item: String,
        /// What the manifest or the contract says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// ONNX Runtime refused a graph, or failed to run it.
    #[error("{file}: {reason}")]
    Graph {
        /// The ONNX file.
        file: String,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// The device that was asked for cannot be had.
    #[error("device {device} cannot be used for {file}: {reason}")]
    Device {
        /// What was asked for.
        device: Device,
        /// The ONNX file.
        file: String,
        /// What is missing.
        reason: String,
    },
    /// The package's sampler is made for another device than the one that was asked for.
    #[error(
        "package {package}: its sampler is made for {made_for}, and {asked} is asked for: ask for {made_for}, or import the checkpoint with --device {asked}"
    )]
    MadeFor {
        /// The package's name.
        package: String,
        /// What it is made for.
        made_for: easel_package::Device,
        /// What was asked for.
        asked: Device,
    },
    /// The memory limit leaves too little room, or the machine has too little.
    #[error("memory: {what} need {needed_mib} MiB, the limit is {limit_mib} MiB")]
    Memory {
        /// What needs it.
        what: String,
        /// What it needs.
        needed_mib: u64,
        /// The limit.
        limit_mib: u64,
    },
    /// The machine would not give the memory of a sequence's keys and values.
    #[error("memory: {bytes} bytes for the keys and values of a sequence could not be had")]
    Exhausted {
        /// What was asked for.
        bytes: usize,
    },
    /// What the caller gave is wrong; nothing was computed or changed.
    #[error("{field}: expected {expected}, found {found}")]
    Input {
        /// Which argument or part of it.
        field: String,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl Error {
    pub(crate) fn input(field: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self::Input { field: field.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

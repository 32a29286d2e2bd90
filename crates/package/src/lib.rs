//! The model package: a folder with a `manifest.json`, the ONNX graphs of a text-to-image model and its tokenizers.
//!
//! The manifest says all that a service must know of a model: shapes, padding, guidance, defaults, licence, and the size and SHA-256 of every
//! file. Nothing here knows ONNX or a checkpoint family; what differs between models is in the manifest and in the graphs.
//!
//! ```no_run
//! let package = easel_package::Package::open("models/scenes")?;
//! let graph = package.file("sampler.onnx")?; // verified against its digest
//! println!("{} draws {} tokens", package.manifest().name, package.manifest().grid.cells());
//! # Ok::<(), easel_package::Error>(())
//! ```

mod digest;
mod error;
mod manifest;
mod package;
mod preprocess;
mod validate;

pub use digest::sha256_hex;
pub use error::Error;
pub use manifest::{
    AttentionGeometry, CUDA_CONTRACT, Decoder, Device, Encoder, FileEntry, Grid, Guidance, Manifest, Padding,
    Preprocess, Ranker, RankerText, Sampler, Sampling, ShiftGeometry, Size, Template, Text, TextEncoder, Ties,
};
pub use package::{MANIFEST_FILE, Package};
pub use validate::check_name;

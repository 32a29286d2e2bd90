//! ONNX Runtime for Easel: sessions, providers, the attention operator and its key/value pool.
//!
//! The only crate that knows `ort`. It gives four engines, one for each graph contract of a [model package](easel_package): [`Transformer`],
//! [`ImageDecoder`], [`ImageEncoder`] and [`Clip`]. An engine is made from a package by `load`, which holds the graph against the manifest and runs
//! it once, so that what is loaded works. Each belongs to one thread at a time (`&mut self`) and blocks it while it computes.
//!
//! ```no_run
//! use easel_onnx::{Options, Row, Runtime, Transformer};
//!
//! let runtime = Runtime::load()?;
//! let package = easel_package::Package::open("models/scenes/package")?;
//! let mut transformer = Transformer::load(&runtime, &package, &Options::default(), 16)?;
//! transformer.begin(0, None)?;
//! let logits = transformer.step(&[Row { slot: 0, token: 7, position: 0, logits: true }])?;
//! println!("{} logits of the next token", logits.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attend;
mod clip;
mod contract;
mod device;
mod engine;
mod error;
mod graph;
mod image;
mod linear;
mod mask;
mod operator;
mod options;
mod pool;
mod runtime;
mod store;
#[cfg(test)]
mod test;
mod text_encoder;
mod transformer;
mod vector;

pub use clip::Clip;
pub use engine::Transformer;
pub use error::Error;
pub use image::{ImageDecoder, ImageEncoder};
pub use options::{Device, Options, Precision};
pub use runtime::Runtime;
pub use transformer::{Prefix, Row};

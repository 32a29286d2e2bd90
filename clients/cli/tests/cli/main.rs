//! The `easel` command against a real suite on a tiny package of random weights.
#![allow(clippy::unwrap_used)]

mod classify;
mod errors;
mod generate;
mod import;
mod lifecycle;
mod measure;
mod running;
mod suite;

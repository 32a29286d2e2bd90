//! The picture's side of the open models: grids of tokens to pixels (contract `easel.decoder/1`) and back (`easel.encoder/1`).
//!
//! Each layout reads its keys one layer at a time from the checkpoint and refuses what does not fit, with key, expected and found shape.

mod codes;
mod discrete;
mod emu3;
mod layers;
mod net;
mod openai;
mod palette;
mod pixels;
mod vq;

pub(crate) use discrete::Discrete;
pub(crate) use emu3::Emu3;
pub(crate) use openai::OpenAi;
pub(crate) use palette::Palette;
pub(crate) use pixels::{Range, Rounding};
pub(crate) use vq::Vq;

use crate::graph::Graph;

/// A finished graph and the shapes that the manifest tells of it.
pub(crate) struct Picture {
    pub(crate) graph: Graph,
    /// Height and width in pixels.
    pub(crate) size: [usize; 2],
}

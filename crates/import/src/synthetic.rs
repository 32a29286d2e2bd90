//! Random-weights checkpoints of the `dalle` layout, of any geometry, for tests and measurements: they draw noise, but the same noise everywhere.
//!
//! Norms and biases are random too and the logits are far apart, so that a mistake anywhere shows in the tokens. Of a large model's
//! transformer one tensor is in memory at a time.

pub(crate) mod random;
mod tokenizers;
mod weights;

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{Error, Mask};

/// Sizes of a synthetic checkpoint; the rest follows from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// The package's name.
    pub name: String,
    /// Text positions.
    pub text_length: u32,
    /// Rows and columns of the grid.
    pub grid: u32,
    /// FSQ levels of each channel; the codebook is their product.
    pub levels: Vec<u32>,
    /// Pixels of a cell's side, an even number; a picture has `grid · patch`.
    pub patch: u32,
    /// The encoder sees each cell's own pixels alone (kernels of 1, a norm for each position); else also the pixels around.
    pub local_encoder: bool,
    /// Width of the transformer.
    pub width: u32,
    /// Its attention heads.
    pub heads: u32,
    /// Its layers, one for each mask.
    pub masks: Vec<Mask>,
    /// Side of the square that [`Mask::Conv`] sees; odd.
    pub conv_kernel: u32,
    /// Width and blocks of the decoder's stages; the second has twice the rows and columns.
    pub decoder_stages: [(usize, usize); 2],
    /// Pixels of the side of CLIP's picture, a multiple of 8.
    pub clip_image_size: u32,
    /// Width and layers of CLIP's towers.
    pub clip_tower: (usize, usize),
    /// Heads of a layer of CLIP.
    pub clip_heads: usize,
}

impl Geometry {
    /// A transformer of DALL·E's kind (Ramesh et al. 2021, appendix B.1): 256 text tokens, 8192 codes, heads 64 wide; columns in every fourth layer from the
    /// second on, in the last a convolution's window, rows in all others. DALL·E's own grid is 32.
    pub fn dalle(width: u32, layers: usize, grid: u32) -> Self {
        let mask = |layer: usize| match layer {
            _ if layer == layers => Mask::Conv,
            _ if layer % 4 == 2 => Mask::Column,
            _ => Mask::Row,
        };
        Self {
            text_length: 256,
            grid,
            levels: vec![8, 8, 8, 16],
            width,
            heads: width / 64,
            masks: (1..=layers).map(mask).collect(),
            conv_kernel: 11,
            ..Self::default()
        }
    }
}

impl Default for Geometry {
    /// 16 text tokens, a 6×6 grid of 200 codes, one layer of each mask, pictures of 48×48.
    fn default() -> Self {
        Self {
            name: "synthetic".into(),
            text_length: 16,
            grid: 6,
            levels: vec![8, 5, 5],
            patch: 8,
            local_encoder: false,
            width: 32,
            heads: 2,
            masks: vec![Mask::Row, Mask::Column, Mask::Conv, Mask::Full],
            conv_kernel: 3,
            decoder_stages: [(24, 2), (16, 1)],
            clip_image_size: 32,
            clip_tower: (32, 2),
            clip_heads: 2,
        }
    }
}

/// Writes a checkpoint of this geometry into the folder `dir`, which is made if need be. The same geometry and seed give the same bytes.
///
/// # Errors
/// A file cannot be written. A geometry that makes no sense is refused by the import.
pub fn checkpoint(dir: &Path, geometry: &Geometry, seed: u64) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.into(), source })?;
    let vocabulary = tokenizers::size();
    write_json(&dir.join("config.json"), &config(geometry, vocabulary))?;
    write_json(&dir.join("tokenizer.json"), &tokenizers::sampler())?;
    write_json(&dir.join("ranker_tokenizer.json"), &tokenizers::ranker())?;
    write(&dir.join("words.txt"), &tokenizers::words())?;
    write(&dir.join("LICENSE"), "Random weights: no rights reserved.\n")?;
    let mut weights = weights::Weights::new(geometry, vocabulary, seed);
    write_tensors(&dir.join("transformer.safetensors"), weights.transformer())?;
    write_tensors(&dir.join("dvae.safetensors"), weights.dvae())?;
    write_tensors(&dir.join("clip.safetensors"), weights.clip())
}

/// `config.json`.
fn config(g: &Geometry, vocabulary: u32) -> Value {
    let kernel = weights::encoder_kernel(g);
    let norm = if g.local_encoder { "position" } else { "picture" };
    let stages = g.decoder_stages.map(|(width, blocks)| json!({"width": width, "blocks": blocks}));
    json!({
        "family": "dalle",
        "name": g.name,
        "version": "0",
        "license": "Apache-2.0",
        "description": "Random weights, for tests.",
        "examples": ["a red car on the beach"],
        "transformer": {
            "width": g.width, "layers": g.masks.len(), "heads": g.heads, "text_length": g.text_length, "text_vocab": vocabulary,
            "grid": [g.grid, g.grid], "codebook": g.levels.iter().product::<u32>(), "masks": g.masks, "conv_kernel": g.conv_kernel,
            "mlp_width": 4 * g.width, "activation": "gelu_tanh", "norm_epsilon": 1e-5, "qk_norm": true, "qk_scale": 1.5,
        },
        "dvae": {
            "image_size": g.grid * g.patch,
            "quantizer": {"kind": "fsq", "levels": g.levels},
            "encoder": {
                "patch": g.patch, "width": weights::ENCODER_WIDTH, "blocks": weights::ENCODER_BLOCKS,
                "kernel": kernel, "input_kernel": kernel, "norm": norm,
            },
            "decoder": {"stages": stages, "kernel": weights::KERNEL, "output_shuffle": g.patch / 2},
        },
        "clip": {
            "image_size": g.clip_image_size, "mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "context_length": weights::CONTEXT,
            "vision_heads": g.clip_heads, "text_heads": g.clip_heads, "activation": "quick_gelu", "norm_epsilon": 1e-5, "pad": 0,
        },
        "sampling": {"temperature": 1.0, "top_k": 64, "top_p": 1.0, "guidance_scale": 2.0},
    })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Io { path: path.into(), source })
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    write(path, &format!("{value:#}\n"))
}

fn write_tensors(path: &Path, tensors: Vec<weights::Made>) -> Result<(), Error> {
    let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor));
    safetensors::serialize_to_file(tensors, None, path)
        .map_err(|source| Error::Safetensors { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_are_dalles() {
        let masks = Geometry::dalle(128, 64, 32).masks;
        let count = |mask| masks.iter().filter(|m| **m == mask).count();
        assert_eq!((count(Mask::Row), count(Mask::Column), count(Mask::Conv)), (47, 16, 1));
        assert_eq!((masks[1], masks[63]), (Mask::Column, Mask::Conv));
    }
}

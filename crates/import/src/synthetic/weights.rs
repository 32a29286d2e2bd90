//! The tensors of a synthetic checkpoint, under the layout's names.

use std::borrow::Cow;

use safetensors::{Dtype, View};

use crate::synthetic::{Geometry, random::Random};

pub(super) const ENCODER_WIDTH: usize = 16;
pub(super) const ENCODER_BLOCKS: usize = 2;
pub(super) const KERNEL: usize = 3;
pub(super) const CONTEXT: usize = 20;

const CLIP_PATCH: usize = 8;
const EMBEDDING_WIDTH: usize = 24;
/// Start and end of a caption.
const SPECIAL_TOKENS: usize = 2;
/// Spread of the logits.
const LOGITS: f32 = 4.0;

/// Side of the encoder's kernels.
pub(super) fn encoder_kernel(geometry: &Geometry) -> usize {
    if geometry.local_encoder { 1 } else { KERNEL }
}

/// A tensor whose numbers are made when they are written: of a large model, only one is in memory at a time.
pub(super) struct Made {
    pub(super) name: String,
    shape: Vec<usize>,
    numbers: Numbers,
}

enum Numbers {
    Given(Vec<f32>),
    Normal { random: Random, mean: f32, spread: f32 },
}

impl View for Made {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.numbers {
            Numbers::Given(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Numbers::Normal { random, mean, spread } => {
                let mut random = random.clone();
                let count: usize = self.shape.iter().product();
                (0..count).flat_map(|_| (mean + spread * random.normal()).to_le_bytes()).collect()
            }
        }
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

pub(super) struct Weights<'a> {
    geometry: &'a Geometry,
    vocabulary: usize,
    random: Random,
    tensors: Vec<Made>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(geometry: &'a Geometry, vocabulary: u32, seed: u64) -> Self {
        Self { geometry, vocabulary: vocabulary as usize, random: Random::new(seed), tensors: vec![] }
    }

    /// Normal numbers around `mean`.
    fn push(&mut self, name: impl Into<String>, shape: &[usize], mean: f32, spread: f32) {
        let numbers = Numbers::Normal { random: self.random.clone(), mean, spread };
        self.random.skip(shape.iter().product());
        self.tensors.push(Made { name: name.into(), shape: shape.into(), numbers });
    }

    /// A weight that keeps the variance of its input times `gain`², and a bias.
    fn layer(&mut self, key: &str, shape: &[usize], gain: f32) {
        let inputs: usize = shape[1..].iter().product();
        self.push(format!("{key}.weight"), shape, 0.0, gain / (inputs as f32).sqrt());
        self.push(format!("{key}.bias"), &shape[..1], 0.0, 0.1);
    }

    fn norm(&mut self, key: &str, width: usize) {
        self.push(format!("{key}.weight"), &[width], 1.0, 0.1);
        self.push(format!("{key}.bias"), &[width], 0.0, 0.1);
    }

    fn codebook(&self) -> usize {
        self.geometry.levels.iter().product::<u32>() as usize
    }

    pub(super) fn transformer(&mut self) -> Vec<Made> {
        let (width, text) = (self.geometry.width as usize, self.geometry.text_length as usize);
        let (grid, codebook) = (self.geometry.grid as usize, self.codebook());
        self.push("text_embedding.weight", &[self.vocabulary + text, width], 0.0, 1.0);
        self.push("text_position.weight", &[text, width], 0.0, 0.5);
        self.push("image_embedding.weight", &[codebook, width], 0.0, 1.0);
        self.push("row_position.weight", &[grid, width], 0.0, 0.5);
        self.push("column_position.weight", &[grid, width], 0.0, 0.5);
        for i in 0..self.geometry.masks.len() {
            let key = |name: &str| format!("layers.{i}.{name}");
            self.norm(&key("attention_norm"), width);
            self.layer(&key("attention.qkv"), &[3 * width, width], 1.0);
            self.layer(&key("attention.out"), &[width, width], 1.0);
            self.norm(&key("mlp_norm"), width);
            self.layer(&key("mlp.up"), &[4 * width, width], 1.0);
            self.layer(&key("mlp.down"), &[width, 4 * width], 1.0);
        }
        self.norm("norm", width);
        self.layer("image_head", &[codebook, width], LOGITS);
        std::mem::take(&mut self.tensors)
    }

    fn block(&mut self, key: &str, width: usize, kernel: usize) {
        self.layer(&format!("{key}.depthwise"), &[width, 1, kernel, kernel], 1.0);
        self.norm(&format!("{key}.norm"), width);
        self.layer(&format!("{key}.up"), &[3 * width, width, 1, 1], 1.0);
        self.layer(&format!("{key}.down"), &[width, 3 * width, 1, 1], 1.0);
        self.push(format!("{key}.scale"), &[1, width, 1, 1], 0.5, 0.1);
    }

    pub(super) fn dvae(&mut self) -> Vec<Made> {
        let (patch, channels) = (self.geometry.patch as usize, self.geometry.levels.len());
        self.layer("encoder.stem", &[ENCODER_WIDTH, 3, patch, patch], 4.0);
        let kernel = encoder_kernel(self.geometry);
        self.layer("encoder.input", &[ENCODER_WIDTH, ENCODER_WIDTH, kernel, kernel], 1.0);
        for i in 0..ENCODER_BLOCKS {
            self.block(&format!("encoder.blocks.{i}"), ENCODER_WIDTH, kernel);
        }
        self.layer("encoder.output", &[channels, ENCODER_WIDTH, 1, 1], 1.0);
        self.codes();
        let stages = self.geometry.decoder_stages;
        let [(first, _), (last, _)] = stages;
        self.layer("decoder.input", &[first, channels, 3, 3], 2.0);
        for (j, (width, blocks)) in stages.into_iter().enumerate() {
            for i in 0..blocks {
                self.block(&format!("decoder.stages.{j}.blocks.{i}"), width, KERNEL);
            }
        }
        self.layer("decoder.stages.0.upsample", &[4 * last, first, 1, 1], 1.0);
        let shuffle = patch / 2;
        self.layer("decoder.output", &[3 * shuffle * shuffle, last, 3, 3], 0.3);
        std::mem::take(&mut self.tensors)
    }

    /// Every code's quantised values, −1 … 1.
    fn codes(&mut self) {
        let levels = &self.geometry.levels;
        let value = |code: usize, i: usize| {
            let place: u32 = levels[..i].iter().product();
            let (digit, middle) = (code as u32 / place % levels[i], levels[i] / 2);
            (digit as f32 - middle as f32) / middle as f32
        };
        let values = (0..self.codebook()).flat_map(|code| (0..levels.len()).map(move |i| (code, i)));
        let values = values.map(|(code, i)| value(code, i)).collect();
        let shape = vec![self.codebook(), levels.len()];
        self.tensors.push(Made { name: "decoder.codebook".into(), shape, numbers: Numbers::Given(values) });
    }

    pub(super) fn clip(&mut self) -> Vec<Made> {
        let cells = (self.geometry.clip_image_size as usize / CLIP_PATCH).pow(2);
        let ((width, _), small) = (self.geometry.clip_tower, 0.3);
        self.push("visual.conv1.weight", &[width, 3, CLIP_PATCH, CLIP_PATCH], 0.0, 0.1);
        self.push("visual.class_embedding", &[width], 0.0, small);
        self.push("visual.positional_embedding", &[cells + 1, width], 0.0, small);
        self.norm("visual.ln_pre", width);
        self.blocks("visual.transformer.resblocks");
        self.norm("visual.ln_post", width);
        self.push("visual.proj", &[width, EMBEDDING_WIDTH], 0.0, small);
        self.push("token_embedding.weight", &[self.vocabulary + SPECIAL_TOKENS, width], 0.0, 1.0);
        self.push("positional_embedding", &[CONTEXT, width], 0.0, small);
        self.blocks("transformer.resblocks");
        self.norm("ln_final", width);
        self.push("text_projection", &[width, EMBEDDING_WIDTH], 0.0, small);
        self.push("logit_scale", &[], 3.0, 0.0);
        std::mem::take(&mut self.tensors)
    }

    fn blocks(&mut self, key: &str) {
        let (width, layers) = self.geometry.clip_tower;
        for i in 0..layers {
            let key = |name: &str| format!("{key}.{i}.{name}");
            self.norm(&key("ln_1"), width);
            self.push(key("attn.in_proj_weight"), &[3 * width, width], 0.0, 1.0 / (width as f32).sqrt());
            self.push(key("attn.in_proj_bias"), &[3 * width], 0.0, 0.1);
            self.layer(&key("attn.out_proj"), &[width, width], 1.0);
            self.norm(&key("ln_2"), width);
            self.layer(&key("mlp.c_fc"), &[4 * width, width], 1.0);
            self.layer(&key("mlp.c_proj"), &[width, 4 * width], 1.0);
        }
    }
}

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `manifest.json` says. All sizes are counts of tokens, pixels or numbers as each field tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// The package's name: lower-case letters, digits, `.`, `_`, `-`; at most 64.
    pub name: String,
    /// The model's own version.
    pub version: String,
    /// An SPDX expression.
    pub license: String,
    /// One paragraph for people.
    pub description: String,
    /// The checkpoint family it was imported from, for example `dalle`.
    pub family: String,
    /// Captions that the model draws well.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Where the weights came from: free keys, for people.
    #[serde(default)]
    pub provenance: BTreeMap<String, String>,
    /// Size of a finished picture.
    pub image: Size,
    /// Shape of the image-token grid.
    pub grid: Grid,
    /// Number of image tokens: ids 0 … codebook − 1.
    pub codebook: u32,
    /// The caption, as the sampler reads it.
    pub text: Text,
    /// The transformer.
    pub sampler: Sampler,
    /// How the unconditional row of classifier-free guidance is made; none: the model has no guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
    /// Defaults of the sampling parameters.
    pub sampling: Sampling,
    /// Image tokens to pixels.
    pub decoder: Decoder,
    /// Pixels to image tokens; none: pictures cannot be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Encoder>,
    /// CLIP; none: candidates are not ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranker: Option<Ranker>,
    /// Every file of the package but the manifest, by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// The image-token grid, in raster order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Rows, from the top.
    pub rows: u32,
    /// Columns, from the left.
    pub columns: u32,
}

impl Grid {
    /// Tokens of a picture.
    pub fn cells(self) -> usize {
        self.rows as usize * self.columns as usize
    }
}

/// How a caption is made into the sampler's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// File with the vocabulary (Hugging Face `tokenizer.json`); it adds the special tokens that the model wants.
    pub tokenizer: String,
    /// Text positions; longer captions are truncated.
    pub length: u32,
    /// Ids that the sampler's graph embeds: 0 … vocabulary − 1, pads included.
    pub vocabulary: u32,
    /// What fills the positions behind the caption.
    pub padding: Padding,
    /// File with the words that the model was taught, one a line in lower case; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// What fills the text positions behind the caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Padding {
    /// Position p is filled with id `first_id + p` (DALL·E: every text position has its own learned pad).
    PerPosition {
        /// The pad of position 0.
        first_id: u32,
    },
    /// Every position is filled with one id.
    Token {
        /// That id.
        id: u32,
    },
}

impl Text {
    /// The caption padded to `length`.
    ///
    /// `tokens` may have at most `length` ids; more are cut.
    pub fn pad(&self, tokens: &[u32]) -> Vec<u32> {
        let pad = |p: u32| match self.padding {
            Padding::PerPosition { first_id } => first_id + p,
            Padding::Token { id } => id,
        };
        (0..self.length).map(|p| tokens.get(p as usize).copied().unwrap_or_else(|| pad(p))).collect()
    }
}

/// The transformer's graph and the state it keeps.
///
/// Contract `easel.sampler/1`. Inputs, for n tokens of any sequences in any order (a sequence's own tokens by rising position): `token_ids` i64 \[n\] (text ids below
/// the text length, image ids from there on), `positions` i64 \[n\] (0 … text length + cells − 1), `slots` i64 \[n\] (the sequence's place in the key/value pool), `logit_rows` i64
/// \[m\] (which of the n tokens are asked for logits). Output: `logits` f32 \[m, codebook\], of the token that follows. Keys and values live outside of the graph,
/// in the pool behind the attention operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// The ONNX file.
    pub graph: String,
    /// The contract between graph and engine: `easel.sampler/1`.
    pub contract: String,
    /// Shape of the keys and values.
    pub attention: AttentionGeometry,
}

/// Shape of one sequence's keys and values: layers × 2 × positions × heads × head_width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionGeometry {
    /// Attention layers.
    pub layers: u32,
    /// Key/value heads.
    pub heads: u32,
    /// Numbers in a head.
    pub head_width: u32,
}

/// Classifier-free guidance: u + s·(c − u), with u the logits of the unconditional row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "unconditional", rename_all = "snake_case", deny_unknown_fields)]
pub enum Guidance {
    /// The unconditional row is this caption, padded as any other (DALL·E-style models: the empty one).
    Tokens {
        /// Text ids, without pads.
        ids: Vec<u32>,
    },
}

/// Defaults of the sampling parameters; their meaning and bounds are those of `easel.v1.SamplingParameters`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: u32,
    /// 1 keeps all.
    pub top_p: f32,
    /// 1 is none.
    pub guidance_scale: f32,
}

/// Contract `easel.decoder/1`: `tokens` i64 \[b, cells\] → `pixels` u8 \[b, height, width, 3\].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// The ONNX file.
    pub graph: String,
}

/// Contract `easel.encoder/1`: `pixels` u8 \[b, height, width, 3\] → `tokens` i64 \[b, cells\].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// The ONNX file.
    pub graph: String,
    /// How a picture of any size becomes the graph's input.
    pub preprocess: Preprocess,
}

/// Resize the short side with Pillow's bicubic filter, then crop the centre; what follows (scaling, normalisation) is in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// The result, pixels.
    pub size: Size,
}

/// CLIP. Contract `easel.ranker/1`: image graph `pixels` u8 \[b, height, width, 3\] → `embeddings` f32 \[b, embedding_width\]; text graph `token_ids` i64
/// \[b, context_length\] → `embeddings` f32 \[b, embedding_width\]; both of length 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranker {
    /// The ONNX file of the image tower.
    pub image_graph: String,
    /// The ONNX file of the text tower.
    pub text_graph: String,
    /// How a picture of any size becomes the image graph's input.
    pub preprocess: Preprocess,
    /// The caption, as the text tower reads it.
    pub text: RankerText,
    /// Width of the joint space.
    pub embedding_width: u32,
    /// Factor on cosines before a softmax over labels (CLIP's exp(logit_scale)).
    pub logit_scale: f32,
}

/// How a caption is made into the text tower's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankerText {
    /// File with the vocabulary; it adds the start and end tokens.
    pub tokenizer: String,
    /// Text positions, start and end tokens included.
    pub context_length: u32,
    /// Number of ids.
    pub vocabulary: u32,
    /// What fills the positions behind the caption.
    pub pad: u32,
}

/// A file as it was when the package was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

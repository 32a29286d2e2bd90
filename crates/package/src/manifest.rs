use std::{collections::BTreeMap, fmt};

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
    /// File with the vocabulary (Hugging Face `tokenizer.json`); it adds the special tokens that the model wants. None: the model reads no captions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Text positions, those of `prefix` and `suffix` included; longer captions are truncated.
    pub length: u32,
    /// Ids that the sampler's graph embeds: 0 … vocabulary − 1, pads included.
    pub vocabulary: u32,
    /// What fills the positions behind the caption.
    pub padding: Padding,
    /// Ids before the caption, such as a start token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<u32>,
    /// Ids behind the caption and its pads, such as the token that begins an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffix: Vec<u32>,
    /// Text that is put around the caption before it becomes tokens; none: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// File with the words that the model was taught, one a line in lower case; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// Text around a caption: part of a chat template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Text before the caption.
    pub before: String,
    /// Text behind it.
    pub after: String,
}

/// What fills the text positions behind the caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Padding {
    /// The caption's position p, counted behind the prefix, is filled with id `first_id + p` (DALL·E: every text position has its own learned pad).
    PerPosition {
        /// The pad of position 0.
        first_id: u32,
    },
    /// Every position is filled with one id.
    Token {
        /// That id.
        id: u32,
    },
    /// None: the text is as long as the caption makes it, and takes the last of the text positions; the others are not there.
    None,
}

impl Text {
    /// How many ids a caption may have; 0: the model reads no captions.
    pub fn room(&self) -> u32 {
        self.length - (self.prefix.len() + self.suffix.len()) as u32
    }

    /// The text that the sampler reads: prefix, caption, pads, suffix; `length` ids, or fewer without padding.
    ///
    /// The caption may have at most [`Text::room`] ids; more are cut.
    pub fn pad(&self, caption: &[u32]) -> Vec<u32> {
        let room = self.room();
        let caption = &caption[..caption.len().min(room as usize)];
        let pad = |p: u32| match self.padding {
            Padding::PerPosition { first_id } => Some(first_id + p),
            Padding::Token { id } => Some(id),
            Padding::None => None,
        };
        let pads = (caption.len() as u32..room).filter_map(pad);
        let parts = self.prefix.iter().chain(caption).copied().chain(pads);
        parts.chain(self.suffix.iter().copied()).collect()
    }
}

/// The transformer's graph and the state it keeps.
///
/// Contract `easel.sampler/1`. Inputs, for n tokens of any sequences in any order (a sequence's own tokens by rising position): `token_ids` i64 \[n\] (text ids below
/// the text length, image ids from there on), `positions` i64 \[n\] (0 … text length + cells − 1), `slots` i64 \[n\] (the sequence's place in the key/value pool), `logit_rows` i64
/// \[m\] (which of the n tokens are asked for logits). Output: `logits` f32 \[m, codebook\], of the token that follows. Keys and values live outside of the graph,
/// in the pool behind the attention operator.
///
/// Contract `easel.sampler/2` adds what other families need: a text without padding ends at the last text position, so that image tokens have the same
/// positions in every sequence; the input `ordinals` i64 \[n\], if the graph has it, counts the tokens before each in its own sequence; queries may have more
/// heads than keys and values; image rows may end in tokens that are not drawn; and there may be token shifts and a text encoder. Where that gives embeddings,
/// the graph has the input `embeddings` f32 \[n, embedding width\], which takes the place of the ids of text tokens; for image tokens it is 0.
///
/// Contract `easel.sampler.cuda/1` is for CUDA: attention is of stock operators, keys and values are tensors that the graph is given and changes in place. It
/// has neither text encoder nor token shifts, and all else of `/2`. i64 inputs, for n tokens: `token_ids`, `positions`, `ordinals` (if the graph has it) and
/// `logit_rows` \[m\] as above; `texts` \[n\], the place of the token's text; `firsts` \[n\], the position at which that text begins. A text is read once for
/// a tile of r tokens: `tile_texts` \[g\], the text of each tile; `tile_rows` \[g, r\], its tokens; `row_cells` \[n\], where in `tile_rows` each token is.
/// Image positions are read from p places, each by at most one token: `place_rows` \[p\], that token; `row_places` \[n\], each token's place. Of every layer l,
/// f16 or f32: `text_keys.l`, `text_values.l` \[t, heads, entries, head_width\], and `image_keys.l`, `image_values.l` \[p, heads, entries, head_width\], or,
/// where a token sees its column alone, `column_keys.l`, `column_values.l` \[p · columns, heads, entries, head_width\]; each comes back, at the same address, as
/// the output of that name with `.next`. How many entries, and which of them a token writes and reads, is the graph's own affair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// The ONNX file.
    pub graph: String,
    /// The contract between graph and engine: `easel.sampler/1`, `easel.sampler/2` or [`CUDA_CONTRACT`].
    pub contract: String,
    /// Shape of the keys and values.
    pub attention: AttentionGeometry,
    /// Tokens behind each row of the grid that are not drawn (Emu3's end of line): ids from `codebook` on, at positions of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_end: Vec<u32>,
    /// Shape of what token shifts keep; none: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<ShiftGeometry>,
    /// Reads the text first; none: the sampler's graph reads it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<TextEncoder>,
}

/// The contract of samplers' graphs for CUDA.
pub const CUDA_CONTRACT: &str = "easel.sampler.cuda/1";

/// What a sampler's graph is made for. Pictures' and rankers' graphs run on both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, with Easel's own attention.
    #[default]
    Cpu,
    /// NVIDIA's GPUs.
    Cuda,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl Manifest {
    /// What the sampler's graph is made for, as its contract says.
    pub fn device(&self) -> Device {
        if self.sampler.contract == CUDA_CONTRACT { Device::Cuda } else { Device::Cpu }
    }

    /// Image tokens of a row of the grid, those that are not drawn included.
    pub fn row_tokens(&self) -> usize {
        self.grid.columns as usize + self.sampler.row_end.len()
    }

    /// Positions of a sequence: text, then image tokens, those that are not drawn included.
    pub fn positions(&self) -> usize {
        self.text.length as usize + self.grid.rows as usize * self.row_tokens()
    }
}

/// Shape of what the operator `easel.Shift` keeps of one sequence: count × positions × width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShiftGeometry {
    /// Shifts in the graph.
    pub count: u32,
    /// Numbers of a token that are shifted: half come from the row above, half from the token before.
    pub width: u32,
}

/// A graph that reads a text as a whole.
///
/// Contract `easel.text_encoder/1`, of encoder–decoder models: `token_ids` i64 \[s\], a text's first tokens → `keys_values` f32
/// \[layers, 2, s, heads · head_width\], which the decoder's layers attend to across. The rest of the text is the decoder's own: the token that it starts with.
///
/// Contract `easel.text_encoder/2`: `token_ids` i64 \[s\], a text's tokens, of which the last is at the last text position → `embeddings` f32
/// \[s, embedding_width\], which the sampler's graph reads in their place, and attends to as to any text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEncoder {
    /// The ONNX file.
    pub graph: String,
    /// Text positions 0 … length − 1 are the encoder's; of one that gives embeddings, all.
    pub length: u32,
    /// Numbers of a token's embedding (contract `easel.text_encoder/2`); none: it gives keys and values (`easel.text_encoder/1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_width: Option<u32>,
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
    /// The unconditional row is this caption, padded as any other (DALL·E-style models: the empty one; Emu3: a negative prompt).
    Tokens {
        /// Text ids, without pads, prefix and suffix.
        ids: Vec<u32>,
    },
    /// The unconditional row is the caption's own with one id in the place of all but the first and last few (Janus).
    Blank {
        /// That id.
        id: u32,
        /// Ids that stay at the start.
        first: u32,
        /// Ids that stay at the end.
        last: u32,
    },
}

impl Guidance {
    /// The unconditional row for a padded text.
    pub fn unconditional(&self, text: &Text, padded: &[u32]) -> Vec<u32> {
        match self {
            Self::Tokens { ids } => text.pad(ids),
            Self::Blank { id, first, last } => {
                let end = padded.len().saturating_sub(*last as usize);
                let stays = |p: usize| p < *first as usize || p >= end;
                padded.iter().enumerate().map(|(p, token)| if stays(p) { *token } else { *id }).collect()
            }
        }
    }
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
    /// What top-k does with tokens as likely as the k-th.
    #[serde(default, skip_serializing_if = "Ties::is_cut")]
    pub top_k_ties: Ties,
    /// How many image tokens are guided, from the first on (LlamaGen's interval); none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guided_tokens: Option<u32>,
}

/// What top-k does with tokens as likely as the k-th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// Exactly k tokens are left; among equals the lower id counts as the more likely.
    #[default]
    Cut,
    /// All of them are left.
    Kept,
}

impl Ties {
    fn is_cut(&self) -> bool {
        *self == Self::Cut
    }
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
    /// So many numbers at the end of an embedding say what lies where in the picture, for choosing among pictures of one caption; those
    /// before them say what is in it, for choosing among labels of one picture. None: all say both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout_width: Option<u32>,
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

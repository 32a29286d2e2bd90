//! What families of transformers differ in.

use crate::{
    Mask,
    layers::{Activation, Linear, Norm, Normalization},
    tensor::Tensor,
};

/// Sizes of the whole network.
pub(crate) struct Geometry {
    pub(crate) width: usize,
    /// Of keys and values.
    pub(crate) heads: usize,
    /// Of queries: a multiple of `heads`.
    pub(crate) query_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) layers: usize,
    pub(crate) text_length: usize,
    /// Text positions as the masks count them; the others belong to the image for them.
    pub(crate) mask_text_length: usize,
    pub(crate) rows: usize,
    /// Image tokens of a row, those that are not drawn included.
    pub(crate) columns: usize,
    pub(crate) codebook: usize,
    /// Side of the square that [`Mask::Conv`], [`Mask::Corner`] and [`Mask::Torus`] see.
    pub(crate) kernel: usize,
    /// Applied to q · k.
    pub(crate) attention_scale: f32,
    pub(crate) streams: Streams,
    pub(crate) count: Count,
}

/// How the parts of layers are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Attention and MLP to one stream.
    One,
    /// Attention to one, MLP to another, each of what the other has; in the end the mean of both (Reformer, dalle-pytorch's `reversible`).
    Reversible,
}

/// What tables of positions are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// The contract's positions: an image token has the same one whatever the text.
    Positions,
    /// The number of tokens before it in its own sequence.
    Ordinals,
}

/// Token and position tables.
pub(crate) struct Embedding {
    /// \[text ids, width\]
    pub(crate) text: Tensor,
    pub(crate) image: ImageEmbedding,
    /// \[positions, width\], added.
    pub(crate) position: Option<Tensor>,
    pub(crate) norm: Option<Normalization>,
    pub(crate) rotary: Option<Rotary>,
}

/// How image tokens are embedded.
pub(crate) enum ImageEmbedding {
    /// \[codebook and ids that are not drawn, width\]
    Table(Tensor),
    /// As [`ImageEmbedding::Table`]; the text's are given to the graph, so that [`Embedding::text`] is not used (LlamaGen).
    Alone(Tensor),
    /// Codes \[codebook, code width\] through layers, with an activation between them (Janus).
    Codes { codes: Tensor, layers: Vec<Linear>, activation: Activation },
}

/// Rotary positions, which turn pairs of a head's first numbers.
pub(crate) struct Rotary {
    /// \[positions, numbers that are turned\]
    pub(crate) cosines: Tensor,
    /// As the cosines.
    pub(crate) sines: Tensor,
    pub(crate) pairs: Pairs,
    /// Whether values are turned as well as queries and keys (dalle-pytorch).
    pub(crate) values: bool,
}

/// Which numbers make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// One of the first half and one of the second (Llama).
    Halves,
    /// Neighbours (GPT-J, dalle-pytorch).
    Neighbours,
}

pub(crate) struct Layer {
    pub(crate) attention: Attention,
    /// Attention to what the text encoder gave; the layer's own attention then sees no text.
    pub(crate) cross: Option<CrossAttention>,
    pub(crate) mlp: Mlp,
}

pub(crate) struct Attention {
    pub(crate) norm: Option<Normalization>,
    /// Whether neighbours' numbers take the place of some (dalle-pytorch).
    pub(crate) shift: bool,
    /// Queries, then keys, then values.
    pub(crate) qkv: Linear,
    /// None: queries and keys stay as they are.
    pub(crate) head_norm: Option<HeadNorm>,
    pub(crate) mask: Mask,
    pub(crate) out: Linear,
    /// Of what is added to the stream (sandwich, NormFormer).
    pub(crate) post_norm: Option<Normalization>,
}

/// What queries and keys are scaled by, head by head.
pub(crate) enum HeadNorm {
    /// Their root mean square; its ε.
    RootMeanSquare(f32),
    /// Mean and variance (Chameleon); weight and bias are \[heads of queries, then of keys, head width\].
    Layer(Norm),
}

pub(crate) struct CrossAttention {
    pub(crate) norm: Option<Normalization>,
    pub(crate) query: Linear,
    pub(crate) out: Linear,
    pub(crate) post_norm: Option<Normalization>,
}

/// down(activation(up(x))), or with a gate down(activation(gate(x)) · up(x)).
pub(crate) struct Mlp {
    pub(crate) norm: Option<Normalization>,
    pub(crate) shift: bool,
    pub(crate) up: Linear,
    pub(crate) gate: Option<Linear>,
    pub(crate) activation: Activation,
    pub(crate) mid_norm: Option<Normalization>,
    pub(crate) down: Linear,
    pub(crate) post_norm: Option<Normalization>,
}

/// From the last layer to logits.
pub(crate) struct Head {
    pub(crate) norms: Vec<Normalization>,
    /// A layer before the last (Janus).
    pub(crate) inner: Option<(Linear, Activation)>,
    pub(crate) linear: Linear,
}

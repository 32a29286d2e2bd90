//! `DalleModel` → sampler.onnx (ruDALL-E 1.1.3, `rudalle/dalle/model.py` and `transformer.py`).

use super::{KERNEL, Sizes, Version};
use crate::{
    Error, Mask,
    checkpoint::Tensors,
    graph::Graph,
    layers::{Activation, Linear, Norm, Normalization},
    llama::linear,
    tensor::Tensor,
    transformer::{Attention, Count, Embedding, Geometry, Head, ImageEmbedding, Layer, Mlp, Streams, Transformer},
};

const NORM_EPSILON: f32 = 1e-5;

/// The key of a tensor of layer `i`.
pub(super) fn key(i: usize, name: &str) -> String {
    format!("transformer.layers.{i}.{name}")
}

pub(super) fn build(graph: Graph, tensors: &mut Tensors<'_>, s: &Sizes) -> Result<Graph, Error> {
    let head_width = s.width / s.heads;
    let geometry = Geometry {
        width: s.width,
        heads: s.heads,
        query_heads: s.heads,
        head_width,
        layers: s.layers,
        text_length: s.text_length,
        mask_text_length: s.pads,
        rows: s.side,
        columns: s.side,
        codebook: s.codebook,
        kernel: KERNEL,
        attention_scale: (head_width as f32).powf(-0.5),
        streams: Streams::One,
        count: Count::Positions,
    };
    let embedding = Embedding {
        text: tensors.take("text_embeddings.weight", &[s.text_ids, s.width])?,
        image: ImageEmbedding::Table(tensors.take("image_embeddings.weight", &[s.codebook, s.width])?),
        position: Some(positions(tensors, s)?),
        norm: None,
        rotary: None,
    };
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for i in 0..s.layers {
        transformer.layer(&layer(tensors, s, i)?)?;
    }
    let norms = vec![norm(tensors, "transformer.final_layernorm", s.width)?, norm(tensors, "to_logits.0", s.width)?];
    let all = s.text_ids + s.codebook;
    let both = linear(tensors, "to_logits.1", [all, s.width], true)?;
    // The text's part comes first, and is not drawn.
    let image = Linear {
        weight: both.weight.rows_of(s.text_ids..all),
        bias: both.bias.map(|bias| bias.rows_of(s.text_ids..all)),
    };
    transformer.finish(&Head { norms, inner: None, linear: image })
}

/// Those of the text, then of every cell the sum of its row's and its column's. The text's table has one more, for version 2.
fn positions(tensors: &mut Tensors<'_>, s: &Sizes) -> Result<Tensor, Error> {
    let table = tensors.take("text_pos_embeddings.weight", &[s.pads + 1, s.width])?;
    let mut position = table.rows_of(0..s.text_length).values;
    let rows = tensors.take("image_row_embeddings.weight", &[s.side, s.width])?.values;
    let columns = tensors.take("image_col_embeddings.weight", &[s.side, s.width])?.values;
    for row in rows.chunks_exact(s.width) {
        for column in columns.chunks_exact(s.width) {
            position.extend(row.iter().zip(column).map(|(r, c)| r + c));
        }
    }
    Ok(Tensor::new("position", &[s.text_length + s.side * s.side, s.width], position))
}

/// DALL·E's own: every fourth layer sees its column, the last a square, in version 2 across the edges, the others the row.
fn mask(s: &Sizes, i: usize) -> Mask {
    match i {
        _ if i % 4 == 1 => Mask::Column,
        _ if i + 1 == s.layers && s.version == Version::Two => Mask::Torus,
        _ if i + 1 == s.layers => Mask::Conv,
        _ => Mask::Row,
    }
}

fn layer(tensors: &mut Tensors<'_>, s: &Sizes, i: usize) -> Result<Layer, Error> {
    let mut linear = |name: &str, shape: [usize; 2]| linear(tensors, &key(i, name), shape, true);
    let qkv = linear("attention.query_key_value", [3 * s.width, s.width])?;
    let out = linear("attention.dense", [s.width; 2])?;
    let up = linear("mlp.dense_h_to_4h", [4 * s.width, s.width])?;
    let down = linear("mlp.dense_4h_to_h", [s.width, 4 * s.width])?;
    let mut norm = |name: &str| norm(tensors, &key(i, name), s.width);
    let (before_attention, before_mlp) = (norm("input_layernorm")?, norm("post_attention_layernorm")?);
    // CogView's sandwich.
    let mut behind = |name: &str| {
        let there = tensors.contains(&key(i, &format!("{name}.weight")));
        there.then(|| self::norm(tensors, &key(i, name), s.width)).transpose()
    };
    let attention = Attention {
        norm: Some(before_attention),
        shift: false,
        qkv,
        head_norm: None,
        mask: mask(s, i),
        out,
        post_norm: behind("before_first_addition_layernorm")?,
    };
    let mlp = Mlp {
        norm: Some(before_mlp),
        shift: false,
        up,
        gate: None,
        activation: Activation::GeluTanh,
        mid_norm: None,
        down,
        post_norm: behind("before_second_addition_layernorm")?,
    };
    Ok(Layer { attention, cross: None, mlp })
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize) -> Result<Normalization, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    let bias = tensors.take(&format!("{key}.bias"), &[width])?;
    Ok(Normalization::Layer(Norm { weight, bias, epsilon: NORM_EPSILON }))
}

//! transformer.safetensors → sampler.onnx

use crate::{
    Error,
    checkpoint::Tensors,
    dalle::config::Config,
    graph::Graph,
    layers::{Linear, Norm, Normalization},
    tensor::Tensor,
    transformer::{
        Attention, Count, Embedding, Geometry, Head, HeadNorm, ImageEmbedding, Layer, Mlp, Streams, Transformer,
    },
};

/// ε of PyTorch's `rms_norm` where none is given.
const QK_NORM_EPSILON: f32 = f32::EPSILON;

pub(super) fn build(graph: Graph, mut tensors: Tensors<'_>, config: &Config) -> Result<Graph, Error> {
    let t = &config.transformer;
    let scale = ((t.width / t.heads) as f32).powf(-0.5);
    let geometry = Geometry {
        width: t.width,
        heads: t.heads,
        query_heads: t.heads,
        head_width: t.width / t.heads,
        layers: t.layers,
        text_length: t.text_length,
        mask_text_length: t.text_length,
        rows: t.grid[0],
        columns: t.grid[1],
        codebook: t.codebook,
        kernel: t.conv_kernel,
        attention_scale: if t.qk_norm { t.qk_scale * scale } else { scale },
        streams: Streams::One,
        count: Count::Positions,
    };
    let embedding = embedding(&mut tensors, config)?;
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for (i, mask) in t.masks.iter().enumerate() {
        let key = |name: &str| format!("layers.{i}.{name}");
        let mut norm = |name: &str| self::norm(&mut tensors, &key(name), t.width, t.norm_epsilon);
        let (attention_norm, mlp_norm) = (norm("attention_norm")?, norm("mlp_norm")?);
        let mut linear = |name: &str, shape: [usize; 2]| self::linear(&mut tensors, &key(name), shape);
        let attention = Attention {
            norm: Some(attention_norm),
            shift: false,
            qkv: linear("attention.qkv", [3 * t.width, t.width])?,
            head_norm: t.qk_norm.then_some(HeadNorm::RootMeanSquare(QK_NORM_EPSILON)),
            mask: *mask,
            out: linear("attention.out", [t.width, t.width])?,
            post_norm: None,
        };
        let mlp = Mlp {
            norm: Some(mlp_norm),
            shift: false,
            up: linear("mlp.up", [t.mlp_width, t.width])?,
            gate: None,
            activation: t.activation,
            mid_norm: None,
            down: linear("mlp.down", [t.width, t.mlp_width])?,
            post_norm: None,
        };
        transformer.layer(&Layer { attention, cross: None, mlp })?;
    }
    let head = Head {
        norms: vec![norm(&mut tensors, "norm", t.width, t.norm_epsilon)?],
        inner: None,
        linear: linear(&mut tensors, "image_head", [t.codebook, t.width])?,
    };
    tensors.finish(Some("text_head."))?;
    transformer.finish(&head)
}

/// The tables; an image position's is the sum of its row's and its column's.
fn embedding(tensors: &mut Tensors<'_>, config: &Config) -> Result<Embedding, Error> {
    let t = &config.transformer;
    let [rows, columns] = t.grid;
    let text = tensors.take("text_embedding.weight", &[t.text_vocab + t.text_length, t.width])?;
    let image = tensors.take("image_embedding.weight", &[t.codebook, t.width])?;
    let mut position = tensors.take("text_position.weight", &[t.text_length, t.width])?.values;
    let row = tensors.take("row_position.weight", &[rows, t.width])?.values;
    let column = tensors.take("column_position.weight", &[columns, t.width])?.values;
    for row in row.chunks_exact(t.width) {
        for column in column.chunks_exact(t.width) {
            position.extend(row.iter().zip(column).map(|(r, c)| r + c));
        }
    }
    let position = Tensor::new("position", &[t.text_length + rows * columns, t.width], position);
    Ok(Embedding { text, image: ImageEmbedding::Table(image), position: Some(position), norm: None, rotary: None })
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize, epsilon: f32) -> Result<Normalization, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    let bias = tensors.take(&format!("{key}.bias"), &[width])?;
    Ok(Normalization::Layer(Norm { weight, bias, epsilon }))
}

fn linear(tensors: &mut Tensors<'_>, key: &str, [outputs, inputs]: [usize; 2]) -> Result<Linear, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[outputs, inputs])?;
    let bias = tensors.take_optional(&format!("{key}.bias"), &[outputs])?;
    Ok(Linear { weight, bias })
}

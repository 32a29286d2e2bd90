//! `DALLE` → sampler.onnx (dalle-pytorch 1.6.6, dalle_pytorch.py and transformer.py).

use super::config::{Config, table};
use crate::{
    Error,
    checkpoint::Tensors,
    graph::Graph,
    layers::{Activation, Linear, Norm, Normalization},
    tensor::Tensor,
    transformer::{
        Attention, Count, Embedding, Geometry, Head, ImageEmbedding, Layer, Mlp, Pairs, Rotary, Streams, Transformer,
    },
};

const NORM_EPSILON: f32 = 1e-5;
/// Side of the square that `conv_like` sees.
const KERNEL: usize = 5;
/// Modules that may lie around the one that has the weights.
const WRAPPERS: usize = 5;

pub(super) fn build(graph: Graph, tensors: &mut Tensors<'_>, c: &Config) -> Result<Graph, Error> {
    let geometry = Geometry {
        width: c.width,
        heads: c.heads,
        query_heads: c.heads,
        head_width: c.head_width,
        layers: c.layers,
        text_length: c.text_length(),
        mask_text_length: c.text_length(),
        rows: c.side,
        columns: c.side,
        codebook: c.codebook,
        kernel: KERNEL,
        attention_scale: (c.head_width as f32).powf(-0.5),
        streams: if c.reversible { Streams::Reversible } else { Streams::One },
        count: Count::Positions,
    };
    let (text, image, head) = tables(tensors, c)?;
    let image = ImageEmbedding::Table(image);
    let embedding =
        Embedding { text, image, position: positions(tensors, c)?, norm: None, rotary: rotary(tensors, c)? };
    let mut transformer = Transformer::start(graph, geometry, embedding)?;
    for i in 0..c.layers {
        transformer.layer(&layer(tensors, c, i)?)?;
    }
    let last = Normalization::Layer(norm(tensors, "to_logits.0", c.width)?);
    let norms = if c.stable { vec![Normalization::Maximum, last] } else { vec![last] };
    transformer.finish(&Head { norms, inner: None, linear: head })
}

/// The embeddings of text and image, and the image's part of the head.
fn tables(tensors: &mut Tensors<'_>, c: &Config) -> Result<(Tensor, Tensor, Linear), Error> {
    let (texts, all) = (c.text_ids(), c.text_ids() + c.codebook);
    let both = tensors.take("to_logits.1.weight", &[all, c.width])?;
    let bias = tensors.take("to_logits.1.bias", &[all])?.rows_of(texts..all);
    let weight = both.rows_of(texts..all);
    let (text, image) = if c.shared {
        tensors.ignore(|key| key.starts_with("text_emb.linear.") || key.starts_with("image_emb.linear."));
        (both.rows_of(0..texts), weight.clone())
    } else {
        let text = tensors.take("text_emb.weight", &[texts, c.width])?;
        (text, tensors.take("image_emb.weight", &[c.codebook, c.width])?)
    };
    Ok((text, image, Linear { weight, bias: Some(bias) }))
}

/// The table of positions that are added: those of the text, then of every cell the sum of its row's and its column's.
fn positions(tensors: &mut Tensors<'_>, c: &Config) -> Result<Option<Tensor>, Error> {
    if c.angles.is_some() {
        return Ok(None);
    }
    let separator = if tensors.contains(&table(0, '.')) { '.' } else { '_' };
    let mut position = tensors.take("text_pos_emb.weight", &[c.text_length(), c.width])?.values;
    let rows = tensors.take(&table(0, separator), &[1, c.side, 1, c.width])?;
    let columns = tensors.take(&table(1, separator), &[1, 1, c.side, c.width])?;
    for row in rows.values.chunks_exact(c.width) {
        for column in columns.values.chunks_exact(c.width) {
            position.extend(row.iter().zip(column).map(|(r, c)| r + c));
        }
    }
    Ok(Some(Tensor::new("position", &[c.text_length() + c.side * c.side, c.width], position)))
}

/// The angles lie in the checkpoint. The last position is never fed, and missing in older versions.
fn rotary(tensors: &mut Tensors<'_>, c: &Config) -> Result<Option<Rotary>, Error> {
    let Some(shape) = &c.angles else { return Ok(None) };
    let angles = tensors.take("transformer.pos_emb", shape)?;
    let width = shape[shape.len() - 1];
    if width % 2 == 1 || !(2..=c.head_width).contains(&width) {
        let expected = format!("an even number of angles, at most {}", c.head_width);
        return Err(tensors.wrong("transformer.pos_emb", expected, width.to_string()));
    }
    let positions = c.text_length() + c.side * c.side;
    let part = |name: &str, of: fn(f64) -> f64| {
        let last = angles.values[angles.values.len() - width..].iter();
        let rest = last.cycle().take((positions * width).saturating_sub(angles.values.len()));
        let values = angles.values.iter().chain(rest).map(|angle| of(f64::from(*angle)) as f32);
        Tensor::new(name, &[positions, width], values.take(positions * width).collect())
    };
    let (cosines, sines) = (part("cosines", f64::cos), part("sines", f64::sin));
    Ok(Some(Rotary { cosines, sines, pairs: Pairs::Neighbours, values: true }))
}

fn layer(tensors: &mut Tensors<'_>, c: &Config, i: usize) -> Result<Layer, Error> {
    let part = |letter: char, number: usize| match c.reversible {
        true => format!("transformer.layers.blocks.{i}.{letter}.net"),
        false => format!("transformer.layers.layers.{i}.{number}"),
    };
    let (attention, mlp) = (part('f', 0), part('g', 1));
    let inner = c.heads * c.head_width;
    let core = core(tensors, &attention, "to_qkv.weight")?;
    let qkv = Linear { weight: tensors.take(&format!("{core}to_qkv.weight"), &[3 * inner, c.width])?, bias: None };
    let mut out = linear(tensors, &format!("{core}to_out.0"), [c.width, inner])?;
    let attention = Attention {
        norm: Some(Normalization::Layer(norm(tensors, &format!("{attention}.fn.norm"), c.width)?)),
        shift: c.shift,
        qkv,
        head_norm: None,
        mask: c.masks[i],
        post_norm: scaled(tensors, c, &attention, &mut out)?,
        out,
    };
    Ok(Layer { attention, cross: None, mlp: self::mlp(tensors, c, &mlp)? })
}

fn mlp(tensors: &mut Tensors<'_>, c: &Config, part: &str) -> Result<Mlp, Error> {
    let core = core(tensors, part, "net.3.weight")?;
    let [_, hidden] = tensors.shape(&format!("{core}net.3.weight"))?;
    let both = linear(tensors, &format!("{core}net.0"), [2 * hidden, c.width])?;
    // The second half gates the first.
    let half = |rows: std::ops::Range<usize>| Linear {
        weight: both.weight.rows_of(rows.clone()),
        bias: both.bias.as_ref().map(|bias| bias.rows_of(rows)),
    };
    let (up, gate) = (half(0..hidden), half(hidden..2 * hidden));
    let mut down = linear(tensors, &format!("{core}net.3"), [c.width, hidden])?;
    Ok(Mlp {
        norm: Some(Normalization::Layer(norm(tensors, &format!("{part}.fn.norm"), c.width)?)),
        shift: c.shift,
        up,
        gate: Some(gate),
        activation: Activation::Gelu,
        mid_norm: None,
        post_norm: scaled(tensors, c, part, &mut down)?,
        down,
    })
}

/// Where in a part of a layer its weights are: how many modules lie around them depends on the version and on the options.
fn core(tensors: &Tensors<'_>, part: &str, name: &str) -> Result<String, Error> {
    let mut prefixes = (1..=WRAPPERS).map(|wrappers| format!("{part}.{}", "fn.".repeat(wrappers)));
    prefixes.find(|prefix| tensors.contains(&format!("{prefix}{name}"))).ok_or_else(|| {
        let expected = format!("{name} within 1 … {WRAPPERS} modules called fn");
        tensors.wrong(part, expected, "no such tensor".into())
    })
}

/// Folds the layer's scale into what comes last: the norm behind the part, which is given, or the linear map `out`.
fn scaled(tensors: &mut Tensors<'_>, c: &Config, part: &str, out: &mut Linear) -> Result<Option<Normalization>, Error> {
    let scale = tensors.take(&format!("{part}.scale"), &[1, 1, c.width])?.values;
    if c.sandwich {
        let mut norm = norm(tensors, &format!("{part}.fn.norm_out"), c.width)?;
        norm.weight.scale_rows(&scale);
        norm.bias.scale_rows(&scale);
        return Ok(Some(Normalization::Layer(norm)));
    }
    out.weight.scale_rows(&scale);
    if let Some(bias) = &mut out.bias {
        bias.scale_rows(&scale);
    }
    Ok(None)
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize) -> Result<Norm, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    Ok(Norm { weight, bias: tensors.take(&format!("{key}.bias"), &[width])?, epsilon: NORM_EPSILON })
}

fn linear(tensors: &mut Tensors<'_>, key: &str, [outputs, inputs]: [usize; 2]) -> Result<Linear, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[outputs, inputs])?;
    Ok(Linear { weight, bias: Some(tensors.take(&format!("{key}.bias"), &[outputs])?) })
}

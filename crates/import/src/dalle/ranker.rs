//! clip.safetensors (OpenAI's names) → ranker_image.onnx and ranker_text.onnx

use crate::{
    Error,
    checkpoint::Tensors,
    clip::{Block, Layout, Pool, Tower, Vision},
    dalle::config::Clip,
    graph::Graph,
    layers::{Conv, Linear, Norm},
};

/// Blocks of a tower at most.
const BLOCKS: usize = 1024;

/// What the tensors say of the model beyond its configuration.
pub(crate) struct Facts {
    pub(crate) vocabulary: usize,
    pub(crate) embedding_width: usize,
    /// Of what lies where, at the embedding's end.
    pub(crate) layout_width: Option<usize>,
    pub(crate) logit_scale: f32,
}

const LAYOUT: &str = "visual.layout.weight";

pub(crate) fn facts(tensors: &mut Tensors<'_>) -> Result<Facts, Error> {
    let [vocabulary, _] = tensors.shape("token_embedding.weight")?;
    let [_, embedding_width] = tensors.shape("text_projection")?;
    if !tensors.contains(LAYOUT) {
        return Facts::new(tensors, vocabulary, embedding_width, None);
    }
    let [layout_width, _, _, _] = tensors.shape(LAYOUT)?;
    if (1..embedding_width).contains(&layout_width) {
        return Facts::new(tensors, vocabulary, embedding_width, Some(layout_width));
    }
    let expected = format!("fewer numbers than the {embedding_width} of text_projection");
    Err(tensors.wrong(LAYOUT, expected, format!("{layout_width}")))
}

impl Facts {
    /// Takes the scale, whose name all share.
    pub(crate) fn new(
        tensors: &mut Tensors<'_>,
        vocabulary: usize,
        embedding_width: usize,
        layout_width: Option<usize>,
    ) -> Result<Self, Error> {
        let logarithm = tensors.take("logit_scale", &[])?.values[0];
        let logit_scale = logarithm.exp();
        if (f32::MIN_POSITIVE..=1e4).contains(&logit_scale) {
            return Ok(Self { vocabulary, embedding_width, layout_width, logit_scale });
        }
        Err(tensors.wrong("logit_scale", "a logarithm up to ln(10000)".into(), format!("{logarithm}")))
    }
}

pub(crate) fn image(graph: Graph, tensors: &mut Tensors<'_>, c: &Clip, facts: &Facts) -> Result<Graph, Error> {
    let [width, _, patch, _] = tensors.shape("visual.conv1.weight")?;
    heads_fit(tensors, "visual.conv1.weight", width, c.vision_heads, "clip.vision_heads")?;
    if !c.image_size.is_multiple_of(patch) {
        let expected = format!("a patch that divides clip.image_size {}", c.image_size);
        return Err(tensors.wrong("visual.conv1.weight", expected, format!("{patch}")));
    }
    let patches = Conv { weight: tensors.take("visual.conv1.weight", &[width, 3, patch, patch])?, bias: None };
    let layout = facts.layout_width.map(|width| layout(tensors, c, width)).transpose()?;
    let weights = Vision {
        mean: c.mean,
        std: c.std,
        patches,
        class: tensors.take("visual.class_embedding", &[width])?,
        position: tensors.take("visual.positional_embedding", &[(c.image_size / patch).pow(2) + 1, width])?,
        norm: norm(tensors, "visual.ln_pre", width, c)?,
        layout,
    };
    let mut tower = Tower::vision(graph, c.image_size, c.vision_heads, c.activation, weights)?;
    blocks(tensors, &mut tower, "visual.transformer.resblocks", width, c)?;
    let pool = Pool {
        norm: norm(tensors, "visual.ln_post", width, c)?,
        projection: projection(
            tensors,
            "visual.proj",
            [width, facts.embedding_width - facts.layout_width.unwrap_or(0)],
        )?,
    };
    tower.finish(&pool)
}

/// The way past the transformer.
fn layout(tensors: &mut Tensors<'_>, c: &Clip, width: usize) -> Result<Layout, Error> {
    let [_, _, squares, _] = tensors.shape(LAYOUT)?;
    if !c.image_size.is_multiple_of(squares) {
        let expected = format!("a number of squares that divides clip.image_size {}", c.image_size);
        return Err(tensors.wrong(LAYOUT, expected, format!("{squares}")));
    }
    let weight = tensors.take(LAYOUT, &[width, 3, squares, squares])?;
    let bias = Some(tensors.take("visual.layout.bias", &[width])?);
    let scale = tensors.take("visual.layout.scale", &[])?.values[0];
    if !(1e-3..=1e3).contains(&scale) {
        return Err(tensors.wrong("visual.layout.scale", "0.001 to 1000".into(), format!("{scale}")));
    }
    Ok(Layout { map: Conv { weight, bias }, scale })
}

pub(crate) fn text(graph: Graph, tensors: &mut Tensors<'_>, c: &Clip, facts: &Facts) -> Result<Graph, Error> {
    let [_, width] = tensors.shape("token_embedding.weight")?;
    heads_fit(tensors, "token_embedding.weight", width, c.text_heads, "clip.text_heads")?;
    let tokens = tensors.take("token_embedding.weight", &[facts.vocabulary, width])?;
    let position = tensors.take("positional_embedding", &[c.context_length, width])?;
    let mut tower = Tower::text(graph, c.text_heads, c.activation, &tokens, &position)?;
    blocks(tensors, &mut tower, "transformer.resblocks", width, c)?;
    let pool = Pool {
        norm: norm(tensors, "ln_final", width, c)?,
        projection: projection(tensors, "text_projection", [width, facts.embedding_width])?,
    };
    tower.finish(&pool)
}

fn heads_fit(tensors: &Tensors<'_>, name: &str, width: usize, heads: usize, field: &str) -> Result<(), Error> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(tensors.wrong(name, format!("a width that {field} {heads} divides"), format!("{width}")))
}

/// All blocks that there are, from 0 on.
fn blocks(tensors: &mut Tensors<'_>, tower: &mut Tower, key: &str, width: usize, c: &Clip) -> Result<(), Error> {
    for i in 0..BLOCKS {
        let key = format!("{key}.{i}");
        if !tensors.contains(&format!("{key}.ln_1.weight")) {
            break;
        }
        let [inner, _] = tensors.shape(&format!("{key}.mlp.c_fc.weight"))?;
        let block = Block {
            attention_norm: norm(tensors, &format!("{key}.ln_1"), width, c)?,
            qkv: Linear {
                weight: tensors.take(&format!("{key}.attn.in_proj_weight"), &[3 * width, width])?,
                bias: Some(tensors.take(&format!("{key}.attn.in_proj_bias"), &[3 * width])?),
            },
            out: linear(tensors, &format!("{key}.attn.out_proj"), [width, width])?,
            mlp_norm: norm(tensors, &format!("{key}.ln_2"), width, c)?,
            up: linear(tensors, &format!("{key}.mlp.c_fc"), [inner, width])?,
            down: linear(tensors, &format!("{key}.mlp.c_proj"), [width, inner])?,
        };
        tower.block(&block)?;
    }
    Ok(())
}

fn norm(tensors: &mut Tensors<'_>, key: &str, width: usize, c: &Clip) -> Result<Norm, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &[width])?;
    let bias = tensors.take(&format!("{key}.bias"), &[width])?;
    Ok(Norm { weight, bias, epsilon: c.norm_epsilon })
}

fn linear(tensors: &mut Tensors<'_>, key: &str, shape: [usize; 2]) -> Result<Linear, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &shape)?;
    let bias = tensors.take(&format!("{key}.bias"), &shape[..1])?;
    Ok(Linear { weight, bias: Some(bias) })
}

/// OpenAI keeps projections as \[in, out\].
fn projection(tensors: &mut Tensors<'_>, key: &str, shape: [usize; 2]) -> Result<Linear, Error> {
    Ok(Linear { weight: tensors.take(key, &shape)?.transposed(), bias: None })
}

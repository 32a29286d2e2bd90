//! CLIP in Hugging Face's names (transformers' `CLIPModel`) → ranker_image.onnx and ranker_text.onnx

use crate::{
    Error,
    checkpoint::Tensors,
    clip::{Block, Pool, Tower, Vision},
    dalle::{config::Clip, ranker::Facts},
    graph::Graph,
    layers::{Conv, Linear, Norm},
    tensor::Tensor,
};

/// Blocks of a tower at most.
const BLOCKS: usize = 1024;
const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

pub(super) fn facts(tensors: &mut Tensors<'_>) -> Result<Facts, Error> {
    let [vocabulary, _] = tensors.shape(TOKENS)?;
    let [embedding_width, _] = tensors.shape("text_projection.weight")?;
    Facts::new(tensors, vocabulary, embedding_width, None)
}

pub(super) fn image(graph: Graph, tensors: &mut Tensors<'_>, c: &Clip, facts: &Facts) -> Result<Graph, Error> {
    let key = |name: &str| format!("vision_model.embeddings.{name}");
    let [width, _, patch, _] = tensors.shape(&key("patch_embedding.weight"))?;
    heads_fit(tensors, &key("patch_embedding.weight"), width, c.vision_heads)?;
    let patches = Conv { weight: tensors.take(&key("patch_embedding.weight"), &[width, 3, patch, patch])?, bias: None };
    let weights = Vision {
        mean: c.mean,
        std: c.std,
        patches,
        class: tensors.take(&key("class_embedding"), &[width])?,
        position: tensors.take(&key("position_embedding.weight"), &[(c.image_size / patch).pow(2) + 1, width])?,
        norm: norm(tensors, "vision_model.pre_layrnorm", width, c)?,
        layout: None,
    };
    let mut tower = Tower::vision(graph, c.image_size, c.vision_heads, c.activation, weights)?;
    blocks(tensors, &mut tower, "vision_model.encoder.layers", width, c)?;
    let pool = Pool {
        norm: norm(tensors, "vision_model.post_layernorm", width, c)?,
        projection: projection(tensors, "visual_projection.weight", [facts.embedding_width, width])?,
    };
    tower.finish(&pool)
}

pub(super) fn text(graph: Graph, tensors: &mut Tensors<'_>, c: &Clip, facts: &Facts) -> Result<Graph, Error> {
    let [_, width] = tensors.shape(TOKENS)?;
    heads_fit(tensors, TOKENS, width, c.text_heads)?;
    let tokens = tensors.take(TOKENS, &[facts.vocabulary, width])?;
    let position = tensors.take("text_model.embeddings.position_embedding.weight", &[c.context_length, width])?;
    let mut tower = Tower::text(graph, c.text_heads, c.activation, &tokens, &position)?;
    blocks(tensors, &mut tower, "text_model.encoder.layers", width, c)?;
    let pool = Pool {
        norm: norm(tensors, "text_model.final_layer_norm", width, c)?,
        projection: projection(tensors, "text_projection.weight", [facts.embedding_width, width])?,
    };
    tower.finish(&pool)
}

fn heads_fit(tensors: &Tensors<'_>, name: &str, width: usize, heads: usize) -> Result<(), Error> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(tensors.wrong(name, format!("a width that num_attention_heads {heads} divides"), width.to_string()))
}

/// All blocks that there are, from 0 on.
fn blocks(tensors: &mut Tensors<'_>, tower: &mut Tower, key: &str, width: usize, c: &Clip) -> Result<(), Error> {
    for i in 0..BLOCKS {
        let key = format!("{key}.{i}");
        if !tensors.contains(&format!("{key}.layer_norm1.weight")) {
            break;
        }
        let [inner, _] = tensors.shape(&format!("{key}.mlp.fc1.weight"))?;
        let attention = |name: &str| format!("{key}.self_attn.{name}_proj");
        let parts = ["q", "k", "v"].map(attention).map(|key| linear(tensors, &key, [width, width]));
        let [q, k, v] = parts;
        let block = Block {
            attention_norm: norm(tensors, &format!("{key}.layer_norm1"), width, c)?,
            qkv: stacked([q?, k?, v?]),
            out: linear(tensors, &attention("out"), [width, width])?,
            mlp_norm: norm(tensors, &format!("{key}.layer_norm2"), width, c)?,
            up: linear(tensors, &format!("{key}.mlp.fc1"), [inner, width])?,
            down: linear(tensors, &format!("{key}.mlp.fc2"), [width, inner])?,
        };
        tower.block(&block)?;
    }
    Ok(())
}

/// One map to the results of all three.
fn stacked(parts: [Linear; 3]) -> Linear {
    let width = parts[0].weight.shape[1];
    let rows = parts.iter().map(|part| part.weight.shape[0]).sum();
    let name = parts[0].weight.name.replace("q_proj", "qkv");
    let weight = parts.iter().flat_map(|part| &part.weight.values).copied().collect();
    let bias = parts.iter().flat_map(|part| &part.bias).flat_map(|bias| &bias.values).copied().collect();
    let bias = Tensor::new(name.replace("weight", "bias"), &[rows], bias);
    Linear { weight: Tensor::new(name, &[rows, width], weight), bias: Some(bias) }
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

fn projection(tensors: &mut Tensors<'_>, key: &str, shape: [usize; 2]) -> Result<Linear, Error> {
    Ok(Linear { weight: tensors.take(key, &shape)?, bias: None })
}

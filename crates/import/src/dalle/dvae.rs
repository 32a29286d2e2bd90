//! dvae.safetensors → decoder.onnx and encoder.onnx

use crate::{
    Error,
    autoencoder::{self, Block, Quantizer, Reach},
    checkpoint::Tensors,
    dalle::config::{self, Config},
    graph::Graph,
    layers::Conv,
};

const NORM_EPSILON: f32 = 1e-5;
/// The inner width of a block, as a multiple of its width.
const EXPANSION: usize = 3;

pub(super) fn encoder(graph: Graph, tensors: &mut Tensors<'_>, config: &Config) -> Result<Graph, Error> {
    let config::Dvae { image_size, quantizer: config::Quantizer::Fsq { levels }, encoder, .. } = &config.dvae;
    let (width, kernel) = (encoder.width, encoder.input_kernel);
    let stem = conv(tensors, "encoder.stem", [width, 3, encoder.patch, encoder.patch])?;
    let input = conv(tensors, "encoder.input", [width, width, kernel, kernel])?;
    let mut built = autoencoder::Encoder::start(graph, [*image_size; 2], &stem, &input)?;
    for i in 0..encoder.blocks {
        let block = block(tensors, &format!("encoder.blocks.{i}"), width, encoder.kernel)?;
        built.block(&Block { reach: encoder.norm, ..block })?;
    }
    let output = conv(tensors, "encoder.output", [levels.len(), width, 1, 1])?;
    built.finish(&output, &Quantizer::Fsq { levels: levels.clone() })
}

pub(super) fn decoder(graph: Graph, tensors: &mut Tensors<'_>, config: &Config) -> Result<Graph, Error> {
    let config::Dvae { quantizer: config::Quantizer::Fsq { levels }, decoder, .. } = &config.dvae;
    let stages = &decoder.stages;
    let codebook = tensors.take("decoder.codebook", &[config.transformer.codebook, levels.len()])?;
    let input = conv(tensors, "decoder.input", [stages[0].width, levels.len(), 3, 3])?;
    let mut built = autoencoder::Decoder::start(graph, config.transformer.grid, &codebook, &input)?;
    for (j, stage) in stages.iter().enumerate() {
        for i in 0..stage.blocks {
            let key = format!("decoder.stages.{j}.blocks.{i}");
            built.block(&block(tensors, &key, stage.width, decoder.kernel)?)?;
        }
        if let Some(next) = stages.get(j + 1) {
            let key = format!("decoder.stages.{j}.upsample");
            built.upsample(&conv(tensors, &key, [4 * next.width, stage.width, 1, 1])?)?;
        }
    }
    let (shuffle, last) = (decoder.output_shuffle, stages[stages.len() - 1].width);
    let output = conv(tensors, "decoder.output", [3 * shuffle * shuffle, last, 3, 3])?;
    built.finish(&output, shuffle)
}

fn conv(tensors: &mut Tensors<'_>, key: &str, shape: [usize; 4]) -> Result<Conv, Error> {
    let weight = tensors.take(&format!("{key}.weight"), &shape)?;
    let bias = tensors.take(&format!("{key}.bias"), &shape[..1])?;
    Ok(Conv { weight, bias: Some(bias) })
}

/// A block, with its norm's weight and bias folded into `up` and its scale into `down`.
fn block(tensors: &mut Tensors<'_>, key: &str, width: usize, kernel: usize) -> Result<Block, Error> {
    let inner = EXPANSION * width;
    let depthwise = conv(tensors, &format!("{key}.depthwise"), [width, 1, kernel, kernel])?;
    let norm_weight = tensors.take(&format!("{key}.norm.weight"), &[width])?;
    let norm_bias = tensors.take(&format!("{key}.norm.bias"), &[width])?;
    let mut up = conv(tensors, &format!("{key}.up"), [inner, width, 1, 1])?;
    let mut down = conv(tensors, &format!("{key}.down"), [width, inner, 1, 1])?;
    let scale = tensors.take(&format!("{key}.scale"), &[1, width, 1, 1])?;
    let shift = up.weight.times(&norm_bias.values);
    up.weight.scale_columns(&norm_weight.values);
    up.bias.iter_mut().for_each(|b| b.values.iter_mut().zip(&shift).for_each(|(b, s)| *b += s));
    down.weight.scale_rows(&scale.values);
    down.bias.iter_mut().for_each(|b| b.scale_rows(&scale.values));
    Ok(Block { depthwise, reach: Reach::Picture, epsilon: NORM_EPSILON, up, down })
}

//! OpenAI's dVAE (Ramesh et al. 2021, appendix A; openai/DALL-E `encoder.py`, `decoder.py`).

use crate::{
    Error,
    checkpoint::Tensors,
    graph::Graph,
    layers::Conv,
    picture::{
        Picture, Rounding, codes,
        layers::Layers,
        net::Net,
        pixels::{self, Range},
    },
    tensor::Tensor,
};

const GROUPS: usize = 4;
/// Blocks of a group at most.
const BLOCKS: usize = 64;

/// Encoder and decoder, which OpenAI published as two files.
pub(crate) struct OpenAi;

impl OpenAi {
    /// The decoder of a `grid` of rows and columns, and the size of the codebook.
    pub(crate) fn decoder(
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        rounding: Rounding,
    ) -> Result<(Picture, usize), Error> {
        let mut layers = layers(tensors);
        let [width, codebook, _, _] = layers.shape("input.w")?;
        let weight = layers.take("input.w", &[width, codebook, 1, 1])?;
        let bias = layers.take("input.b", &[width])?;
        // The 1×1 convolution of a token's unit vector is a row of its weights.
        let mut table = weight.transposed();
        for row in table.values.chunks_exact_mut(width) {
            row.iter_mut().zip(&bias.values).for_each(|(v, b)| *v += b);
        }
        let mut net = codes::look_up(graph, grid, &table)?;
        net.graph.scope("decoder");
        let gain = gain(&layers);
        for group in 1..=GROUPS {
            blocks(&mut net, &mut layers, group, [1, 3, 3, 3], gain)?;
            if group < GROUPS {
                net.double()?;
            }
        }
        net.relu();
        // The first three maps are the pixels' means; the last three, of their spread, are not drawn.
        let weight = layers.take("output.conv.w", &[6, net.channels, 1, 1])?;
        let bias = layers.take("output.conv.b", &[6])?;
        net.conv(&Conv { weight: means(&weight), bias: Some(means(&bias)) })?;
        let size = net.size;
        Ok((Picture { graph: pixels::leave(net, Range::Laplace, rounding)?, size }, codebook))
    }

    /// The encoder to a `grid` of rows and columns.
    pub(crate) fn encoder(
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        codebook: usize,
    ) -> Result<Picture, Error> {
        let mut layers = layers(tensors);
        let size = grid.map(|n| n << (GROUPS - 1));
        let mut net = pixels::enter(graph, size, Range::Laplace)?;
        net.graph.scope("encoder");
        net.conv(&layers.named_conv("input.w", "input.b", 3, &[7])?)?;
        let gain = gain(&layers);
        for group in 1..=GROUPS {
            blocks(&mut net, &mut layers, group, [3, 3, 3, 1], gain)?;
            if group < GROUPS {
                net.pool();
            }
        }
        net.relu();
        let weight = layers.take("output.conv.w", &[codebook, net.channels, 1, 1])?;
        net.exact_conv(&Conv { weight, bias: Some(layers.take("output.conv.b", &[codebook])?) })?;
        Ok(Picture { graph: codes::best(net)?, size })
    }
}

/// The rows of the three means.
fn means(tensor: &Tensor) -> Tensor {
    let (mut shape, half) = (tensor.shape.clone(), tensor.values.len() / 2);
    shape[0] = 3;
    Tensor::new(tensor.name.clone(), &shape, tensor.values[..half].to_vec())
}

fn layers<'a, 'r>(tensors: &'a mut Tensors<'r>) -> Layers<'a, 'r> {
    Layers { tensors, prefix: "blocks.".into(), groups: 1, epsilon: 0.0 }
}

fn count(layers: &Layers<'_, '_>, group: usize) -> usize {
    layers.count(|i| format!("group_{group}.block_{}.res_path.conv_1.w", i + 1)).min(BLOCKS)
}

/// Of the residual paths: 1 over the square of how many blocks there are.
fn gain(layers: &Layers<'_, '_>) -> f32 {
    let blocks = (GROUPS * count(layers, 1)) as f32;
    1.0 / (blocks * blocks)
}

/// id(x) + gain · conv(ReLU(conv(ReLU(conv(ReLU(conv(ReLU(x)))))))).
fn blocks(
    net: &mut Net,
    layers: &mut Layers<'_, '_>,
    group: usize,
    kernels: [usize; 4],
    gain: f32,
) -> Result<(), Error> {
    for i in 1..=count(layers, group).max(1) {
        let key = format!("group_{group}.block_{i}");
        let (before, channels) = (net.x.clone(), net.channels);
        for (j, kernel) in kernels.iter().enumerate() {
            net.relu();
            let key = format!("{key}.res_path.conv_{}", j + 1);
            net.conv(&layers.named_conv(&format!("{key}.w"), &format!("{key}.b"), net.channels, &[*kernel])?)?;
        }
        net.scale(gain)?;
        let (path, outputs) = (std::mem::replace(&mut net.x, before), net.channels);
        let identity = format!("{key}.id_path.w");
        if layers.contains(&identity) || outputs != channels {
            let weight = layers.take(&identity, &[outputs, channels, 1, 1])?;
            let bias = layers.take(&format!("{key}.id_path.b"), &[outputs])?;
            net.conv(&Conv { weight, bias: Some(bias) })?;
        }
        net.x = net.graph.add(&net.x, &path);
    }
    Ok(())
}

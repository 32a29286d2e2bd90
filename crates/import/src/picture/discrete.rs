//! dalle-pytorch's own `DiscreteVAE`.

use crate::{
    Error,
    checkpoint::Tensors,
    graph::Graph,
    layers::Conv,
    picture::{
        Picture, codes,
        layers::Layers,
        net::Net,
        pixels::{self, Range, Rounding},
    },
};

/// Kernel of what halves and doubles the size.
const KERNEL: usize = 4;

/// Pixels are normalised to −1 … 1, which is its default; the decoder gives them so.
pub(crate) struct Discrete;

impl Discrete {
    pub(crate) fn codebook(tensors: &Tensors<'_>) -> Result<usize, Error> {
        let [codes, _] = tensors.shape("codebook.weight")?;
        Ok(codes)
    }

    /// The decoder of a `grid` of rows and columns.
    pub(crate) fn decoder(graph: Graph, tensors: &mut Tensors<'_>, grid: [usize; 2]) -> Result<Picture, Error> {
        let shape: [usize; 2] = tensors.shape("codebook.weight")?;
        let table = tensors.take("codebook.weight", &shape)?;
        let mut layers = layers(tensors, "decoder.");
        let mut net = codes::look_up(graph, grid, &table)?;
        net.graph.scope("decoder");
        let depth = layers.count(|i| first_key(&layers, i));
        for i in 0..depth {
            if layers.contains(&format!("{i}.net.0.weight")) {
                block(&mut net, &mut layers, i)?;
            } else if layers.contains(&format!("{i}.0.weight")) {
                let [_, outputs, _, _] = layers.shape(&format!("{i}.0.weight"))?;
                let weight = layers.take(&format!("{i}.0.weight"), &[net.channels, outputs, KERNEL, KERNEL])?;
                let bias = layers.take(&format!("{i}.0.bias"), &[outputs])?;
                net.double_overlapping(&Conv { weight, bias: Some(bias) })?;
                net.relu();
            } else {
                net.conv(&layers.conv(&i.to_string(), net.channels, &[1])?)?;
            }
        }
        if net.channels != 3 {
            let last = format!("decoder.{}.weight", depth.saturating_sub(1));
            return Err(tensors.wrong(&last, "3 channels".into(), net.channels.to_string()));
        }
        let size = net.size;
        Ok(Picture { graph: pixels::leave(net, Range::Signed, Rounding::Nearest)?, size })
    }

    /// The encoder of pictures of `size`, height and width.
    pub(crate) fn encoder(
        graph: Graph,
        tensors: &mut Tensors<'_>,
        size: [usize; 2],
        codebook: usize,
    ) -> Result<Picture, Error> {
        let mut layers = layers(tensors, "encoder.");
        let mut net = pixels::enter(graph, size, Range::Signed)?;
        net.graph.scope("encoder");
        let depth = layers.count(|i| first_key(&layers, i));
        for i in 0..depth.saturating_sub(1) {
            if layers.contains(&format!("{i}.net.0.weight")) {
                block(&mut net, &mut layers, i)?;
            } else {
                let key = format!("{i}.0");
                net.halve_overlapping(&layers.conv(&key, net.channels, &[KERNEL])?)?;
                net.relu();
            }
        }
        let key = depth.saturating_sub(1).to_string();
        let weight = layers.take(&format!("{key}.weight"), &[codebook, net.channels, 1, 1])?;
        net.exact_conv(&Conv { weight, bias: Some(layers.take(&format!("{key}.bias"), &[codebook])?) })?;
        Ok(Picture { graph: codes::best(net)?, size })
    }
}

fn layers<'a, 'r>(tensors: &'a mut Tensors<'r>, prefix: &str) -> Layers<'a, 'r> {
    Layers { tensors, prefix: prefix.into(), groups: 1, epsilon: 0.0 }
}

/// The key of layer i's first weight, by what kind of layer it is.
fn first_key(layers: &Layers<'_, '_>, i: usize) -> String {
    let kinds = [format!("{i}.net.0.weight"), format!("{i}.0.weight")];
    kinds.into_iter().find(|key| layers.contains(key)).unwrap_or(format!("{i}.weight"))
}

/// x + 1×1 convolution(ReLU(3×3(ReLU(3×3(x))))).
fn block(net: &mut Net, layers: &mut Layers<'_, '_>, i: usize) -> Result<(), Error> {
    let (before, channels) = (net.x.clone(), net.channels);
    net.conv(&layers.conv(&format!("{i}.net.0"), net.channels, &[3])?)?;
    net.relu();
    net.conv(&layers.conv(&format!("{i}.net.2"), net.channels, &[3])?)?;
    net.relu();
    let weight = layers.take(&format!("{i}.net.4.weight"), &[channels, net.channels, 1, 1])?;
    net.conv(&Conv { weight, bias: Some(layers.take(&format!("{i}.net.4.bias"), &[channels])?) })?;
    net.x = net.graph.add(&net.x, &before);
    Ok(())
}

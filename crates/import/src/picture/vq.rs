//! VQGAN (Esser et al. 2021, taming-transformers) and its descendants: ruDALL-E's with and without wavelets, min-dalle's, minDALL-E's, Chameleon's,
//! Janus's and LlamaGen's, and diffusers' `VQModel`. One network; names of keys and a few numbers differ.

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

/// What the tensors do not say of themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vq {
    /// Channels of a norm are taken together in as many groups.
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
    /// Codes count by their direction alone.
    pub(crate) unit_codes: bool,
    pub(crate) range: Range,
    pub(crate) rounding: Rounding,
}

/// The names of the network's parts.
#[derive(Clone, Copy)]
struct Names {
    middle: [&'static str; 3],
    attention: [&'static str; 5],
    shortcut: &'static str,
    norm_out: &'static str,
    /// Of the levels of encoder and decoder.
    levels: [&'static str; 2],
    block: &'static str,
    attend: &'static str,
    /// What halves and what doubles the size.
    resample: [&'static str; 2],
}

const TAMING: Names = Names {
    middle: ["mid.block_1", "mid.attn_1", "mid.block_2"],
    attention: ["norm", "q", "k", "v", "proj_out"],
    shortcut: "nin_shortcut",
    norm_out: "norm_out",
    levels: ["down", "up"],
    block: "block",
    attend: "attn",
    resample: ["downsample.conv", "upsample.conv"],
};

const LLAMAGEN: Names =
    Names { middle: ["mid.0", "mid.1", "mid.2"], levels: ["conv_blocks"; 2], block: "res", ..TAMING };

const DIFFUSERS: Names = Names {
    middle: ["mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"],
    attention: ["group_norm", "to_q", "to_k", "to_v", "to_out.0"],
    shortcut: "conv_shortcut",
    norm_out: "conv_norm_out",
    levels: ["down_blocks", "up_blocks"],
    block: "resnets",
    attend: "attentions",
    resample: ["downsamplers.0.conv", "upsamplers.0.conv"],
};

/// Where codebooks are; the second is of a VQGAN that was trained with Gumbel's softmax, the third min-dalle's.
const CODEBOOKS: [&str; 3] = ["quantize.embedding.weight", "quantize.embed.weight", "embedding.weight"];
/// ruDALL-E's network behind wavelets lies one deeper.
const WAVELET: &str = "decoder.decoder.conv_in.weight";

impl Vq {
    /// taming-transformers' own numbers; the others differ in a few.
    pub(crate) const TAMING: Self =
        Self { groups: 32, epsilon: 1e-6, unit_codes: false, range: Range::Signed, rounding: Rounding::Nearest };

    /// The codebook \[codes, width\] that decoder and encoder share.
    pub(crate) fn codebook(self, tensors: &mut Tensors<'_>) -> Result<Tensor, Error> {
        let key = CODEBOOKS.into_iter().find(|key| tensors.contains(key)).unwrap_or(CODEBOOKS[0]);
        let shape: [usize; 2] = tensors.shape(key)?;
        let mut table = tensors.take(key, &shape)?;
        if self.unit_codes {
            codes::unit_rows(&mut table);
        }
        Ok(table)
    }

    /// The decoder of a `grid` of rows and columns.
    pub(crate) fn decoder(
        self,
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        table: &Tensor,
    ) -> Result<Picture, Error> {
        let mut layers = self.layers(tensors, "");
        let wavelet = layers.contains(WAVELET);
        let post_quant = if wavelet { "decoder.post_quant_conv" } else { "post_quant_conv" };
        if wavelet {
            // Its predecessor's is still there.
            layers.tensors.ignore(|key| key.starts_with("post_quant_conv."));
        }
        let post_quant = layers.conv(post_quant, table.shape[1], &[1])?;
        let folded = codes::fold(layers.tensors, table, &post_quant)?;
        layers.prefix.push_str(if wavelet { "decoder.decoder." } else { "decoder." });
        let names = names(&layers);
        let mut net = codes::look_up(graph, grid, &folded)?;
        net.graph.scope("decoder");
        net.conv(&layers.conv("conv_in", net.channels, &[3])?)?;
        middle(&mut net, &mut layers, names)?;
        levels(&mut net, &mut layers, names, 1)?;
        net.norm(&layers.norm(names.norm_out, net.channels)?)?;
        net.silu();
        let outputs = if wavelet { 12 } else { 3 };
        let weight = layers.take("conv_out.weight", &[outputs, net.channels, 3, 3])?;
        let last = Conv { weight, bias: Some(layers.take("conv_out.bias", &[outputs])?) };
        net.conv(&if wavelet { inverse_haar(&last) } else { last })?;
        if wavelet {
            net.unfold();
        }
        let size = net.size;
        Ok(Picture { graph: pixels::leave(net, self.range, self.rounding)?, size })
    }

    /// What training alone needs, and the wavelets' filters, which are Haar's.
    pub(crate) fn unused(key: &str) -> bool {
        key.starts_with("loss.") || key.starts_with("decoder.idwt.") || key == "quantize.codebook_used"
    }

    /// Whether the checkpoint has an encoder.
    pub(crate) fn encodes(tensors: &Tensors<'_>) -> bool {
        tensors.contains("encoder.conv_in.weight")
    }

    /// The encoder to a `grid` of rows and columns.
    pub(crate) fn encoder(
        self,
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        table: &Tensor,
    ) -> Result<Picture, Error> {
        let mut layers = self.layers(tensors, "encoder.");
        let names = names(&layers);
        let depth = layers.count(|i| format!("{}.{i}.{}.0.conv1.weight", names.levels[0], names.block));
        let size = grid.map(|n| n << depth.saturating_sub(1).min(16));
        let mut net = pixels::enter(graph, size, self.range)?;
        net.graph.scope("encoder");
        net.conv(&layers.conv("conv_in", 3, &[3])?)?;
        levels(&mut net, &mut layers, names, 0)?;
        middle(&mut net, &mut layers, names)?;
        net.norm(&layers.norm(names.norm_out, net.channels)?)?;
        net.silu();
        net.conv(&layers.conv("conv_out", net.channels, &[3])?)?;
        layers.prefix.clear();
        net.conv(&layers.conv("quant_conv", net.channels, &[1])?)?;
        let [codes, width] = [table.shape[0], table.shape[1]];
        let graph = if layers.contains("quantize.proj.weight") {
            let weight = layers.take("quantize.proj.weight", &[codes, net.channels, 1, 1])?;
            net.exact_conv(&Conv { weight, bias: Some(layers.take("quantize.proj.bias", &[codes])?) })?;
            codes::best(net)?
        } else if net.channels != width {
            let expected = format!("codes of {} numbers", net.channels);
            return Err(layers.tensors.wrong(&table.name, expected, width.to_string()));
        } else if self.unit_codes {
            codes::aligned(net, table)?
        } else {
            codes::nearest(net, table)?
        };
        Ok(Picture { graph, size })
    }

    fn layers<'a, 'r>(self, tensors: &'a mut Tensors<'r>, prefix: &str) -> Layers<'a, 'r> {
        Layers { tensors, prefix: prefix.into(), groups: self.groups, epsilon: self.epsilon }
    }
}

fn names(layers: &Layers<'_, '_>) -> Names {
    let known = [LLAMAGEN, DIFFUSERS].into_iter();
    known.into_iter().find(|n| layers.contains(&format!("{}.norm1.weight", n.middle[0]))).unwrap_or(TAMING)
}

fn middle(net: &mut Net, layers: &mut Layers<'_, '_>, names: Names) -> Result<(), Error> {
    let [first, attention, second] = names.middle;
    net.residual(&layers.residual(first, net.channels, names.shortcut)?)?;
    if layers.contains(&format!("{attention}.{}.weight", names.attention[0])) {
        net.attention(&layers.attention(attention, net.channels, names.attention)?)?;
    }
    net.residual(&layers.residual(second, net.channels, names.shortcut)?)
}

/// The levels of the encoder (`side` 0) or decoder (`side` 1): blocks, each with attention or without, and between two levels a change of size.
fn levels(net: &mut Net, layers: &mut Layers<'_, '_>, names: Names, side: usize) -> Result<(), Error> {
    let (level, block, resample) = (names.levels[side], names.block, names.resample[side]);
    let depth = layers.count(|i| format!("{level}.{i}.{block}.0.conv1.weight"));
    // Most number the decoder's levels as the encoder's: the last first.
    let backwards = side == 1 && !layers.contains(&format!("{level}.0.{resample}.weight"));
    for step in 0..depth {
        let i = if backwards { depth - 1 - step } else { step };
        let blocks = layers.count(|j| format!("{level}.{i}.{block}.{j}.conv1.weight"));
        for j in 0..blocks {
            net.residual(&layers.residual(&format!("{level}.{i}.{block}.{j}"), net.channels, names.shortcut)?)?;
            let attention = format!("{level}.{i}.{}.{j}", names.attend);
            if layers.contains(&format!("{attention}.{}.weight", names.attention[0])) {
                net.attention(&layers.attention(&attention, net.channels, names.attention)?)?;
            }
        }
        if step + 1 < depth {
            let key = format!("{level}.{i}.{resample}");
            if side == 0 {
                net.halve(&layers.conv(&key, net.channels, &[3])?)?;
            } else {
                net.double()?;
                net.conv(&layers.conv(&key, net.channels, &[3])?)?;
            }
        }
    }
    Ok(())
}

/// The inverse of Haar's wavelet transform behind a convolution to 3 low and 3 × 3 high bands: a convolution to 4 places × 3 colours.
fn inverse_haar(conv: &Conv) -> Conv {
    let mix = |place: usize, colour: usize, values: &[f32], width: usize| -> Vec<f32> {
        let signs = [if place / 2 == 0 { 1.0 } else { -1.0 }, if place.is_multiple_of(2) { 1.0 } else { -1.0 }];
        let factors = [1.0, signs[0], signs[1], signs[0] * signs[1]];
        let bands = [colour, 3 + 3 * colour, 4 + 3 * colour, 5 + 3 * colour];
        let band = |k: usize| &values[bands[k] * width..(bands[k] + 1) * width];
        (0..width).map(|i| 0.5 * (0..4).map(|k| factors[k] * band(k)[i]).sum::<f32>()).collect()
    };
    let mixed = |tensor: &Tensor| {
        let width = tensor.values.len() / 12;
        let rows = (0..12).flat_map(|row| mix(row / 3, row % 3, &tensor.values, width)).collect();
        Tensor::new(tensor.name.clone(), &tensor.shape, rows)
    };
    Conv { weight: mixed(&conv.weight), bias: conv.bias.as_ref().map(mixed) }
}

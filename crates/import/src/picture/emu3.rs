//! Emu3's autoencoder, in the names of Hugging Face (transformers' `Emu3VQVAE`) and in its own (`Emu3-VisionTokenizer`), for one picture.
//!
//! It is made for films: its convolutions over time see a frame and those before it. A picture comes out of the decoder as a film's first frame, before
//! which all is zero, so that of each such convolution only the last tap counts. The encoder is shown the same frame as often as it takes for one token;
//! there, taps add up.

use std::collections::BTreeMap;

use crate::{
    Error,
    checkpoint::Tensors,
    graph::{Attribute, Graph, Value},
    layers::Conv,
    picture::{
        Picture, Range, Rounding, codes,
        layers::Layers,
        net::{Net, enlarge},
        pixels,
    },
    tensor::Tensor,
};

/// Of the norms over a batch.
const BATCH_EPSILON: f32 = 1e-5;
const TABLE: &str = "quantize.embedding.weight";
/// The last of three taps.
const LAST: [usize; 1] = [2];

/// The names of the network's parts.
struct Names {
    middle: &'static str,
    /// Of the levels of encoder and decoder.
    levels: [&'static str; 2],
    /// Of attention: queries, keys, values and output.
    maps: [&'static str; 4],
    /// The norms of attention: in the middle, and, where they lie apart from it, of a level.
    middle_norm: &'static str,
    level_norms: Option<&'static str>,
}

const HUGGING_FACE: Names = Names {
    middle: "middle_block",
    levels: ["down_block.down", "up_block.up"],
    maps: ["q_proj", "k_proj", "v_proj", "out_proj"],
    middle_norm: "middle_block.attn_norm",
    level_norms: Some("attn_norms"),
};

const ORIGINAL: Names = Names {
    middle: "mid",
    levels: ["down", "up"],
    maps: ["q", "k", "v", "proj_out"],
    middle_norm: "mid.attn_1.norm",
    level_norms: None,
};

fn names(layers: &Layers<'_, '_>) -> &'static Names {
    if layers.contains("mid.block_1.conv1.weight") { &ORIGINAL } else { &HUGGING_FACE }
}

/// Encoder and decoder, which share the codebook.
pub(crate) struct Emu3;

/// The codes that guide the decoder's norms: a map as large as the grid.
struct Guide {
    value: Value,
    channels: usize,
    rows: usize,
}

impl Emu3 {
    /// The codebook \[codes, width\].
    pub(crate) fn codebook(tensors: &mut Tensors<'_>) -> Result<Tensor, Error> {
        tensors.ignore(|key| key.ends_with(".num_batches_tracked"));
        let shape: [usize; 2] = tensors.shape(TABLE)?;
        tensors.take(TABLE, &shape)
    }

    /// The decoder of a `grid` of rows and columns.
    pub(crate) fn decoder(
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        table: &Tensor,
    ) -> Result<Picture, Error> {
        let width = table.shape[1];
        let mut layers = layers(tensors, "");
        let post_quant = taps(&layers.timed("post_quant_conv", width, [3, 1])?, &LAST);
        // Both maps of a token side by side: what is drawn, and what guides.
        let folded = codes::fold(layers.tensors, table, &post_quant)?;
        let both = folded.values.chunks_exact(folded.shape[1]).zip(table.values.chunks_exact(width));
        let both = both.flat_map(|(drawn, guide)| [drawn, guide].concat()).collect();
        let both = Tensor::new(TABLE, &[table.shape[0], folded.shape[1] + width], both);
        let mut net = codes::look_up(graph, grid, &both)?;
        net.graph.scope("decoder");
        layers.prefix.push_str("decoder.");
        let guide = through_time(&mut net, &mut layers, [folded.shape[1], width])?;
        net.conv(&layers.conv("conv_in", net.channels, &[3])?)?;
        let names = names(&layers);
        middle(&mut net, &mut layers, names, Some(&guide))?;
        levels(&mut net, &mut layers, names, Some(&guide))?;
        norm(&mut net, &mut layers, "norm_out", Some(&guide))?;
        net.silu();
        let weight = layers.take("conv_out.weight", &[3, net.channels, 3, 3])?;
        net.conv(&Conv { weight, bias: Some(layers.take("conv_out.bias", &[3])?) })?;
        let size = net.size;
        Ok(Picture { graph: pixels::leave(net, Range::Signed, Rounding::Down)?, size })
    }

    /// The encoder to a `grid` of rows and columns.
    pub(crate) fn encoder(
        graph: Graph,
        tensors: &mut Tensors<'_>,
        grid: [usize; 2],
        table: &Tensor,
    ) -> Result<Picture, Error> {
        let mut layers = layers(tensors, "encoder.");
        let names = names(&layers);
        let depth = layers.count(|i| format!("{}.{i}.block.0.conv1.weight", names.levels[0]));
        let size = grid.map(|n| n << depth.saturating_sub(1).min(16));
        let mut net = pixels::enter(graph, size, Range::Signed)?;
        net.graph.scope("encoder");
        net.conv(&layers.conv("conv_in", 3, &[3])?)?;
        levels(&mut net, &mut layers, names, None)?;
        middle(&mut net, &mut layers, names, None)?;
        norm(&mut net, &mut layers, "norm_out", None)?;
        net.silu();
        net.conv(&layers.conv("conv_out", net.channels, &[3])?)?;
        halve_time(&mut net, &mut layers)?;
        for i in 0..layers.count(|i| format!("time_res_stack.{i}.conv1.conv.weight")) {
            let block = TimeBlock::read(&mut layers, i, net.channels)?;
            block.apply(&mut net)?;
        }
        layers.prefix.clear();
        let quant = layers.timed("quant_conv", net.channels, [3, 1])?;
        net.conv(&taps(&quant, &LAST))?;
        if net.channels != table.shape[1] {
            let expected = format!("codes of {} numbers", net.channels);
            return Err(tensors.wrong(TABLE, expected, table.shape[1].to_string()));
        }
        Ok(Picture { graph: codes::nearest(net, table)?, size })
    }
}

fn layers<'a, 'r>(tensors: &'a mut Tensors<'r>, prefix: &str) -> Layers<'a, 'r> {
    Layers { tensors, prefix: prefix.into(), groups: 32, epsilon: 1e-6 }
}

impl Layers<'_, '_> {
    /// A convolution over time, rows and columns: weights \[out, in, time, kernel, kernel\].
    fn timed(&mut self, key: &str, inputs: usize, [time, kernel]: [usize; 2]) -> Result<Conv, Error> {
        let name = format!("{key}.conv.weight");
        let [outputs, _, _, _, _] = self.shape(&name)?;
        let weight = self.take(&name, &[outputs, inputs, time, kernel, kernel])?;
        Ok(Conv { weight, bias: Some(self.take(&format!("{key}.conv.bias"), &[outputs])?) })
    }
}

/// The convolution of a frame that stands at all these places of time.
fn taps(conv: &Conv, places: &[usize]) -> Conv {
    let Tensor { name, shape, values } = &conv.weight;
    let area = shape[3] * shape[4];
    let sum =
        |frames: &[f32]| -> Vec<f32> { (0..area).map(|i| places.iter().map(|t| frames[t * area + i]).sum()).collect() };
    let values = values.chunks_exact(shape[2] * area).flat_map(sum).collect();
    let weight = Tensor::new(name.clone(), &[shape[0], shape[1], shape[3], shape[4]], values);
    Conv { weight, bias: conv.bias.clone() }
}

/// x + conv(SiLU(norm(conv(SiLU(norm(x)))))) with norms over the batch.
struct TimeBlock {
    norms: [[Tensor; 2]; 2],
    convs: [Conv; 2],
}

impl TimeBlock {
    fn read(layers: &mut Layers<'_, '_>, i: usize, channels: usize) -> Result<Self, Error> {
        let key = format!("time_res_stack.{i}");
        let norms = [
            layers.batch_norm(&format!("{key}.norm1"), channels)?,
            layers.batch_norm(&format!("{key}.norm2"), channels)?,
        ];
        let first = taps(&layers.timed(&format!("{key}.conv1"), channels, [3, 3])?, &LAST);
        let second = taps(&layers.timed(&format!("{key}.conv2"), channels, [3, 3])?, &LAST);
        Ok(Self { norms, convs: [first, second] })
    }

    fn apply(&self, net: &mut Net) -> Result<(), Error> {
        let before = net.x.clone();
        for ([scale, shift], conv) in self.norms.iter().zip(&self.convs) {
            let (scale, shift) = (net.graph.exact(scale)?, net.graph.exact(shift)?);
            net.x = net.graph.mul(&net.x, &scale);
            net.x = net.graph.add(&net.x, &shift);
            net.silu();
            net.conv(conv)?;
        }
        net.x = net.graph.add(&net.x, &before);
        Ok(())
    }
}

impl Layers<'_, '_> {
    /// What a trained norm over the batch multiplies by and adds, \[channels, 1, 1\] each.
    fn batch_norm(&mut self, key: &str, channels: usize) -> Result<[Tensor; 2], Error> {
        let mut take = |name: &str| self.take(&format!("{key}.{name}"), &[channels]);
        let (weight, bias, mean, variance) =
            (take("weight")?, take("bias")?, take("running_mean")?, take("running_var")?);
        let scale = |(w, v): (&f32, &f32)| w / (v + BATCH_EPSILON).sqrt();
        let scale: Vec<f32> = weight.values.iter().zip(&variance.values).map(scale).collect();
        let shift = bias.values.iter().zip(&mean.values).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        let tensor = |name: &str, values| Tensor::new(format!("{key}.{name}"), &[channels, 1, 1], values);
        Ok([tensor("scale", scale), tensor("shift", shift)])
    }
}

/// Takes a map of what is drawn and what guides, side by side, through the decoder's layers over time; leaves the first in `net`.
fn through_time(net: &mut Net, layers: &mut Layers<'_, '_>, channels: [usize; 2]) -> Result<Guide, Error> {
    let [drawn, guide] = channels;
    if drawn != guide {
        let expected = format!("{guide} channels, as the codes have");
        return Err(layers.tensors.wrong("post_quant_conv.conv.weight", expected, drawn.to_string()));
    }
    let sizes = net.graph.ints(&[drawn as i64, guide as i64])?;
    let mut maps: [Value; 2] = net.graph.op_of("Split", &[&net.x, &sizes], &[("axis", Attribute::Int(1))]);
    net.channels = drawn;
    for i in 0..layers.count(|i| format!("time_res_stack.{i}.conv1.conv.weight")) {
        let block = TimeBlock::read(layers, i, drawn)?;
        each(net, &mut maps, |net| block.apply(net))?;
    }
    for i in 0..layers.count(|i| format!("time_conv.{i}.conv.conv.weight")) {
        let conv = taps(&layers.timed(&format!("time_conv.{i}.conv"), drawn, [3, 3])?, &LAST);
        each(net, &mut maps, |net| {
            net.conv(&conv)?;
            net.silu();
            Ok(())
        })?;
    }
    let [first, value] = maps;
    net.x = first;
    Ok(Guide { value, channels: guide, rows: net.size[0] })
}

fn each(
    net: &mut Net,
    maps: &mut [Value; 2],
    mut apply: impl FnMut(&mut Net) -> Result<(), Error>,
) -> Result<(), Error> {
    for map in maps {
        net.x = map.clone();
        apply(net)?;
        *map = net.x.clone();
    }
    Ok(())
}

/// The encoder's layers that halve the time, for as many equal frames as they make one of.
fn halve_time(net: &mut Net, layers: &mut Layers<'_, '_>) -> Result<(), Error> {
    let depth = layers.count(|i| format!("time_conv.{i}.conv.conv.weight"));
    // Which of the different maps each frame is.
    let (mut maps, mut frames) = (vec![net.x.clone()], vec![0; 1 << depth.min(8)]);
    for i in 0..depth {
        let conv = layers.timed(&format!("time_conv.{i}.conv"), net.channels, [4, 3])?;
        let (mut made, mut next) = (Vec::new(), Vec::new());
        let mut known: BTreeMap<BTreeMap<usize, Vec<usize>>, usize> = BTreeMap::new();
        for frame in 0..frames.len() / 2 {
            // Two frames of zeros stand before the first.
            let mut seen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            let places = (0..4).filter_map(|tap| Some((tap, *frames.get((2 * frame + tap).checked_sub(2)?)?)));
            places.for_each(|(tap, map)| seen.entry(map).or_default().push(tap));
            let index = known.len();
            next.push(*known.entry(seen.clone()).or_insert(index));
            if known.len() > made.len() {
                made.push(mixed(net, &maps, &conv, &seen)?);
            }
        }
        (maps, frames) = (made, next);
    }
    net.x = maps.swap_remove(0);
    Ok(())
}

/// SiLU of the convolution of maps that stand at these taps.
fn mixed(net: &mut Net, maps: &[Value], conv: &Conv, seen: &BTreeMap<usize, Vec<usize>>) -> Result<Value, Error> {
    let mut sum: Option<Value> = None;
    for (map, places) in seen {
        let bias = if sum.is_none() { conv.bias.clone() } else { None };
        net.x = maps[*map].clone();
        net.conv(&Conv { bias, ..taps(conv, places) })?;
        sum = Some(sum.map_or(net.x.clone(), |sum| net.graph.add(&sum, &net.x)));
    }
    net.x = sum.expect("the last tap always sees a frame");
    net.silu();
    Ok(net.x.clone())
}

/// A norm; in the decoder, its scale and shift are 1×1 convolutions of the guide.
fn norm(net: &mut Net, layers: &mut Layers<'_, '_>, key: &str, guide: Option<&Guide>) -> Result<(), Error> {
    let Some(guide) = guide else { return net.norm(&layers.norm(key, net.channels)?) };
    net.norm(&layers.norm(&format!("{key}.norm_layer"), net.channels)?)?;
    let (channels, factor) = (net.channels, net.size[0] / guide.rows);
    let mut map = |name: &str| {
        let weight = layers.take(&format!("{key}.{name}.weight"), &[channels, guide.channels, 1, 1])?;
        let conv = Conv { weight, bias: Some(layers.take(&format!("{key}.{name}.bias"), &[channels])?) };
        let map = net.graph.conv(&guide.value, &conv, 1, 0, 1)?;
        enlarge(&mut net.graph, &map, factor)
    };
    let (scale, shift) = (map("conv_y")?, map("conv_b")?);
    net.x = net.graph.mul(&net.x, &scale);
    net.x = net.graph.add(&net.x, &shift);
    Ok(())
}

fn residual(net: &mut Net, layers: &mut Layers<'_, '_>, key: &str, guide: Option<&Guide>) -> Result<(), Error> {
    let (before, channels) = (net.x.clone(), net.channels);
    for i in [1, 2] {
        norm(net, layers, &format!("{key}.norm{i}"), guide)?;
        net.silu();
        net.conv(&layers.conv(&format!("{key}.conv{i}"), net.channels, &[3])?)?;
    }
    let (inner, outputs) = (std::mem::replace(&mut net.x, before), net.channels);
    if outputs != channels {
        let weight = layers.take(&format!("{key}.nin_shortcut.weight"), &[outputs, channels, 1, 1])?;
        net.conv(&Conv { weight, bias: Some(layers.take(&format!("{key}.nin_shortcut.bias"), &[outputs])?) })?;
    }
    net.x = net.graph.add(&net.x, &inner);
    Ok(())
}

fn attention(
    net: &mut Net,
    layers: &mut Layers<'_, '_>,
    names: &Names,
    [key, norm_key]: [&str; 2],
    guide: Option<&Guide>,
) -> Result<(), Error> {
    let before = net.x.clone();
    norm(net, layers, norm_key, guide)?;
    let [q, k, v, out] = names.maps;
    let mut square = |name: &str| layers.square(&format!("{key}.{name}"), net.channels);
    let (qkv, out) = ([square(q)?, square(k)?, square(v)?], square(out)?);
    net.attend(&qkv, &out)?;
    net.x = net.graph.add(&before, &net.x);
    Ok(())
}

fn middle(net: &mut Net, layers: &mut Layers<'_, '_>, names: &Names, guide: Option<&Guide>) -> Result<(), Error> {
    let Names { middle, middle_norm, .. } = names;
    residual(net, layers, &format!("{middle}.block_1"), guide)?;
    attention(net, layers, names, [&format!("{middle}.attn_1"), middle_norm], guide)?;
    residual(net, layers, &format!("{middle}.block_2"), guide)
}

/// The levels of the encoder, or with a guide of the decoder, which counts them from the last.
fn levels(net: &mut Net, layers: &mut Layers<'_, '_>, names: &Names, guide: Option<&Guide>) -> Result<(), Error> {
    let key = names.levels[usize::from(guide.is_some())];
    let depth = layers.count(|i| format!("{key}.{i}.block.0.conv1.weight"));
    for step in 0..depth {
        let level = format!("{key}.{}", if guide.is_some() { depth - 1 - step } else { step });
        for j in 0..layers.count(|j| format!("{level}.block.{j}.conv1.weight")) {
            residual(net, layers, &format!("{level}.block.{j}"), guide)?;
            let attend = format!("{level}.attn.{j}");
            let norm = names.level_norms.map_or(format!("{attend}.norm"), |norms| format!("{level}.{norms}.{j}"));
            let keys = [attend, norm];
            if layers.contains(&format!("{}.{}.weight", keys[0], names.maps[0])) {
                attention(net, layers, names, keys.each_ref().map(String::as_str), guide)?;
            }
        }
        if step + 1 == depth {
            break;
        }
        if guide.is_some() {
            net.double()?;
            net.conv(&layers.conv(&format!("{level}.upsample.conv"), net.channels, &[3])?)?;
        } else {
            net.halve(&layers.conv(&format!("{level}.downsample.conv"), net.channels, &[3])?)?;
        }
    }
    Ok(())
}

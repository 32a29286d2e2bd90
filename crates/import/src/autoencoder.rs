//! The picture's autoencoder: grids of tokens to pixels (contract `easel.decoder/1`) and back (`easel.encoder/1`).

use serde::Deserialize;

use crate::{
    Error,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Activation, Conv},
    onnx::DataType,
    tensor::Tensor,
};

/// What a block's norm is taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// All channels of all positions.
    #[default]
    Picture,
    /// The channels of each position.
    Position,
}

/// A residual block: depthwise convolution → norm → 1×1 up → GELU (tanh) → 1×1 down → added to the input.
///
/// The norm's weight and bias are part of `up`, a scale of the block's result is part of `down`.
pub(crate) struct Block {
    pub(crate) depthwise: Conv,
    pub(crate) reach: Reach,
    pub(crate) epsilon: f32,
    pub(crate) up: Conv,
    pub(crate) down: Conv,
}

/// How pictures become tokens.
pub(crate) enum Quantizer {
    /// Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): channel i is rounded to one of `levels[i]` values.
    Fsq { levels: Vec<u32> },
}

/// A map under construction: \[b, channels, rows, columns\].
struct Map {
    value: Value,
    channels: usize,
    rows: usize,
    columns: usize,
}

/// The encoder's graph under construction: start, then the blocks, then finish.
pub(crate) struct Encoder {
    graph: Graph,
    map: Map,
}

/// The decoder's graph under construction: start, then blocks and upsamplings, then finish.
pub(crate) struct Decoder {
    graph: Graph,
    map: Map,
}

fn block(graph: &mut Graph, map: &Map, block: &Block) -> Result<Value, Error> {
    let padding = block.depthwise.weight.shape[2] / 2;
    let value = graph.conv(&map.value, &block.depthwise, 1, padding, map.channels)?;
    let x = match block.reach {
        Reach::Picture => norm_picture(graph, &Map { value, ..*map }, block.epsilon)?,
        Reach::Position => norm_positions(graph, &Map { value, ..*map }, block.epsilon)?,
    };
    let x = graph.conv(&x, &block.up, 1, 0, 1)?;
    let x = graph.activate(&x, Activation::GeluTanh)?;
    let x = graph.conv(&x, &block.down, 1, 0, 1)?;
    Ok(graph.add(&map.value, &x))
}

fn norm_picture(graph: &mut Graph, map: &Map, epsilon: f32) -> Result<Value, Error> {
    let one = graph.exact(&Tensor::new("one", &[1], vec![1.0]))?;
    let zero = graph.exact(&Tensor::new("zero", &[1], vec![0.0]))?;
    let flat = graph.reshape(&map.value, &[0, 1, -1])?;
    let epsilon = [("epsilon", Attribute::Float(epsilon))];
    let normed = graph.op("InstanceNormalization", &[&flat, &one, &zero], &epsilon);
    graph.reshape(&normed, &[-1, map.channels as i64, map.rows as i64, map.columns as i64])
}

fn norm_positions(graph: &mut Graph, map: &Map, epsilon: f32) -> Result<Value, Error> {
    let ones = graph.exact(&Tensor::new("ones", &[map.channels], vec![1.0; map.channels]))?;
    let last = graph.transpose(&map.value, &[0, 2, 3, 1]);
    let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
    let normed = graph.op("LayerNormalization", &[&last, &ones], &attributes);
    Ok(graph.transpose(&normed, &[0, 3, 1, 2]))
}

impl Encoder {
    /// `stem` cuts the picture into patches as large as its kernel; `input` is a convolution of any odd kernel.
    pub(crate) fn start(
        mut graph: Graph,
        [height, width]: [usize; 2],
        stem: &Conv,
        input: &Conv,
    ) -> Result<Self, Error> {
        let shape = [Axis::Free("b"), Axis::Of(height), Axis::Of(width), Axis::Of(3)];
        let pixels = graph.input("pixels", DataType::Uint8, &shape);
        graph.scope("encoder");
        let planes = graph.planes(&pixels);
        let (half, one) = (graph.float(127.5)?, graph.float(1.0)?);
        let scaled = graph.op("Div", &[&planes, &half], &[]);
        let x = graph.op("Sub", &[&scaled, &one], &[]);
        let patch = stem.weight.shape[2];
        let x = graph.conv(&x, stem, patch, 0, 1)?;
        let value = graph.conv(&x, input, 1, input.weight.shape[2] / 2, 1)?;
        let map = Map { value, channels: input.weight.shape[0], rows: height / patch, columns: width / patch };
        Ok(Self { graph, map })
    }

    pub(crate) fn block(&mut self, weights: &Block) -> Result<(), Error> {
        self.map.value = block(&mut self.graph, &self.map, weights)?;
        Ok(())
    }

    /// `output` is a 1×1 convolution to the quantiser's channels.
    pub(crate) fn finish(self, output: &Conv, quantizer: &Quantizer) -> Result<Graph, Error> {
        let Self { mut graph, map } = self;
        graph.scope("quantizer");
        let z = graph.conv(&map.value, output, 1, 0, 1)?;
        let tokens = match quantizer {
            Quantizer::Fsq { levels } => fsq(&mut graph, &z, levels)?,
        };
        let tokens = graph.reshape(&tokens, &[-1, (map.rows * map.columns) as i64])?;
        graph.output(&tokens, "tokens", DataType::Int64, &[Axis::Free("b"), Axis::Of(map.rows * map.columns)]);
        Ok(graph)
    }
}

/// \[b, channels, rows, columns\] → tokens \[b, rows, columns\].
fn fsq(graph: &mut Graph, z: &Value, levels: &[u32]) -> Result<Value, Error> {
    let mut constant = |name: &str, of: &dyn Fn(u32) -> f64| {
        let values = levels.iter().map(|l| of(*l) as f32).collect();
        graph.exact(&Tensor::new(name, &[1, levels.len(), 1, 1], values))
    };
    let half = |l: u32| f64::from(l - 1) * 1.001 / 2.0;
    let offset = |l: u32| if l.is_multiple_of(2) { 0.5 } else { 0.0 };
    let shifts = constant("fsq.shift", &|l| (offset(l) / half(l)).atanh())?;
    let halves = constant("fsq.half", &half)?;
    let offsets = constant("fsq.offset", &offset)?;
    let middles = constant("fsq.middle", &|l| f64::from(l / 2))?;
    let place = |i: usize| levels[..i].iter().map(|l| *l as f32).product();
    let places = (0..levels.len()).map(place).collect();
    let places = graph.exact(&Tensor::new("fsq.place", &[1, levels.len(), 1, 1], places))?;
    let shifted = graph.add(z, &shifts);
    let bounded = graph.op("Tanh", &[&shifted], &[]);
    let bounded = graph.mul(&bounded, &halves);
    let bounded = graph.op("Sub", &[&bounded, &offsets], &[]);
    let rounded = graph.op("Round", &[&bounded], &[]);
    let digits = graph.add(&rounded, &middles);
    let parts = graph.mul(&digits, &places);
    let axes = graph.ints(&[1])?;
    let codes = graph.op("ReduceSum", &[&parts, &axes], &[("keepdims", Attribute::Int(0))]);
    Ok(graph.cast(&codes, DataType::Int64))
}

impl Decoder {
    /// `codebook` is \[codes, channels\]; `input` is a 3×3 convolution.
    pub(crate) fn start(
        mut graph: Graph,
        [rows, columns]: [usize; 2],
        codebook: &Tensor,
        input: &Conv,
    ) -> Result<Self, Error> {
        let tokens = graph.input("tokens", DataType::Int64, &[Axis::Free("b"), Axis::Of(rows * columns)]);
        graph.scope("decoder");
        let table = graph.weight(codebook)?;
        let codes = graph.gather(&table, &tokens);
        let x = graph.transpose(&codes, &[0, 2, 1]);
        let x = graph.reshape(&x, &[0, codebook.shape[1] as i64, rows as i64, columns as i64])?;
        let value = graph.conv(&x, input, 1, 1, 1)?;
        let map = Map { value, channels: input.weight.shape[0], rows, columns };
        Ok(Self { graph, map })
    }

    pub(crate) fn block(&mut self, weights: &Block) -> Result<(), Error> {
        self.map.value = block(&mut self.graph, &self.map, weights)?;
        Ok(())
    }

    /// Doubles rows and columns: a 1×1 convolution to four times the new channels and a pixel shuffle.
    pub(crate) fn upsample(&mut self, conv: &Conv) -> Result<(), Error> {
        let wide = self.graph.conv(&self.map.value, conv, 1, 0, 1)?;
        let value = self.graph.pixel_shuffle(&wide, 2);
        let Map { rows, columns, .. } = self.map;
        self.map = Map { value, channels: conv.weight.shape[0] / 4, rows: 2 * rows, columns: 2 * columns };
        Ok(())
    }

    /// `output` is a 3×3 convolution to the pixels −1 … 1 of `shuffle`² places.
    pub(crate) fn finish(self, output: &Conv, shuffle: usize) -> Result<Graph, Error> {
        let Self { mut graph, map } = self;
        graph.scope("pixels");
        let x = graph.conv(&map.value, output, 1, 1, 1)?;
        let x = graph.pixel_shuffle(&x, shuffle);
        let (low, one) = (graph.float(-1.0)?, graph.float(1.0)?);
        let (half, most) = (graph.float(0.5)?, graph.float(255.0)?);
        let x = graph.op("Clip", &[&x, &low, &one], &[]);
        let x = graph.add(&x, &one);
        let x = graph.mul(&x, &half);
        let x = graph.mul(&x, &most);
        let x = graph.op("Round", &[&x], &[]);
        let x = graph.cast(&x, DataType::Uint8);
        let pixels = graph.transpose(&x, &[0, 2, 3, 1]);
        let [height, width] = [map.rows * shuffle, map.columns * shuffle];
        let shape = [Axis::Free("b"), Axis::Of(height), Axis::Of(width), Axis::Of(3)];
        graph.output(&pixels, "pixels", DataType::Uint8, &shape);
        Ok(graph)
    }
}

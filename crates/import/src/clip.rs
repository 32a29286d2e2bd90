//! CLIP's two towers (Radford et al. 2021; openai/CLIP `model.py`): pictures and captions to unit vectors, contract `easel.ranker/1`.

use crate::{
    Error,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Activation, Conv, Linear, Norm},
    onnx::DataType,
    tensor::Tensor,
};

/// A block of either tower.
pub(crate) struct Block {
    pub(crate) attention_norm: Norm,
    /// Queries, then keys, then values.
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) mlp_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// What both towers share: sizes, and a graph that takes one block at a time.
pub(crate) struct Tower {
    graph: Graph,
    hidden: Value,
    width: usize,
    heads: usize,
    length: usize,
    activation: Activation,
    /// Added to the scores.
    mask: Option<Value>,
    blocks: usize,
    /// Of the text tower.
    token_ids: Option<Value>,
    /// Of a vision tower that has one: \[b, width\], and that width.
    layout: Option<(Value, usize)>,
}

/// The picture's way into the transformer.
pub(crate) struct Vision {
    pub(crate) mean: [f32; 3],
    pub(crate) std: [f32; 3],
    /// Kernel and stride are the patch.
    pub(crate) patches: Conv,
    /// \[width\]
    pub(crate) class: Tensor,
    /// \[patches + 1, width\]
    pub(crate) position: Tensor,
    pub(crate) norm: Norm,
    pub(crate) layout: Option<Layout>,
}

/// What lies where in a picture, beside what the transformer sees in it: a linear map of the mean colours of equal squares, scaled to
/// the length `scale` and put behind the transformer's embedding of length 1. Not part of Radford et al. 2021.
pub(crate) struct Layout {
    /// The kernel covers all squares.
    pub(crate) map: Conv,
    pub(crate) scale: f32,
}

/// The end of a tower; `projection` is \[embedding width, width\].
pub(crate) struct Pool {
    pub(crate) norm: Norm,
    pub(crate) projection: Linear,
}

impl Tower {
    pub(crate) fn vision(
        mut graph: Graph,
        image_size: usize,
        heads: usize,
        activation: Activation,
        weights: Vision,
    ) -> Result<Self, Error> {
        let shape = [Axis::Free("b"), Axis::Of(image_size), Axis::Of(image_size), Axis::Of(3)];
        let pixels = graph.input("pixels", DataType::Uint8, &shape);
        graph.scope("patches");
        let planes = graph.planes(&pixels);
        let x = normalise(&mut graph, &planes, weights.mean, weights.std)?;
        let layout = weights.layout.map(|layout| layout.of(&mut graph, &x, image_size)).transpose()?;
        let [width, patch] = [weights.patches.weight.shape[0], weights.patches.weight.shape[2]];
        let x = graph.conv(&x, &weights.patches, patch, 0, 1)?;
        let x = graph.reshape(&x, &[0, width as i64, -1])?;
        let x = graph.transpose(&x, &[0, 2, 1]);
        // The class token is a row of zeros in front, which gets its embedding with its position.
        let mut position = weights.position;
        position.values.iter_mut().zip(&weights.class.values).for_each(|(p, c)| *p += c);
        let (pads, zero) = (graph.ints(&[0, 1, 0, 0, 0, 0])?, graph.float(0.0)?);
        let x = graph.op("Pad", &[&x, &pads, &zero], &[]);
        let position = graph.weight(&position)?;
        let x = graph.add(&x, &position);
        let hidden = graph.norm(&x, &weights.norm)?;
        let length = (image_size / patch).pow(2) + 1;
        Ok(Self { graph, hidden, width, heads, length, activation, mask: None, blocks: 0, token_ids: None, layout })
    }

    /// `tokens` is \[vocabulary, width\], `position` \[context length, width\].
    pub(crate) fn text(
        mut graph: Graph,
        heads: usize,
        activation: Activation,
        tokens: &Tensor,
        position: &Tensor,
    ) -> Result<Self, Error> {
        let [length, width] = [position.shape[0], position.shape[1]];
        let token_ids = graph.input("token_ids", DataType::Int64, &[Axis::Free("b"), Axis::Of(length)]);
        graph.scope("embedding");
        let (table, position) = (graph.weight(tokens)?, graph.weight(position)?);
        let x = graph.gather(&table, &token_ids);
        let hidden = graph.add(&x, &position);
        let unseen = |i: usize| if i % length > i / length { -1e4 } else { 0.0 };
        let causal = Tensor::new("causal", &[length, length], (0..length * length).map(unseen).collect());
        let mask = Some(graph.exact(&causal)?);
        let token_ids = Some(token_ids);
        Ok(Self { graph, hidden, width, heads, length, activation, mask, blocks: 0, token_ids, layout: None })
    }

    pub(crate) fn block(&mut self, block: &Block) -> Result<(), Error> {
        self.graph.scope(format!("blocks.{}", self.blocks));
        let normed = self.graph.norm(&self.hidden, &block.attention_norm)?;
        let context = self.attention(&normed, &block.qkv)?;
        let graph = &mut self.graph;
        let attended = graph.linear(&context, &block.out)?;
        let hidden = graph.add(&self.hidden, &attended);
        let normed = graph.norm(&hidden, &block.mlp_norm)?;
        let up = graph.linear(&normed, &block.up)?;
        let up = graph.activate(&up, self.activation)?;
        let down = graph.linear(&up, &block.down)?;
        self.hidden = graph.add(&hidden, &down);
        self.blocks += 1;
        Ok(())
    }

    fn attention(&mut self, x: &Value, qkv: &Linear) -> Result<Value, Error> {
        let [width, heads, length] = [self.width, self.heads, self.length].map(|n| n as i64);
        let graph = &mut self.graph;
        let qkv = graph.linear(x, qkv)?;
        let sizes = graph.ints(&[width; 3])?;
        let [q, k, v] = graph.op_of("Split", &[&qkv, &sizes], &[("axis", Attribute::Int(2))]);
        let mut split = |x: &Value, axes: &[i64]| {
            let x = graph.reshape(x, &[0, length, heads, width / heads])?;
            Ok::<_, Error>(graph.transpose(&x, axes))
        };
        let (q, k, v) = (split(&q, &[0, 2, 1, 3])?, split(&k, &[0, 2, 3, 1])?, split(&v, &[0, 2, 1, 3])?);
        let scale = graph.float(1.0 / ((width / heads) as f32).sqrt())?;
        let q = graph.mul(&q, &scale);
        let mut scores = graph.op("MatMul", &[&q, &k], &[]);
        if let Some(mask) = &self.mask {
            scores = graph.add(&scores, mask);
        }
        let shares = graph.op("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let context = graph.op("MatMul", &[&shares, &v], &[]);
        let context = graph.transpose(&context, &[0, 2, 1, 3]);
        graph.reshape(&context, &[0, length, width])
    }

    /// Takes the class token, or the caption's end token (the highest id), to the joint space.
    pub(crate) fn finish(self, pool: &Pool) -> Result<Graph, Error> {
        let Self { mut graph, hidden, token_ids, layout, .. } = self;
        graph.scope("pool");
        let pooled = match token_ids {
            None => {
                let first = graph.int(0)?;
                graph.op("Gather", &[&hidden, &first], &[("axis", Attribute::Int(1))])
            }
            Some(ids) => {
                let ids = graph.cast(&ids, DataType::Int32);
                let ends = graph.op("ArgMax", &[&ids], &[("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))]);
                graph.op("GatherND", &[&hidden, &ends], &[("batch_dims", Attribute::Int(1))])
            }
        };
        let normed = graph.norm(&pooled, &pool.norm)?;
        let projected = graph.linear(&normed, &pool.projection)?;
        let mut embeddings = graph.unit(&projected)?;
        let mut embedding_width = pool.projection.weight.shape[0];
        if let Some((layout, width)) = layout {
            let both = graph.op("Concat", &[&embeddings, &layout], &[("axis", Attribute::Int(1))]);
            embeddings = graph.unit(&both)?;
            embedding_width += width;
        }
        let shape = [Axis::Free("b"), Axis::Of(embedding_width)];
        graph.output(&embeddings, "embeddings", DataType::Float, &shape);
        Ok(graph)
    }
}

impl Layout {
    /// Normalised planes \[b, 3, side, side\] → \[b, width\], and that width.
    fn of(&self, graph: &mut Graph, planes: &Value, side: usize) -> Result<(Value, usize), Error> {
        graph.scope("layout");
        let [width, squares] = [self.map.weight.shape[0], self.map.weight.shape[2]];
        let square = vec![(side / squares) as i64; 2];
        let means = [("kernel_shape", Attribute::Ints(square.clone())), ("strides", Attribute::Ints(square))];
        let means = graph.op("AveragePool", &[planes], &means);
        let mapped = graph.conv(&means, &self.map, 1, 0, 1)?;
        let mapped = graph.reshape(&mapped, &[0, width as i64])?;
        let (unit, scale) = (graph.unit(&mapped)?, graph.float(self.scale)?);
        graph.scope("patches");
        Ok((graph.mul(&unit, &scale), width))
    }
}

/// Planes 0 … 255 → (x / 255 − mean) / std.
fn normalise(graph: &mut Graph, planes: &Value, mean: [f32; 3], std: [f32; 3]) -> Result<Value, Error> {
    let most = graph.float(255.0)?;
    let mean = graph.exact(&Tensor::new("mean", &[1, 3, 1, 1], mean.into()))?;
    let std = graph.exact(&Tensor::new("std", &[1, 3, 1, 1], std.into()))?;
    let x = graph.op("Div", &[planes, &most], &[]);
    let x = graph.op("Sub", &[&x, &mean], &[]);
    Ok(graph.op("Div", &[&x, &std], &[]))
}

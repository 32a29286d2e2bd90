//! The sampler's graph (contract `easel.sampler/1`): one builder of decoder-only transformers over \[text | image\] tokens, fed a layer at a time.
//!
//! Keys and values are no inputs of the graph: the operator `easel.Attention` writes the rows' own into the engine's pool at (slot, layer, position) and reads
//! back those that the layer's mask lets each row see. Its inputs are `query`, `key`, `value` f32 \[n, heads · head width\], `slots` i64 \[n\] and
//! `positions` i64 \[n\], its output `context` f32 \[n, heads · head width\].

use crate::{
    Error, Mask,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Activation, Linear, Norm},
    onnx::DataType,
    tensor::Tensor,
};

/// Sizes of the whole network.
pub(crate) struct Geometry {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    pub(crate) text_length: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) codebook: usize,
    /// Side of the square that [`Mask::Conv`] sees.
    pub(crate) kernel: usize,
    /// Applied to q · k.
    pub(crate) attention_scale: f32,
    /// ε of the root mean square that q and k are divided by, head by head; none: they are not.
    pub(crate) qk_norm: Option<f32>,
    pub(crate) activation: Activation,
}

/// Token and position tables.
pub(crate) struct Embedding {
    /// \[text ids, width\]
    pub(crate) text: Tensor,
    /// \[codebook, width\]
    pub(crate) image: Tensor,
    /// \[text length + cells, width\]
    pub(crate) position: Tensor,
}

pub(crate) struct Layer {
    pub(crate) mask: Mask,
    pub(crate) attention_norm: Norm,
    /// Queries, then keys, then values.
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) mlp_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// From the last layer to logits.
pub(crate) struct Head {
    pub(crate) norm: Norm,
    pub(crate) linear: Linear,
}

/// A graph under construction: [`Transformer::start`], then [`Transformer::layer`] for each layer, then [`Transformer::finish`].
pub(crate) struct Transformer {
    geometry: Geometry,
    graph: Graph,
    slots: Value,
    positions: Value,
    logit_rows: Value,
    /// The image embedding and its values, in case the head is the same matrix.
    image: (Value, Tensor),
    hidden: Value,
    layers: usize,
}

impl Transformer {
    pub(crate) fn start(mut graph: Graph, geometry: Geometry, embedding: Embedding) -> Result<Self, Error> {
        let n = [Axis::Free("n")];
        let token_ids = graph.input("token_ids", DataType::Int64, &n);
        let positions = graph.input("positions", DataType::Int64, &n);
        let slots = graph.input("slots", DataType::Int64, &n);
        let logit_rows = graph.input("logit_rows", DataType::Int64, &[Axis::Free("m")]);
        graph.scope("embedding");
        let text_ids = embedding.text.shape[0] as i64;
        let tables = [graph.weight(&embedding.text)?, graph.weight(&embedding.image)?];
        let table = graph.op("Concat", &[&tables[0], &tables[1]], &[("axis", Attribute::Int(0))]);
        let (first_image, text_ids) = (graph.int(geometry.text_length as i64)?, graph.int(text_ids)?);
        let is_image = graph.op("GreaterOrEqual", &[&positions, &first_image], &[]);
        let is_image = graph.cast(&is_image, DataType::Int64);
        let offset = graph.mul(&is_image, &text_ids);
        let ids = graph.add(&token_ids, &offset);
        let places = graph.weight(&embedding.position)?;
        let (tokens, places) = (graph.gather(&table, &ids), graph.gather(&places, &positions));
        let hidden = graph.add(&tokens, &places);
        let [_, image] = tables;
        let image = (image, embedding.image);
        Ok(Self { geometry, graph, slots, positions, logit_rows, image, hidden, layers: 0 })
    }

    pub(crate) fn layer(&mut self, layer: &Layer) -> Result<(), Error> {
        let last = self.layers + 1 == self.geometry.layers;
        self.graph.scope(format!("layers.{}", self.layers));
        let normed = self.graph.norm(&self.hidden, &layer.attention_norm)?;
        let mut context = self.attention(&normed, layer)?;
        if last {
            // What follows the last attention matters only where logits are asked for.
            context = self.graph.gather(&context, &self.logit_rows);
            self.hidden = self.graph.gather(&self.hidden, &self.logit_rows);
        }
        let graph = &mut self.graph;
        let attended = graph.linear(&context, &layer.out)?;
        let hidden = graph.add(&self.hidden, &attended);
        let normed = graph.norm(&hidden, &layer.mlp_norm)?;
        let up = graph.linear(&normed, &layer.up)?;
        let up = graph.activate(&up, self.geometry.activation)?;
        let down = graph.linear(&up, &layer.down)?;
        self.hidden = graph.add(&hidden, &down);
        self.layers += 1;
        Ok(())
    }

    fn attention(&mut self, x: &Value, layer: &Layer) -> Result<Value, Error> {
        let Geometry { width, heads, .. } = self.geometry;
        let graph = &mut self.graph;
        let qkv = graph.linear(x, &layer.qkv)?;
        let [query, key, value] = if let Some(epsilon) = self.geometry.qk_norm {
            let sizes = graph.ints(&[2 * width as i64, width as i64])?;
            let [qk, value] = graph.op_of("Split", &[&qkv, &sizes], &[("axis", Attribute::Int(1))]);
            let qk = graph.reshape(&qk, &[0, 2 * heads as i64, (width / heads) as i64])?;
            let ones = Tensor::new("ones", &[width / heads], vec![1.0; width / heads]);
            let qk = graph.rms_norm(&qk, &ones, epsilon)?;
            let qk = graph.reshape(&qk, &[0, 2 * width as i64])?;
            let sizes = graph.ints(&[width as i64, width as i64])?;
            let [query, key] = graph.op_of("Split", &[&qk, &sizes], &[("axis", Attribute::Int(1))]);
            [query, key, value]
        } else {
            let sizes = graph.ints(&[width as i64; 3])?;
            graph.op_of("Split", &[&qkv, &sizes], &[("axis", Attribute::Int(1))])
        };
        let attributes = self.attention_attributes(layer.mask);
        let inputs = [&query, &key, &value, &self.slots, &self.positions];
        Ok(self.graph.easel_op("Attention", &inputs, &attributes, &[Axis::Free("n"), Axis::Of(width)]))
    }

    fn attention_attributes(&self, mask: Mask) -> Vec<(&'static str, Attribute)> {
        let g = &self.geometry;
        let mut attributes = vec![
            ("layer", Attribute::Int(self.layers as i64)),
            ("heads", Attribute::Int(g.heads as i64)),
            ("mask", Attribute::Text(mask.name())),
            ("text_length", Attribute::Int(g.text_length as i64)),
            ("rows", Attribute::Int(g.rows as i64)),
            ("columns", Attribute::Int(g.columns as i64)),
            ("scale", Attribute::Float(g.attention_scale)),
        ];
        if mask == Mask::Conv {
            attributes.push(("kernel", Attribute::Int(g.kernel as i64)));
        }
        attributes
    }

    pub(crate) fn finish(mut self, head: &Head) -> Result<Graph, Error> {
        assert_eq!(self.layers, self.geometry.layers, "every layer was given");
        let graph = &mut self.graph;
        graph.scope("head");
        let normed = graph.norm(&self.hidden, &head.norm)?;
        let (image, values) = &self.image;
        let logits = if head.linear.weight.values == values.values {
            // A head tied to the embedding is stored once.
            let weight = graph.transpose(image, &[1, 0]);
            let logits = graph.op("MatMul", &[&normed, &weight], &[]);
            match &head.linear.bias {
                Some(bias) => {
                    let bias = graph.weight(bias)?;
                    graph.add(&logits, &bias)
                }
                None => logits,
            }
        } else {
            graph.linear(&normed, &head.linear)?
        };
        let shape = [Axis::Free("m"), Axis::Of(self.geometry.codebook)];
        graph.output(&logits, "logits", DataType::Float, &shape);
        Ok(self.graph)
    }
}

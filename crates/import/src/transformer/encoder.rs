//! The text encoder's graph (contracts `easel.text_encoder/1` and `/2`): a whole text at once, every token of which sees all the others.

use super::{Attention, Mlp, feed_forward};
use crate::{
    Error,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Activation, Linear, Normalization},
    onnx::DataType,
    tensor::Tensor,
};

/// A graph under construction: [`Encoder::start`] or [`Encoder::start_relative`], then [`Encoder::layer`] for each layer, then [`Encoder::finish`] or
/// [`Encoder::embed`].
pub(crate) struct Encoder {
    graph: Graph,
    ids: Value,
    heads: usize,
    hidden: Value,
    /// Added to the scores of every layer, \[heads, s, s\].
    biases: Option<Value>,
    layers: usize,
}

/// What makes embeddings of an encoder's features: two maps and what is between them.
pub(crate) struct Projection {
    /// \[text positions, feature width\]: features of the ids that are no tokens, by position.
    pub(crate) blank: Tensor,
    pub(crate) maps: [Linear; 2],
    pub(crate) activation: Activation,
}

impl Encoder {
    /// Tables of tokens \[text ids, width\] and of positions \[text length, width\], and the norm of their sum.
    pub(crate) fn start(
        mut graph: Graph,
        heads: usize,
        [tokens, positions]: [&Tensor; 2],
        norm: &Normalization,
    ) -> Result<Self, Error> {
        let ids = graph.input("token_ids", DataType::Int64, &[Axis::Free("s")]);
        graph.scope("embedding");
        graph.in_blocks();
        let (tokens, positions) = (graph.weight(tokens)?, graph.weight(positions)?);
        let length = graph.op("Size", &[&ids], &[]);
        let (zero, one) = (graph.int(0)?, graph.int(1)?);
        let places = graph.op("Range", &[&zero, &length, &one], &[]);
        let (tokens, positions) = (graph.gather(&tokens, &ids), graph.gather(&positions, &places));
        let sum = graph.add(&tokens, &positions);
        let hidden = graph.normalize(&sum, norm)?;
        Ok(Self { graph, ids, heads, hidden, biases: None, layers: 0 })
    }

    /// A table of tokens \[text ids, width\], and what is added to scores \[2 · text length − 1, heads\] by how far the key is behind the query, from the
    /// farthest before it on. Higher ids are no tokens.
    pub(crate) fn start_relative(
        mut graph: Graph,
        [tokens, biases]: [&Tensor; 2],
        text_length: usize,
    ) -> Result<Self, Error> {
        let ids = graph.input("token_ids", DataType::Int64, &[Axis::Free("s")]);
        graph.scope("embedding");
        graph.in_blocks();
        let (table, last) = (graph.weight(tokens)?, graph.int(tokens.shape[0] as i64 - 1)?);
        let known = graph.op("Min", &[&ids, &last], &[]);
        let hidden = graph.gather(&table, &known);
        let (zero, one, farthest) = (graph.int(0)?, graph.int(1)?, graph.int(text_length as i64 - 1)?);
        let length = graph.op("Size", &[&ids], &[]);
        let keys = graph.op("Range", &[&zero, &length, &one], &[]);
        let queries = graph.reshape(&keys, &[-1, 1])?;
        let distance = graph.op("Sub", &[&keys, &queries], &[]);
        let distance = graph.add(&distance, &farthest);
        let table = graph.exact(biases)?;
        let of_pairs = graph.gather(&table, &distance);
        let of_pairs = graph.transpose(&of_pairs, &[2, 0, 1]);
        Ok(Self { graph, ids, heads: biases.shape[1], hidden, biases: Some(of_pairs), layers: 0 })
    }

    /// Of the attention, the mask and the norm of heads do not count; queries are not scaled by themselves, but by `scale`.
    pub(crate) fn layer(&mut self, attention: &Attention, mlp: &Mlp, scale: f32) -> Result<(), Error> {
        let graph = &mut self.graph;
        graph.scope(format!("layers.{}", self.layers));
        let normed = normalized(graph, &self.hidden, attention.norm.as_ref())?;
        let qkv = graph.linear(&normed, &attention.qkv)?;
        let width = attention.out.weight.shape[1];
        let parts = graph.reshape(&qkv, &[0, 3, self.heads as i64, (width / self.heads) as i64])?;
        let parts = graph.transpose(&parts, &[1, 2, 0, 3]);
        let sizes = graph.ints(&[1; 3])?;
        let [query, key, value] = graph.op_of("Split", &[&parts, &sizes], &[("axis", Attribute::Int(0))]);
        let scale = graph.float(scale)?;
        let query = graph.mul(&query, &scale);
        let key = graph.transpose(&key, &[0, 1, 3, 2]);
        let mut scores = graph.op("MatMul", &[&query, &key], &[]);
        if let Some(biases) = &self.biases {
            scores = graph.add(&scores, biases);
        }
        let weights = graph.op("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let context = graph.op("MatMul", &[&weights, &value], &[]);
        let context = graph.transpose(&context, &[2, 0, 1, 3]);
        let context = graph.reshape(&context, &[0, width as i64])?;
        let attended = graph.linear(&context, &attention.out)?;
        let attended = normalized(graph, &attended, attention.post_norm.as_ref())?;
        let hidden = graph.add(&self.hidden, &attended);
        let normed = normalized(graph, &hidden, mlp.norm.as_ref())?;
        let down = feed_forward(graph, &normed, mlp)?;
        let down = normalized(graph, &down, mlp.post_norm.as_ref())?;
        self.hidden = graph.add(&hidden, &down);
        self.layers += 1;
        Ok(())
    }

    /// With the norm of what the last layer gives, and what makes embeddings of that.
    pub(crate) fn embed(self, norm: &Normalization, text_ids: usize, projection: &Projection) -> Result<Graph, Error> {
        let Self { mut graph, ids, hidden, .. } = self;
        graph.scope("embeddings");
        let features = graph.normalize(&hidden, norm)?;
        let positions = projection.blank.shape[0] as i64;
        let (end, one, text_ids) = (graph.int(positions)?, graph.int(1)?, graph.int(text_ids as i64)?);
        let length = graph.op("Size", &[&ids], &[]);
        let start = graph.op("Sub", &[&end, &length], &[]);
        let places = graph.op("Range", &[&start, &end, &one], &[]);
        let table = graph.weight(&projection.blank)?;
        let blank = graph.gather(&table, &places);
        let is_blank = graph.op("GreaterOrEqual", &[&ids, &text_ids], &[]);
        let is_blank = graph.reshape(&is_blank, &[-1, 1])?;
        let features = graph.op("Where", &[&is_blank, &blank, &features], &[]);
        let [first, second] = &projection.maps;
        let inner = graph.linear(&features, first)?;
        let inner = graph.activate(&inner, projection.activation)?;
        let embeddings = graph.linear(&inner, second)?;
        let shape = [Axis::Free("s"), Axis::Of(second.weight.shape[0])];
        graph.output(&embeddings, "embeddings", DataType::Float, &shape);
        Ok(graph)
    }

    /// With the norm of what the last layer gives, and the keys' and values' maps of every layer of the decoder.
    pub(crate) fn finish(mut self, norm: &Normalization, keys_values: &[[Linear; 2]]) -> Result<Graph, Error> {
        let graph = &mut self.graph;
        graph.scope("keys_values");
        let hidden = graph.normalize(&self.hidden, norm)?;
        let mut all = Vec::new();
        for [key, value] in keys_values {
            for map in [key, value] {
                let numbers = graph.linear(&hidden, map)?;
                all.push(graph.reshape(&numbers, &[1, -1, map.weight.shape[0] as i64])?);
            }
        }
        let width = keys_values.first().map_or(0, |[key, _]| key.weight.shape[0]);
        let all = graph.op("Concat", &all.iter().collect::<Vec<_>>(), &[("axis", Attribute::Int(0))]);
        let all = graph.reshape(&all, &[keys_values.len() as i64, 2, -1, width as i64])?;
        let shape = [Axis::Of(keys_values.len()), Axis::Of(2), Axis::Free("s"), Axis::Of(width)];
        graph.output(&all, "keys_values", DataType::Float, &shape);
        Ok(self.graph)
    }
}

fn normalized(graph: &mut Graph, x: &Value, norm: Option<&Normalization>) -> Result<Value, Error> {
    norm.map_or_else(|| Ok(x.clone()), |norm| graph.normalize(x, norm))
}

//! The text encoder's graph (contract `easel.text_encoder/1`): a whole text at once, every token of which sees all the others.

use super::{Attention, Mlp, feed_forward};
use crate::{
    Error,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Linear, Normalization},
    onnx::DataType,
    tensor::Tensor,
};

/// A graph under construction: [`Encoder::start`], then [`Encoder::layer`] for each layer, then [`Encoder::finish`].
pub(crate) struct Encoder {
    graph: Graph,
    heads: usize,
    hidden: Value,
    layers: usize,
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
        graph.in_blocks(&ids)?;
        let (tokens, positions) = (graph.weight(tokens)?, graph.weight(positions)?);
        let length = graph.op("Size", &[&ids], &[]);
        let (zero, one) = (graph.int(0)?, graph.int(1)?);
        let places = graph.op("Range", &[&zero, &length, &one], &[]);
        let (tokens, positions) = (graph.gather(&tokens, &ids), graph.gather(&positions, &places));
        let sum = graph.add(&tokens, &positions);
        let hidden = graph.normalize(&sum, norm)?;
        Ok(Self { graph, heads, hidden, layers: 0 })
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
        let scores = graph.op("MatMul", &[&query, &key], &[]);
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

//! Queries, keys and values, and the operators that attend.

use super::{Attention, CrossAttention, HeadNorm, Layer, Pairs, Rotary, Transformer};
use crate::{
    Error, Mask,
    graph::{Attribute, Axis, Graph, Value},
    layers::Norm,
    tensor::Tensor,
};

/// The rows' cosines and sines, \[n, 1, numbers that are turned\].
pub(super) struct Rotation {
    cosines: Value,
    sines: Value,
    width: usize,
    pairs: Pairs,
    values: bool,
}

impl Rotation {
    pub(super) fn new(graph: &mut Graph, rotary: &Rotary, places: &Value) -> Result<Self, Error> {
        let width = rotary.cosines.shape[1];
        let mut rows = |table: &Tensor| {
            let table = graph.exact(table)?;
            let rows = graph.gather(&table, places);
            graph.reshape(&rows, &[0, 1, width as i64])
        };
        let (cosines, sines) = (rows(&rotary.cosines)?, rows(&rotary.sines)?);
        Ok(Self { cosines, sines, width, pairs: rotary.pairs, values: rotary.values })
    }

    /// x \[n, heads, head width\] with its pairs turned.
    fn turn(&self, graph: &mut Graph, x: &Value, head_width: usize) -> Result<Value, Error> {
        let split = |graph: &mut Graph, x: &Value, sizes: [usize; 2]| {
            let sizes = graph.ints(&sizes.map(|n| n as i64))?;
            Ok::<[Value; 2], Error>(graph.op_of("Split", &[x, &sizes], &[("axis", Attribute::Int(2))]))
        };
        let join =
            |graph: &mut Graph, a: &Value, b: &Value| graph.op("Concat", &[a, b], &[("axis", Attribute::Int(2))]);
        let (x, rest) = if self.width < head_width {
            let [x, rest] = split(graph, x, [self.width, head_width - self.width])?;
            (x, Some(rest))
        } else {
            (x.clone(), None)
        };
        let other = match self.pairs {
            Pairs::Halves => {
                let [a, b] = split(graph, &x, [self.width / 2; 2])?;
                let b = graph.op("Neg", &[&b], &[]);
                join(graph, &b, &a)
            }
            Pairs::Neighbours => {
                let partners: Vec<i64> = (0..self.width as i64).map(|i| i ^ 1).collect();
                let signs = (0..self.width).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 }).collect();
                let (partners, signs) =
                    (graph.ints(&partners)?, graph.exact(&Tensor::new("signs", &[self.width], signs))?);
                let swapped = graph.op("Gather", &[&x, &partners], &[("axis", Attribute::Int(2))]);
                graph.mul(&swapped, &signs)
            }
        };
        let (x, other) = (graph.mul(&x, &self.cosines), graph.mul(&other, &self.sines));
        let turned = graph.add(&x, &other);
        Ok(rest.map_or(turned.clone(), |rest| join(graph, &turned, &rest)))
    }
}

impl Transformer {
    pub(super) fn attention(&mut self, x: &Value, layer: &Layer) -> Result<Value, Error> {
        let [query, key, value] = self.query_key_value(x, &layer.attention)?;
        if let Some(stock) = &mut self.stock {
            let (graph, kind) = (&mut self.graph, (self.layers, layer.attention.mask));
            return stock.attend(graph, &self.geometry, kind, [&query, &key, &value]);
        }
        let mut attributes = self.attributes();
        let (mask, hidden) = (layer.attention.mask, layer.cross.is_some());
        attributes.push(("mask", Attribute::Text(mask.name())));
        attributes.push(("rows", Attribute::Int(self.geometry.rows as i64)));
        attributes.push(("columns", Attribute::Int(self.geometry.columns as i64)));
        if matches!(mask, Mask::Conv | Mask::Corner | Mask::Torus) {
            attributes.push(("kernel", Attribute::Int(self.geometry.kernel as i64)));
        }
        if hidden {
            attributes.push(("text", Attribute::Text("hidden")));
        }
        let inputs = [&query, &key, &value, &self.inputs.slots, &self.inputs.positions];
        Ok(self.graph.easel_op("Attention", &inputs, &attributes, &self.context_shape()))
    }

    pub(super) fn cross_attention(&mut self, x: &Value, cross: &CrossAttention) -> Result<Value, Error> {
        let query = self.graph.linear(x, &cross.query)?;
        let inputs = [&query, &self.inputs.slots, &self.inputs.positions];
        let attributes = self.attributes();
        Ok(self.graph.easel_op("CrossAttention", &inputs, &attributes, &self.context_shape()))
    }

    fn context_shape(&self) -> [Axis; 2] {
        [Axis::Free("n"), Axis::Of(self.geometry.query_heads * self.geometry.head_width)]
    }

    /// What both operators have.
    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let g = &self.geometry;
        let mut attributes = vec![
            ("layer", Attribute::Int(self.layers as i64)),
            ("heads", Attribute::Int(g.heads as i64)),
            ("text_length", Attribute::Int(g.text_length as i64)),
            ("scale", Attribute::Float(g.attention_scale)),
        ];
        if g.mask_text_length != g.text_length {
            attributes.push(("mask_text_length", Attribute::Int(g.mask_text_length as i64)));
        }
        if g.query_heads != g.heads {
            attributes.push(("query_heads", Attribute::Int(g.query_heads as i64)));
        }
        attributes
    }

    fn query_key_value(&mut self, x: &Value, attention: &Attention) -> Result<[Value; 3], Error> {
        let qkv = self.graph.linear(x, &attention.qkv)?;
        let (queries, keys, head_width) = (self.geometry.query_heads, self.geometry.heads, self.geometry.head_width);
        let graph = &mut self.graph;
        let along = |axis: i64| [("axis", Attribute::Int(axis))];
        let heads = [queries, keys, keys].map(|heads| heads as i64);
        let (all, width): (i64, _) = (heads.iter().sum(), head_width as i64);
        match (&attention.head_norm, &self.rotation) {
            (None, None) => {
                let sizes = graph.ints(&heads.map(|heads| heads * width))?;
                return Ok(graph.op_of("Split", &[&qkv, &sizes], &along(1)));
            }
            (Some(HeadNorm::RootMeanSquare(epsilon)), None) => return unit(graph, &qkv, heads, width, *epsilon),
            _ => {}
        }
        let mut parts = graph.reshape(&qkv, &[0, all, width])?;
        if let Some(norm) = &attention.head_norm {
            let sizes = graph.ints(&[heads[0] + heads[1], heads[2]])?;
            let [both, value] = graph.op_of("Split", &[&parts, &sizes], &along(1));
            let both = match norm {
                HeadNorm::RootMeanSquare(epsilon) => graph.rms_norm(&both, &ones(width), *epsilon)?,
                HeadNorm::Layer(norm) => normed_heads(graph, &both, norm)?,
            };
            parts = graph.op("Concat", &[&both, &value], &along(1));
        }
        match &self.rotation {
            Some(rotation) if rotation.values => parts = rotation.turn(graph, &parts, head_width)?,
            Some(rotation) => {
                let sizes = graph.ints(&[heads[0] + heads[1], heads[2]])?;
                let [turned, value] = graph.op_of("Split", &[&parts, &sizes], &along(1));
                let turned = rotation.turn(graph, &turned, head_width)?;
                parts = graph.op("Concat", &[&turned, &value], &along(1));
            }
            None => {}
        }
        let flat = graph.reshape(&parts, &[0, all * width])?;
        let sizes = graph.ints(&heads.map(|heads| heads * width))?;
        Ok(graph.op_of("Split", &[&flat, &sizes], &along(1)))
    }
}

/// Queries, keys and values of which the first two are scaled together to a root mean square of 1, head by head.
fn unit(graph: &mut Graph, qkv: &Value, heads: [i64; 3], width: i64, epsilon: f32) -> Result<[Value; 3], Error> {
    let axis = [("axis", Attribute::Int(1))];
    let [queries, keys, values] = heads.map(|heads| heads * width);
    let sizes = graph.ints(&[queries + keys, values])?;
    let [both, value] = graph.op_of("Split", &[qkv, &sizes], &axis);
    let both = graph.reshape(&both, &[0, heads[0] + heads[1], width])?;
    let both = graph.rms_norm(&both, &ones(width), epsilon)?;
    let both = graph.reshape(&both, &[0, queries + keys])?;
    let sizes = graph.ints(&[queries, keys])?;
    let [query, key] = graph.op_of("Split", &[&both, &sizes], &axis);
    Ok([query, key, value])
}

/// x \[n, heads, head width\] with mean 0 and variance 1 in each head, then a weight and a bias of each head's own.
fn normed_heads(graph: &mut Graph, x: &Value, norm: &Norm) -> Result<Value, Error> {
    let ones = graph.exact(&ones(norm.weight.shape[1] as i64))?;
    let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(norm.epsilon))];
    let normed = graph.op("LayerNormalization", &[x, &ones], &attributes);
    let (weight, bias) = (graph.exact(&norm.weight)?, graph.exact(&norm.bias)?);
    let scaled = graph.mul(&normed, &weight);
    Ok(graph.add(&scaled, &bias))
}

fn ones(width: i64) -> Tensor {
    Tensor::new("ones", &[width as usize], vec![1.0; width as usize])
}

//! The sampler's graph (contracts `easel.sampler/1` and `/2`): one builder of transformers that continue \[text | image\] tokens, fed a layer at a time.
//!
//! What families differ in is told by [`Geometry`], [`Embedding`], [`Layer`] and [`Head`]. Keys and values are no inputs of the graph: the operators of the
//! domain `easel` write the rows' own into the engine's pool at (slot, layer, position) and read back what each row may see.

mod attention;
mod encoder;
mod parts;
mod stock;

use easel_package::Device;

use crate::{
    Error,
    graph::{Attribute, Axis, Graph, Value},
    layers::{Activation, Linear, Normalization},
    onnx::DataType,
    tensor::Tensor,
};

pub(crate) use encoder::{Encoder, Projection};
pub(crate) use parts::{
    Attention, Count, CrossAttention, Embedding, Geometry, Head, HeadNorm, ImageEmbedding, Layer, Mlp, Pairs, Rotary,
    Streams,
};

/// The graph's inputs.
struct Inputs {
    slots: Value,
    positions: Value,
    logit_rows: Value,
}

/// A graph under construction: [`Transformer::start`], then [`Transformer::layer`] for each layer, then [`Transformer::finish`].
pub(crate) struct Transformer {
    geometry: Geometry,
    graph: Graph,
    inputs: Inputs,
    /// The image embedding and its values, in case the head is the same matrix; none: it is no table.
    image: Option<(Value, Tensor)>,
    rotation: Option<attention::Rotation>,
    /// Attention for CUDA; none: the engine's own, for the CPU.
    stock: Option<stock::Stock>,
    hidden: Value,
    /// Of reversible layers, the stream that the MLPs add to.
    second: Option<Value>,
    layers: usize,
    shifts: usize,
    /// Whether `hidden` is but of the rows that are asked for logits.
    cut: bool,
}

impl Transformer {
    pub(crate) fn start(mut graph: Graph, geometry: Geometry, embedding: Embedding) -> Result<Self, Error> {
        let n = [Axis::Free("n")];
        let token_ids = graph.input("token_ids", DataType::Int64, &n);
        let positions = graph.input("positions", DataType::Int64, &n);
        let cuda = graph.device() == Device::Cuda;
        let slots = if cuda { Value::absent() } else { graph.input("slots", DataType::Int64, &n) };
        let logit_rows = graph.input("logit_rows", DataType::Int64, &[Axis::Free("m")]);
        let places = match geometry.count {
            Count::Positions => positions.clone(),
            Count::Ordinals => graph.input("ordinals", DataType::Int64, &n),
        };
        graph.scope("embedding");
        graph.in_blocks();
        let position = |graph: &mut Graph| embedding.position.as_ref().map(|table| graph.weight(table)).transpose();
        let (mut hidden, position, image) = match embedding.image {
            ImageEmbedding::Table(image) => {
                let ids = [&token_ids, &positions];
                let (table, ids, value) = one_table(&mut graph, ids, &embedding.text, &image, geometry.text_length)?;
                let position = position(&mut graph)?;
                (graph.gather(&table, &ids), position, Some((value, image)))
            }
            ImageEmbedding::Alone(image) => {
                let ids = [&token_ids, &positions];
                let (hidden, value) = given_text(&mut graph, ids, &image, geometry.text_length)?;
                (hidden, position(&mut graph)?, Some((value, image)))
            }
            ImageEmbedding::Codes { codes, layers, activation } => {
                let ids = [&token_ids, &positions];
                let through = (&codes, &*layers, activation);
                let hidden = two_tables(&mut graph, ids, &embedding.text, through, geometry.text_length)?;
                (hidden, position(&mut graph)?, None)
            }
        };
        if let Some(table) = position {
            let position = graph.gather(&table, &places);
            hidden = graph.add(&hidden, &position);
        }
        if let Some(norm) = &embedding.norm {
            hidden = graph.normalize(&hidden, norm)?;
        }
        let rotation =
            embedding.rotary.map(|rotary| attention::Rotation::new(&mut graph, &rotary, &places)).transpose()?;
        let second = (geometry.streams == Streams::Reversible).then(|| hidden.clone());
        let stock = cuda.then(|| stock::Stock::new(&mut graph, &geometry, &positions)).transpose()?;
        let inputs = Inputs { slots, positions, logit_rows };
        let (layers, shifts, cut) = (0, 0, false);
        Ok(Self { geometry, graph, inputs, image, rotation, stock, hidden, second, layers, shifts, cut })
    }

    pub(crate) fn layer(&mut self, layer: &Layer) -> Result<(), Error> {
        let last = self.layers + 1 == self.geometry.layers;
        // What follows the last attention matters only where logits are asked for, unless it keeps something of every row.
        let cut = last && layer.cross.is_none() && !layer.mlp.shift;
        self.graph.scope(format!("layers.{}", self.layers));
        let own = &layer.attention;
        let from = self.second.clone().unwrap_or_else(|| self.hidden.clone());
        let normed = self.prepare(&from, own.norm.as_ref(), own.shift)?;
        let mut context = self.attention(&normed, layer)?;
        if cut {
            context = self.graph.gather(&context, &self.inputs.logit_rows);
            self.cut();
        }
        let attended = self.graph.linear(&context, &own.out)?;
        self.hidden = self.add(&self.hidden.clone(), &attended, own.post_norm.as_ref())?;
        if let Some(cross) = &layer.cross {
            let normed = self.prepare(&self.hidden.clone(), cross.norm.as_ref(), false)?;
            let context = self.cross_attention(&normed, cross)?;
            let attended = self.graph.linear(&context, &cross.out)?;
            self.hidden = self.add(&self.hidden.clone(), &attended, cross.post_norm.as_ref())?;
        }
        let down = self.mlp(&self.hidden.clone(), &layer.mlp)?;
        let post_norm = layer.mlp.post_norm.as_ref();
        match self.second.take() {
            Some(second) => self.second = Some(self.add(&second, &down, post_norm)?),
            None => self.hidden = self.add(&self.hidden.clone(), &down, post_norm)?,
        }
        self.layers += 1;
        Ok(())
    }

    /// Leaves the rows that are asked for logits.
    fn cut(&mut self) {
        self.cut = true;
        self.hidden = self.graph.gather(&self.hidden, &self.inputs.logit_rows);
        self.second = self.second.take().map(|second| self.graph.gather(&second, &self.inputs.logit_rows));
    }

    /// What a part of a layer reads of a stream.
    fn prepare(&mut self, x: &Value, norm: Option<&Normalization>, shift: bool) -> Result<Value, Error> {
        let normed = norm.map(|norm| self.graph.normalize(x, norm)).transpose()?.unwrap_or_else(|| x.clone());
        if !shift {
            return Ok(normed);
        }
        let inputs = [&normed, &self.inputs.slots, &self.inputs.positions];
        let attributes = [("shift", Attribute::Int(self.shifts as i64))];
        self.shifts += 1;
        Ok(self.graph.easel_op("Shift", &inputs, &attributes, &[Axis::Free("n"), Axis::Of(self.geometry.width)]))
    }

    /// What a part of a layer adds to a stream.
    fn add(&mut self, x: &Value, part: &Value, norm: Option<&Normalization>) -> Result<Value, Error> {
        let normed = norm.map(|norm| self.graph.normalize(part, norm)).transpose()?;
        Ok(self.graph.add(x, normed.as_ref().unwrap_or(part)))
    }

    fn mlp(&mut self, x: &Value, mlp: &Mlp) -> Result<Value, Error> {
        let normed = self.prepare(x, mlp.norm.as_ref(), mlp.shift)?;
        feed_forward(&mut self.graph, &normed, mlp)
    }

    pub(crate) fn finish(mut self, head: &Head) -> Result<Graph, Error> {
        assert_eq!(self.layers, self.geometry.layers, "every layer was given");
        self.graph.scope("head");
        if !self.cut {
            self.cut();
        }
        let graph = &mut self.graph;
        let mut x = self.hidden;
        if let Some(second) = &self.second {
            let (sum, half) = (graph.add(&x, second), graph.float(0.5)?);
            x = graph.mul(&sum, &half);
        }
        for norm in &head.norms {
            x = graph.normalize(&x, norm)?;
        }
        if let Some((linear, activation)) = &head.inner {
            let inner = graph.linear(&x, linear)?;
            x = graph.activate(&inner, *activation)?;
        }
        let wide = graph.data_type() == DataType::Float;
        let tied = self.image.as_ref().filter(|(_, table)| wide && table.values == head.linear.weight.values);
        let logits = match (tied, &head.linear.bias) {
            // A head tied to the embedding is stored once.
            (Some((image, _)), bias) => {
                let weight = graph.transpose(image, &[1, 0]);
                let logits = graph.op("MatMul", &[&x, &weight], &[]);
                let bias = bias.as_ref().map(|bias| graph.weight(bias)).transpose()?;
                bias.map_or(logits.clone(), |bias| graph.add(&logits, &bias))
            }
            (None, _) => graph.head(&x, &head.linear)?,
        };
        let shape = [Axis::Free("m"), Axis::Of(self.geometry.codebook)];
        graph.output(&logits, "logits", DataType::Float, &shape);
        Ok(self.graph)
    }
}

/// An MLP of what its norm and shift have made.
fn feed_forward(graph: &mut Graph, x: &Value, mlp: &Mlp) -> Result<Value, Error> {
    let up = graph.linear(x, &mlp.up)?;
    let mut inner = match &mlp.gate {
        None => graph.activate(&up, mlp.activation)?,
        Some(gate) => {
            let gate = graph.linear(x, gate)?;
            let gate = graph.activate(&gate, mlp.activation)?;
            graph.mul(&gate, &up)
        }
    };
    if let Some(norm) = &mlp.mid_norm {
        inner = graph.normalize(&inner, norm)?;
    }
    graph.linear(&inner, &mlp.down)
}

/// Whether the token is of the image, not of the text.
fn is_image(graph: &mut Graph, positions: &Value, text_length: usize) -> Result<Value, Error> {
    let first_image = graph.int(text_length as i64)?;
    Ok(graph.op("GreaterOrEqual", &[positions, &first_image], &[]))
}

/// One table of text, then image, the ids in it, and its image part.
fn one_table(
    graph: &mut Graph,
    [token_ids, positions]: [&Value; 2],
    text: &Tensor,
    image: &Tensor,
    text_length: usize,
) -> Result<(Value, Value, Value), Error> {
    let tables = [graph.weight(text)?, graph.weight(image)?];
    let table = graph.op("Concat", &[&tables[0], &tables[1]], &[("axis", Attribute::Int(0))]);
    let is_image = is_image(graph, positions, text_length)?;
    let is_image = graph.cast(&is_image, DataType::Int64);
    let text_ids = graph.int(text.shape[0] as i64)?;
    let offset = graph.mul(&is_image, &text_ids);
    let ids = graph.add(token_ids, &offset);
    let [_, image] = tables;
    Ok((table, ids, image))
}

/// Text as the graph's input `embeddings`, image from a table, which is given too.
fn given_text(
    graph: &mut Graph,
    [token_ids, positions]: [&Value; 2],
    image: &Tensor,
    text_length: usize,
) -> Result<(Value, Value), Error> {
    let text = graph.input("embeddings", DataType::Float, &[Axis::Free("n"), Axis::Of(image.shape[1])]);
    let is_image = is_image(graph, positions, text_length)?;
    let (zero, table) = (graph.int(0)?, graph.weight(image)?);
    let image_ids = graph.op("Where", &[&is_image, token_ids, &zero], &[]);
    let image = graph.gather(&table, &image_ids);
    let is_image = graph.reshape(&is_image, &[-1, 1])?;
    Ok((graph.op("Where", &[&is_image, &image, &text], &[]), table))
}

/// Text from a table, image from codes through layers: each row has both, and takes its own.
fn two_tables(
    graph: &mut Graph,
    [token_ids, positions]: [&Value; 2],
    text: &Tensor,
    (codes, layers, activation): (&Tensor, &[Linear], Activation),
    text_length: usize,
) -> Result<Value, Error> {
    let is_image = is_image(graph, positions, text_length)?;
    let zero = graph.int(0)?;
    let text_ids = graph.op("Where", &[&is_image, &zero, token_ids], &[]);
    let image_ids = graph.op("Where", &[&is_image, token_ids, &zero], &[]);
    let (text, codes) = (graph.weight(text)?, graph.weight(codes)?);
    let (text, mut image) = (graph.gather(&text, &text_ids), graph.gather(&codes, &image_ids));
    for (i, layer) in layers.iter().enumerate() {
        if i > 0 {
            image = graph.activate(&image, activation)?;
        }
        image = graph.linear(&image, layer)?;
    }
    let is_image = graph.reshape(&is_image, &[-1, 1])?;
    Ok(graph.op("Where", &[&is_image, &image, &text], &[]))
}

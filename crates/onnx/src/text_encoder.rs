//! The text encoder: reads a whole text at once, for its keys and values, which a decoder's layers attend to across, or for its embeddings.

use easel_package::Package;
use ort::value::{TensorElementType, TensorRef};

use crate::{
    Error, Options, Row, Runtime,
    contract::{
        Dimension::{Any, Is},
        Port,
    },
    graph::{Contract, Graph},
    linear,
    pool::{Geometry, Pool},
};

/// The graph (contracts `easel.text_encoder/1` and `/2`), and the texts that are not whole yet.
#[derive(Debug)]
pub(crate) struct TextEncoder {
    graph: Graph,
    geometry: Geometry,
    length: usize,
    /// Numbers of an embedding; none: it gives keys and values.
    embedding_width: Option<usize>,
    /// Of each slot, the ids so far.
    texts: Vec<Vec<i64>>,
}

impl TextEncoder {
    pub(crate) fn load(
        runtime: &Runtime,
        package: &Package,
        options: &Options,
        encoder: &easel_package::TextEncoder,
        geometry: Geometry,
    ) -> Result<Self, Error> {
        let embedding_width = encoder.embedding_width.map(|width| width as usize);
        let float = TensorElementType::Float32;
        let output = if let Some(width) = embedding_width {
            Port::new("embeddings", float, [Any("s"), Is(width)])
        } else {
            let width = Is(geometry.heads * geometry.head_width);
            Port::new("keys_values", float, [Is(geometry.layers), Is(2), Any("s"), width])
        };
        let inputs = [Port::new("token_ids", TensorElementType::Int64, [Any("s")])];
        let failed = |error: ort::Error| Error::Graph { file: encoder.graph.clone(), reason: error.to_string() };
        let operators = Some(linear::domain().map_err(failed)?.into());
        let graph = Graph::load(runtime, package, &encoder.graph, options, operators, &Contract { inputs, output })?;
        let length = encoder.length as usize;
        Ok(Self { graph, geometry, length, embedding_width, texts: Vec::new() })
    }

    /// Forgets all texts and makes room for so many.
    pub(crate) fn resize(&mut self, sequences: usize) {
        self.texts = vec![Vec::new(); sequences];
    }

    /// Positions 0 … length − 1 are its own.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn reads(&self, row: &Row) -> bool {
        (row.position as usize) < self.length
    }

    /// Whether a row that it reads may ask for logits: the last of a text that is embedded.
    pub(crate) fn gives_logits(&self, row: &Row) -> bool {
        self.embedding_width.is_some() && row.position as usize + 1 == self.length
    }

    /// Forgets what it has of the slot's text.
    pub(crate) fn begin(&mut self, slot: usize) {
        self.texts[slot].clear();
    }

    /// Takes a row of its own. With the last of a text, its keys and values go to the pool, or its embeddings are given, a token's after another's.
    pub(crate) fn read(&mut self, row: &Row, pool: &mut Pool) -> Result<Option<Vec<f32>>, Error> {
        self.texts[row.slot].push(i64::from(row.token));
        if row.position as usize + 1 < self.length {
            return Ok(None);
        }
        let ids = std::mem::take(&mut self.texts[row.slot]);
        if let Some(width) = self.embedding_width {
            return self.run(&ids, ids.len() * width).map(Some);
        }
        let (tokens, width) = (ids.len(), self.geometry.heads * self.geometry.head_width);
        let keys_values = self.run(&ids, self.geometry.layers * 2 * tokens * width)?;
        for (layer, both) in keys_values.chunks_exact(2 * tokens * width).enumerate() {
            let (keys, values) = both.split_at(tokens * width);
            let positions = self.length - tokens..self.length;
            for (position, (key, value)) in positions.zip(keys.chunks_exact(width).zip(values.chunks_exact(width))) {
                pool.write(row.slot, layer, position, key, value);
            }
        }
        Ok(None)
    }

    fn run(&mut self, ids: &[i64], numbers: usize) -> Result<Vec<f32>, Error> {
        let input = TensorRef::from_array_view(([ids.len()], ids)).map_err(|error| self.graph.error(error))?;
        self.graph.run_flat(vec![("token_ids", input.into())], numbers)
    }
}

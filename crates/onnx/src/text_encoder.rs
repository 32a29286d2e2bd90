//! The text encoder of an encoder–decoder model: a whole text at once, whose keys and values the decoder's layers attend to across.

use easel_package::Package;
use ort::value::{TensorElementType, TensorRef};

use crate::{
    Error, Options, Row, Runtime,
    contract::{
        Dimension::{Any, Is},
        Port,
    },
    graph::{Contract, Graph},
    pool::{Geometry, Pool},
};

/// The graph (contract `easel.text_encoder/1`), and the texts that are not whole yet.
#[derive(Debug)]
pub(crate) struct TextEncoder {
    graph: Graph,
    geometry: Geometry,
    length: usize,
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
        sequences: usize,
    ) -> Result<Self, Error> {
        let width = Is(geometry.heads * geometry.head_width);
        let contract = Contract {
            inputs: [Port::new("token_ids", TensorElementType::Int64, [Any("s")])],
            output: Port::new("keys_values", TensorElementType::Float32, [Is(geometry.layers), Is(2), Any("s"), width]),
        };
        let graph = Graph::load(runtime, package, &encoder.graph, options, None, &contract)?;
        Ok(Self { graph, geometry, length: encoder.length as usize, texts: vec![Vec::new(); sequences] })
    }

    /// Positions 0 … length − 1 are its own.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn reads(&self, row: &Row) -> bool {
        (row.position as usize) < self.length
    }

    /// Forgets what it has of the slot's text.
    pub(crate) fn begin(&mut self, slot: usize) {
        self.texts[slot].clear();
    }

    /// Takes the row if it is one of its own; with the last of a text, its keys and values go to the pool.
    pub(crate) fn read(&mut self, row: &Row, pool: &mut Pool) -> Result<(), Error> {
        if !self.reads(row) {
            return Ok(());
        }
        self.texts[row.slot].push(i64::from(row.token));
        if row.position as usize + 1 < self.length {
            return Ok(());
        }
        let ids = std::mem::take(&mut self.texts[row.slot]);
        let (tokens, width) = (ids.len(), self.geometry.heads * self.geometry.head_width);
        let input = TensorRef::from_array_view(([tokens], &*ids)).map_err(|error| self.graph.error(error))?;
        let numbers = self.geometry.layers * 2 * tokens * width;
        let keys_values = self.graph.run_flat::<f32>(vec![("token_ids", input.into())], numbers)?;
        for (layer, both) in keys_values.chunks_exact(2 * tokens * width).enumerate() {
            let (keys, values) = both.split_at(tokens * width);
            let positions = self.length - tokens..self.length;
            for (position, (key, value)) in positions.zip(keys.chunks_exact(width).zip(values.chunks_exact(width))) {
                pool.write(row.slot, layer, position, key, value);
            }
        }
        Ok(())
    }
}

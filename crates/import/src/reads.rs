//! What a step of a sampler's graph must read, from the graph itself: weights, and the keys and values that its masks let a row see.

use std::{
    collections::{HashMap, HashSet},
    fs,
};

use easel_package::Package;
use prost::Message as _;

use crate::{
    Error, Mask,
    graph::EASEL_DOMAIN,
    onnx::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto},
};

/// What passes a table on.
const VIEWS: [&str; 4] = ["Cast", "Concat", "Identity", "Transpose"];

/// What the steps of a sampler's graph must read.
#[derive(Clone, Debug)]
pub struct Reads {
    weight_bytes: u64,
    masks: Vec<(Mask, u64)>,
    /// A key and a value of one position of one layer.
    position_bytes: u64,
    text_length: u64,
    grid: [u64; 2],
}

impl Reads {
    /// Of the package's sampler, where a number of a key or a value takes `number_bytes`.
    ///
    /// # Errors
    /// The graph cannot be read.
    pub fn of(package: &Package, number_bytes: u64) -> Result<Self, Error> {
        let manifest = package.manifest();
        let path = package.file(&manifest.sampler.graph)?;
        let wrong = |found: String| Error::File { path: path.clone(), expected: "an ONNX graph".into(), found };
        let bytes = fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let model = ModelProto::decode(&*bytes).map_err(|error| wrong(error.to_string()))?;
        let graph = model.graph.ok_or_else(|| wrong("none".into()))?;
        let attention = manifest.sampler.attention;
        Ok(Self {
            weight_bytes: weight_bytes(&graph),
            masks: graph.node.iter().filter_map(mask).collect(),
            position_bytes: 2 * u64::from(attention.heads) * u64::from(attention.head_width) * number_bytes,
            text_length: u64::from(manifest.text.length),
            grid: [u64::from(manifest.grid.rows), manifest.row_tokens() as u64],
        })
    }

    /// Bytes of all constants as they are in memory (numbers of 16 bits are widened when the graph is loaded), but of tables only a row of which is looked up.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Bytes that a step of `batch` sequences at `position` must read: the weights once, the keys and values of each of the `captions` once, and those of the image
    /// positions that the masks allow for every sequence.
    pub fn step_bytes(&self, position: u32, batch: usize, captions: usize) -> u64 {
        let cell = u64::from(position).checked_sub(self.text_length);
        let text = cell.map_or(u64::from(position) + 1, |_| self.text_length);
        let image = |&(mask, kernel): &(Mask, u64)| cell.map_or(0, |cell| seen(mask, kernel, self.grid, cell));
        let image: u64 = self.masks.iter().map(image).sum();
        let positions = self.masks.len() as u64 * text * captions as u64 + image * batch as u64;
        self.weight_bytes + positions * self.position_bytes
    }
}

/// Image positions that the cell sees, itself included.
fn seen(mask: Mask, kernel: u64, [rows, columns]: [u64; 2], cell: u64) -> u64 {
    let (row, column) = (cell / columns, cell % columns);
    let half = kernel / 2;
    match mask {
        Mask::Full => cell + 1,
        Mask::Row => (cell + 1).min(columns + 1),
        Mask::Column => row + 1,
        Mask::AxialRow => column + 1,
        Mask::Corner => kernel.min(row + 1) * kernel.min(column + 1),
        Mask::Conv => {
            let left = half.min(column);
            let right = half.min(columns - 1 - column);
            half.min(row) * (left + 1 + right) + left + 1
        }
        Mask::Torus => {
            let first = row.saturating_sub(half);
            let over = (row + half + 1).saturating_sub(rows).min(first);
            let own = half.min(column) + 1 + (column + half + 1).saturating_sub(columns);
            (over + row - first) * (2 * half + 1).min(columns) + own.min(column + 1)
        }
    }
}

fn mask(node: &NodeProto) -> Option<(Mask, u64)> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute: &&AttributeProto| attribute.name == name);
    let is_attention = node.domain == EASEL_DOMAIN && node.op_type == "Attention";
    let name = attribute("mask").filter(|_| is_attention)?.s.as_deref()?;
    let all = [Mask::Full, Mask::Row, Mask::Column, Mask::Conv, Mask::AxialRow, Mask::Corner, Mask::Torus];
    let mask = all.into_iter().find(|mask| mask.name().as_bytes() == name)?;
    let kernel = attribute("kernel").and_then(|kernel| kernel.i).unwrap_or(1);
    Some((mask, kernel.unsigned_abs()))
}

fn weight_bytes(graph: &GraphProto) -> u64 {
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
    let (mut tables, mut weights) = (HashSet::new(), HashSet::new());
    for node in graph.node.iter().filter(|node| !VIEWS.contains(&node.op_type.as_str())) {
        for (i, input) in node.input.iter().enumerate() {
            let found = if node.op_type == "Gather" && i == 0 { &mut tables } else { &mut weights };
            sources(input, &makers, found);
        }
    }
    let read = graph.initializer.iter().filter(|tensor| weights.contains(tensor.name.as_str()));
    read.map(tensor_bytes).sum()
}

/// The constants that `value` is a view of.
fn sources<'a>(value: &'a str, makers: &HashMap<&'a str, &'a NodeProto>, found: &mut HashSet<&'a str>) {
    match makers.get(value) {
        Some(node) if VIEWS.contains(&node.op_type.as_str()) => {
            node.input.iter().for_each(|input| sources(input, makers, found));
        }
        Some(_) => {}
        None => drop(found.insert(value)),
    }
}

fn tensor_bytes(tensor: &TensorProto) -> u64 {
    let count: u64 = tensor.dims.iter().map(|n| n.unsigned_abs()).product();
    let size = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Uint8) => 1,
        Ok(DataType::Int64) => 8,
        _ => 4,
    };
    count * size
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{ImportOptions, Weights, import, synthetic};

    fn reads(weights: Weights) -> Reads {
        let folder = tempfile::tempdir().unwrap();
        let geometry = synthetic::Geometry { width: 64, ..synthetic::Geometry::default() };
        synthetic::checkpoint(&folder.path().join("c"), &geometry, 1).unwrap();
        let options = ImportOptions { weights, ..ImportOptions::default() };
        let package = import(&folder.path().join("c"), &folder.path().join("p"), &options, &mut |_| {}).unwrap();
        Reads::of(&package, 4).unwrap()
    }

    #[test]
    fn weights_are_counted_as_they_lie_in_memory_and_tables_are_not() {
        let (width, layers, codebook) = (64, 4, 200);
        let matrices = layers * 12 * width * width;
        let biases = layers * (3 * width + width + 4 * width + width) + codebook;
        let norms = (2 * layers + 1) * 2 * width;
        let (small, head) = (4 * (biases + norms), width * codebook);
        // Scales and shapes of reshapes come on top.
        let close = |found: u64, expected: u64| found >= expected && found < expected + expected / 50 + 2048;
        for weights in [Weights::F32, Weights::F16] {
            let found = reads(weights).weight_bytes();
            assert!(close(found, 4 * (matrices + head) + small), "{weights}: {found}");
        }
        // A block of 32 has a scale of 2 bytes; rows are filled up to a multiple of sixteen.
        let head = width * 208;
        let found = reads(Weights::Q8).weight_bytes();
        assert!(close(found, (matrices + head) * 17 / 16 + small), "{found}");
        let found = reads(Weights::Q4).weight_bytes();
        assert!(close(found, matrices * 9 / 16 + head * 17 / 16 + small), "{found}");
    }

    #[test]
    fn rows_see_what_their_masks_allow() {
        let reads = reads(Weights::F32);
        let keys = |position, batch, captions| {
            (reads.step_bytes(position, batch, captions) - reads.weight_bytes()) / (2 * 64 * 4)
        };
        // Four layers: row, column, conv of 3, full; a grid of 6 × 6 behind 16 text positions.
        assert_eq!(keys(3, 1, 1), 4 * 4);
        assert_eq!(keys(16, 1, 1), 4 * 16 + 4);
        // Cell 14 is in row 2, column 2.
        assert_eq!(keys(16 + 14, 1, 1), 4 * 16 + (7 + 3 + 5 + 15));
        assert_eq!(keys(16 + 14, 8, 1), 4 * 16 + 8 * (7 + 3 + 5 + 15));
        assert_eq!(keys(16 + 14, 8, 8), 8 * (4 * 16 + (7 + 3 + 5 + 15)));
        assert_eq!(seen(Mask::Corner, 3, [6, 6], 14), 9);
        assert_eq!(seen(Mask::AxialRow, 1, [6, 6], 14), 3);
        assert_eq!(seen(Mask::Torus, 3, [6, 6], 14), 5);
        assert_eq!(seen(Mask::Torus, 3, [6, 6], 11), 3 + 3);
        assert_eq!(seen(Mask::Torus, 3, [6, 6], 35), 2 * 3 + 3);
        assert_eq!(seen(Mask::Torus, 7, [6, 6], 14), 15);
    }
}

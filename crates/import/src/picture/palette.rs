//! Image GPT's palette (Chen et al. 2020): a token is a colour, a picture as large as its grid.

use crate::{
    Error,
    graph::{Axis, Graph},
    onnx::DataType,
    picture::{Picture, codes, pixels},
    tensor::Tensor,
};

/// The colours \[colours, 3\], red, green, blue, −1 … 1.
pub(crate) struct Palette(pub(crate) Tensor);

impl Palette {
    pub(crate) fn decoder(&self, mut graph: Graph, size: [usize; 2]) -> Result<Picture, Error> {
        let [rows, columns] = size;
        let tokens = graph.input("tokens", DataType::Int64, &[Axis::Free("b"), Axis::Of(rows * columns)]);
        graph.scope("palette");
        let byte = |v: &f32| (127.5 * (v + 1.0)).round_ties_even().clamp(0.0, 255.0);
        let bytes = self.0.values.iter().map(byte).collect();
        let table = graph.exact(&Tensor::new("palette", &self.0.shape, bytes))?;
        let colours = graph.gather(&table, &tokens);
        let bytes = graph.cast(&colours, DataType::Uint8);
        let picture = graph.reshape(&bytes, &[-1, rows as i64, columns as i64, 3])?;
        pixels::output(&mut graph, &picture, size);
        Ok(Picture { graph, size })
    }

    /// The nearest colour of every pixel.
    pub(crate) fn encoder(&self, graph: Graph, size: [usize; 2]) -> Result<Picture, Error> {
        let net = pixels::enter(graph, size, pixels::Range::Signed)?;
        Ok(Picture { graph: codes::nearest(net, &self.0)?, size })
    }
}

//! Between bytes and the numbers that a network has for black … white.

use crate::{
    Error,
    graph::{Axis, Graph, Value},
    onnx::DataType,
    picture::net::Net,
};

/// How a network's numbers become bytes, once they are 0 … 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To the nearest; a half goes up (torchvision's `save_image`).
    Nearest,
    /// Down (a cast to bytes, torchvision's `to_pil_image`).
    Down,
}

/// The numbers for black … white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    /// 0 … 1.
    Unit,
    /// −1 … 1.
    Signed,
    /// Logits of 0.1 … 0.9; the encoder takes 0.1 … 0.9 (the logit-Laplace of Ramesh et al. 2021, appendix A.3).
    Laplace,
}

/// ε of the logit-Laplace.
const MARGIN: f32 = 0.1;

/// The input `pixels`, as a map of three channels in the network's range.
pub(crate) fn enter(mut graph: Graph, size: [usize; 2], range: Range) -> Result<Net, Error> {
    let pixels = graph.input("pixels", DataType::Uint8, &shape(size));
    graph.scope("pixels");
    let planes = graph.planes(&pixels);
    let (factor, shift) = match range {
        Range::Unit => (255.0, None),
        Range::Signed => (127.5, Some(-1.0)),
        Range::Laplace => (255.0 / (1.0 - 2.0 * MARGIN), Some(MARGIN)),
    };
    let factor = graph.float(factor)?;
    let mut x = graph.op("Div", &[&planes, &factor], &[]);
    if let Some(shift) = shift {
        let shift = graph.float(shift)?;
        x = graph.add(&x, &shift);
    }
    Ok(Net { graph, x, channels: 3, size })
}

/// The output `pixels` of a map of three channels.
pub(crate) fn leave(net: Net, range: Range, rounding: Rounding) -> Result<Graph, Error> {
    let Net { mut graph, mut x, size, .. } = net;
    graph.scope("pixels");
    let (zero, one, most) = (graph.float(0.0)?, graph.float(1.0)?, graph.float(255.0)?);
    match range {
        Range::Unit => {}
        Range::Signed => {
            let half = graph.float(0.5)?;
            x = graph.add(&x, &one);
            x = graph.mul(&x, &half);
        }
        Range::Laplace => {
            let (margin, width) = (graph.float(MARGIN)?, graph.float(1.0 - 2.0 * MARGIN)?);
            x = graph.op("Sigmoid", &[&x], &[]);
            x = graph.op("Sub", &[&x, &margin], &[]);
            x = graph.op("Div", &[&x, &width], &[]);
        }
    }
    x = graph.op("Clip", &[&x, &zero, &one], &[]);
    x = graph.mul(&x, &most);
    if rounding == Rounding::Nearest {
        let half = graph.float(0.5)?;
        x = graph.add(&x, &half);
    }
    // The cast cuts the fraction off.
    let bytes = graph.cast(&x, DataType::Uint8);
    let pixels = graph.transpose(&bytes, &[0, 2, 3, 1]);
    output(&mut graph, &pixels, size);
    Ok(graph)
}

/// Makes bytes \[b, height, width, 3\] the output `pixels`.
pub(crate) fn output(graph: &mut Graph, pixels: &Value, size: [usize; 2]) {
    graph.output(pixels, "pixels", DataType::Uint8, &shape(size));
}

fn shape([height, width]: [usize; 2]) -> [Axis; 4] {
    [Axis::Free("b"), Axis::Of(height), Axis::Of(width), Axis::Of(3)]
}

//! Small graphs.

use super::{Mask, Written};
use crate::test::protobuf::{bytes, int, number, value};

pub(super) fn attention(written: &Written) -> Vec<u8> {
    let g = written.geometry;
    let (mask, kernel) = match written.mask {
        Mask::Full => ("full", 0),
        Mask::Row => ("row", 0),
        Mask::Column => ("column", 0),
        Mask::Convolution(kernel) => ("conv", kernel),
        Mask::AxialRow => ("axial_row", 0),
        Mask::Corner(kernel) => ("corner", kernel),
        Mask::Torus(kernel) => ("torus", kernel),
    };
    let inputs = ["query", "key", "value", "slots", "positions"];
    let mut node: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
    node.extend([bytes(2, "context"), bytes(4, "Attention"), bytes(7, "easel")].concat());
    let ints = [("layer", written.layer), ("heads", g.heads), ("text_length", g.text_length), ("rows", g.rows)];
    node.extend(ints.iter().chain(&[("columns", g.columns), ("kernel", kernel)]).flat_map(|(n, v)| int(n, *v as i64)));
    if written.query_heads != g.heads {
        node.extend(int("query_heads", written.query_heads as i64));
    }
    if written.mask_text_length != g.text_length {
        node.extend(int("mask_text_length", written.mask_text_length as i64));
    }
    let text = if written.hidden { "hidden" } else { "seen" };
    for (name, text) in [("mask", mask), ("text", text)] {
        node.extend(bytes(5, [bytes(1, name), bytes(4, text), number(20, 3)].concat()));
    }
    let mut float = [bytes(1, "scale"), vec![2 << 3 | 5]].concat();
    float.extend([written.scale.to_le_bytes().to_vec(), number(20, 1)].concat());
    node.extend(bytes(5, float));
    let (width, queries) = (Some(g.heads * g.head_width), Some(written.query_heads * g.head_width));
    let mut graph = [bytes(1, node), bytes(2, "attention")].concat();
    for (name, width) in [("query", queries), ("key", width), ("value", width)] {
        graph.extend(value(11, name, 1, &[None, width]));
    }
    graph.extend([value(11, "slots", 7, &[None]), value(11, "positions", 7, &[None])].concat());
    graph.extend(value(12, "context", 1, &[None, queries]));
    let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
    [number(1, 9), bytes(7, graph), opset("", 20), opset("easel", 1)].concat()
}

/// softmax(query · key + bias) value by ONNX's own operators: `query` \[h, n, w\], `key` \[h, w, m\], `bias` \[n, m\], `value` \[h, m, w\].
pub(super) fn stock() -> Vec<u8> {
    let node = |operator: &str, inputs: [&str; 2], output: &str| {
        let inputs: Vec<u8> = inputs.iter().filter(|name| !name.is_empty()).flat_map(|name| bytes(1, name)).collect();
        bytes(1, [inputs, bytes(2, output), bytes(4, operator)].concat())
    };
    let mut graph = [
        node("MatMul", ["query", "key"], "scores"),
        node("Add", ["scores", "bias"], "masked"),
        node("Softmax", ["masked", ""], "weights"),
        node("MatMul", ["weights", "value"], "context"),
        bytes(2, "stock"),
    ]
    .concat();
    for (field, name, rank) in [(11, "query", 3), (11, "key", 3), (11, "value", 3), (11, "bias", 2), (12, "context", 3)]
    {
        graph.extend(value(field, name, 1, &vec![None; rank]));
    }
    let opset = bytes(8, [bytes(1, ""), number(2, 20)].concat());
    [number(1, 9), bytes(7, graph), opset].concat()
}

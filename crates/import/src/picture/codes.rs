//! Between tokens and maps: a codebook is looked up, or searched.

use crate::{
    Error,
    checkpoint::Tensors,
    graph::{Attribute, Axis, Graph},
    layers::Conv,
    onnx::DataType,
    picture::net::Net,
    tensor::Tensor,
};

/// Numbers of a codebook behind a convolution at most.
const NUMBERS: usize = 1 << 28;

/// The input `tokens`, each as its row of `table` \[codes, channels\].
pub(crate) fn look_up(mut graph: Graph, [rows, columns]: [usize; 2], table: &Tensor) -> Result<Net, Error> {
    let tokens = graph.input("tokens", DataType::Int64, &[Axis::Free("b"), Axis::Of(rows * columns)]);
    graph.scope("codebook");
    let channels = table.shape[1];
    let table = graph.weight(table)?;
    let codes = graph.gather(&table, &tokens);
    let x = graph.transpose(&codes, &[0, 2, 1]);
    let x = graph.reshape(&x, &[0, channels as i64, rows as i64, columns as i64])?;
    Ok(Net { graph, x, channels, size: [rows, columns] })
}

/// The output `tokens`: at each place the row of `table` \[codes, channels\] that is nearest, by Euclid.
///
/// |x − e|² is least where x · e − |e|² / 2 is greatest: a 1×1 convolution. The table stays in full precision, since it decides.
pub(crate) fn nearest(net: Net, table: &Tensor) -> Result<Graph, Error> {
    let half_square = |row: &[f32]| -(row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 2.0) as f32;
    let lengths = table.values.chunks_exact(table.shape[1]).map(half_square).collect();
    score(net, table, Some(Tensor::new(format!("{}.lengths", table.name), &table.shape[..1], lengths)))
}

/// The output `tokens`: at each place the row of `table` \[codes, channels\], all of length 1, that points most the same way.
pub(crate) fn aligned(net: Net, table: &Tensor) -> Result<Graph, Error> {
    score(net, table, None)
}

fn score(mut net: Net, table: &Tensor, bias: Option<Tensor>) -> Result<Graph, Error> {
    net.graph.scope("quantizer");
    let shape = [table.shape[0], table.shape[1], 1, 1];
    let weight = Tensor::new(table.name.clone(), &shape, table.values.clone());
    net.exact_conv(&Conv { weight, bias })?;
    best(net)
}

/// The output `tokens`: the channel with the greatest number, at each place the first of several.
pub(crate) fn best(net: Net) -> Result<Graph, Error> {
    let Net { mut graph, x, size: [rows, columns], .. } = net;
    graph.scope("quantizer");
    let attributes = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(0))];
    let tokens = graph.op("ArgMax", &[&x], &attributes);
    let tokens = graph.reshape(&tokens, &[-1, (rows * columns) as i64])?;
    graph.output(&tokens, "tokens", DataType::Int64, &[Axis::Free("b"), Axis::Of(rows * columns)]);
    Ok(graph)
}

/// Rows of length 1, as PyTorch's `normalize` makes them.
pub(crate) fn unit_rows(table: &mut Tensor) {
    let width = table.shape[1];
    for row in table.values.chunks_exact_mut(width) {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12) as f32;
        row.iter_mut().for_each(|v| *v /= length);
    }
}

/// The 1×1 convolution of every row of `table` \[codes, in\]: a table \[codes, out\] that saves it.
pub(crate) fn fold(tensors: &Tensors<'_>, table: &Tensor, conv: &Conv) -> Result<Tensor, Error> {
    let (outputs, width) = (conv.weight.shape[0], table.shape[1]);
    if table.shape[0] * outputs > NUMBERS {
        let expected = format!("at most {} rows", NUMBERS / table.shape[0]);
        return Err(tensors.wrong(&conv.weight.name, expected, outputs.to_string()));
    }
    let mut values = Vec::with_capacity(table.shape[0] * outputs);
    for row in table.values.chunks_exact(width) {
        let products = conv.weight.times(row);
        let bias = |i: usize| conv.bias.as_ref().map_or(0.0, |b| b.values[i]);
        values.extend(products.iter().enumerate().map(|(i, v)| v + bias(i)));
    }
    Ok(Tensor::new(table.name.clone(), &[table.shape[0], outputs], values))
}

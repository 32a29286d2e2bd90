//! The operator inside ONNX Runtime.

use ort::{session::Session, value::TensorRef};

use super::*;
use crate::{
    Runtime,
    test::protobuf::{bytes, int, number, value},
};

/// A node as it is written.
#[derive(Clone)]
struct Written<'a> {
    case: &'a Case,
    domain: &'static str,
    attributes: Vec<(&'static str, i64)>,
    /// Whether the codes are an input of the graph.
    open: bool,
}

impl<'a> Written<'a> {
    fn new(case: &'a Case) -> Self {
        let Shape { inputs, outputs, bits, block } = case.shape;
        let sizes = [("K", inputs), ("N", outputs), ("bits", bits.count()), ("block_size", block)];
        let attributes = sizes.map(|(name, size)| (name, size as i64)).into();
        Self { case, domain: "easel", attributes, open: false }
    }

    /// The same as ONNX Runtime's own operator.
    fn stock(&self) -> Self {
        let mut stock = Self { domain: "com.microsoft", ..self.clone() };
        stock.attributes.push(("accuracy_level", 4));
        stock
    }

    fn with(&self, name: &str, value: i64) -> Self {
        let mut other = self.clone();
        other.attributes.iter_mut().filter(|(known, _)| *known == name).for_each(|attribute| attribute.1 = value);
        other
    }

    fn model(&self) -> Vec<u8> {
        let Shape { inputs, outputs, .. } = self.case.shape;
        let (blocks, own) = (self.case.shape.blocks(), self.domain == "easel");
        let mut names = vec!["x", "codes", "scales", if self.case.zeros.is_some() { "zeros" } else { "" }];
        // ONNX Runtime's has an order of the columns before the bias.
        names.extend((!own).then_some(""));
        names.push(if self.case.bias.is_some() { "bias" } else { "" });
        let mut node: Vec<u8> = names.iter().flat_map(|name| bytes(1, name)).collect();
        node.extend([bytes(2, "y"), bytes(4, "MatMulNBits"), bytes(7, self.domain)].concat());
        node.extend(self.attributes.iter().flat_map(|(name, value)| int(name, *value)));
        let mut graph = [bytes(1, node), bytes(2, "linear")].concat();
        let floats = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        let row = self.case.shape.row_bytes();
        let mut constants = vec![("scales", 1, vec![outputs, blocks], floats(&self.case.scales))];
        match self.open {
            true => graph.extend(value(11, "codes", 2, &[None, None, None])),
            false => constants.push(("codes", 2, vec![outputs, blocks, row / blocks], self.case.codes.clone())),
        }
        let zeros = self.case.zeros.as_ref();
        constants.extend(zeros.map(|zeros| ("zeros", 2, vec![outputs, self.case.shape.zero_bytes()], zeros.clone())));
        constants.extend(self.case.bias.as_ref().map(|bias| ("bias", 1, vec![outputs], floats(bias))));
        for (name, element, dims, raw) in constants {
            let dims: Vec<u8> = dims.iter().flat_map(|n| number(1, *n as u64)).collect();
            graph.extend(bytes(5, [dims, number(2, element), bytes(8, name), bytes(9, raw)].concat()));
        }
        graph.extend([value(11, "x", 1, &[None, Some(inputs)]), value(12, "y", 1, &[None, Some(outputs)])].concat());
        let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
        [number(1, 9), bytes(7, graph), opset("", 20), opset(self.domain, 1)].concat()
    }

    fn load(&self, path: Path, threads: usize) -> Result<Session, String> {
        let _making = crate::graph::making_with_operators();
        let runtime = Runtime::load().unwrap();
        let domain = OperatorDomain::new("easel").unwrap().add(Linear::on(path)).unwrap();
        let builder = Session::builder(runtime.environment()).unwrap().with_intra_threads(threads).unwrap();
        let mut builder = builder.with_operators(domain).unwrap();
        builder.commit_from_memory(&self.model()).map_err(|error| error.to_string())
    }

    fn run(&self, path: Path, threads: usize, counts: &[usize]) -> Vec<Vec<f32>> {
        let (mut session, inputs) = (self.load(path, threads).unwrap(), self.case.shape.inputs);
        let run = |count: &usize| {
            let x = TensorRef::from_array_view(([*count, inputs], &self.case.x[..count * inputs])).unwrap();
            session.run(ort::inputs!["x" => x]).unwrap()["y"].try_extract_tensor::<f32>().unwrap().1.to_vec()
        };
        counts.iter().map(run).collect()
    }
}

#[test]
fn the_operator_gives_what_the_products_are_on_any_number_of_threads() {
    let random = &mut Random(11);
    for (inputs, outputs) in [(33, 1), (160, 7), (1000, 333), (640, 1030)] {
        for bits in [Bits::Four, Bits::Eight] {
            let case = Case::random(random, Shape { inputs, outputs, bits, block: 32 }, 40);
            let path = Path::here().next().unwrap();
            let expected = case.run(path, 40, outputs.next_multiple_of(4));
            for threads in [1, 2, 3] {
                for found in Written::new(&case).run(path, threads, &[40, 1, 2, 7, 33]) {
                    assert!(found == expected[..found.len()], "{:?}, {threads} threads", case.shape);
                }
            }
        }
    }
}

/// ONNX Runtime's activations have a scale for each block of the matrix; in blocks of [`UNIT`] they are the same.
#[test]
fn the_operator_gives_what_onnx_runtimes_gives() {
    let random = &mut Random(13);
    for i in 0..40 {
        let bits = [Bits::Four, Bits::Eight][i % 2];
        let shape = Shape { inputs: 32 * (1 + random.below(9)), outputs: 1 + random.below(70), bits, block: UNIT };
        let case = Case::random(random, shape, 6);
        let written = Written::new(&case);
        let path = Path::here().next().unwrap();
        let [found, expected] = [&written, &written.stock()].map(|written| written.run(path, 1, &[6]).remove(0));
        let size = expected.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>().sqrt();
        let difference = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        assert!(difference <= 2e-3 * size, "{shape:?}: {difference} of {size}");
    }
}

#[test]
fn what_no_such_node_can_be_is_refused() {
    let case = Case::random(&mut Random(15), Shape { inputs: 64, outputs: 5, bits: Bits::Four, block: 32 }, 1);
    let written = Written::new(&case);
    let refused = |written: &Written<'_>, reason: &str| {
        let error = written.load(Path::here().next().unwrap(), 1).unwrap_err();
        assert!(error.contains(reason), "{error:?}, expected {reason:?}");
    };
    refused(&written.with("bits", 3), "MatMulNBits' bits: expected 4 or 8, found 3");
    refused(&written.with("block_size", 16), "MatMulNBits' block_size: expected 32, 64, 128 or 256, found 16");
    refused(&written.with("K", 0), "MatMulNBits' K: expected 1 … 16777216, found 0");
    refused(&written.with("N", -1), "MatMulNBits' N: expected 1 … 16777216, found -1");
    refused(&written.with("N", i64::MAX), "MatMulNBits' N: expected 1 … 16777216");
    refused(&written.with("K", 1 << 24), "codes: expected 41943040 numbers, found 160");
    refused(&written.with("bits", 8), "codes: expected 320 numbers, found 160");
    refused(&Written { attributes: written.attributes[1..].into(), ..written.clone() }, "has no attribute K");
    refused(
        &Written { open: true, ..written.clone() },
        "MatMulNBits' codes and scales: expected constants, found values",
    );
}

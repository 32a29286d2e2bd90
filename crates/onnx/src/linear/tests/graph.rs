//! The operator inside ONNX Runtime.

use ort::{session::Session, value::TensorRef};

use super::*;
use crate::{
    Options, Runtime,
    graph::Loader,
    test::protobuf::{bytes, int, number, value},
};

/// Name, type of the elements, sizes, bytes.
type Constant = (&'static str, u64, Vec<usize>, Vec<u8>);

fn floats(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A node as it is written.
#[derive(Clone)]
struct Written<'a> {
    case: &'a Case,
    domain: &'static str,
    attributes: Vec<(&'static str, i64)>,
    /// Whether the panels are an input of the graph.
    open: bool,
}

impl<'a> Written<'a> {
    fn new(case: &'a Case) -> Self {
        let Shape { inputs, outputs, bits } = case.shape;
        let sizes = [("K", inputs), ("N", outputs), ("bits", bits.count())];
        let attributes = sizes.map(|(name, size)| (name, size as i64)).into();
        Self { case, domain: "easel", attributes, open: false }
    }

    /// The same by ONNX Runtime's own operator, `MatMulNBits`.
    fn stock(&self) -> Self {
        let mut stock = Self { domain: "com.microsoft", ..self.clone() };
        stock.attributes.extend([("block_size", UNIT as i64), ("accuracy_level", 4)]);
        stock
    }

    /// The matrix as that has it.
    fn stock_constants(&self) -> [Constant; 2] {
        let Shape { outputs, bits, .. } = self.case.shape;
        let units = self.case.shape.units();
        let codes: Vec<u8> = match bits {
            Bits::Four => self.case.codes.as_chunks::<2>().0.iter().map(|[low, high]| low | high << 4).collect(),
            Bits::Eight => self.case.codes.clone(),
        };
        [
            ("scales", 1, vec![outputs, units], floats(&self.case.scales)),
            ("codes", 2, vec![outputs, units, UNIT * bits.count() / 8], codes),
        ]
    }

    fn with(&self, name: &str, value: i64) -> Self {
        let mut other = self.clone();
        other.attributes.iter_mut().filter(|(known, _)| *known == name).for_each(|attribute| attribute.1 = value);
        other
    }

    fn model(&self) -> Vec<u8> {
        let Shape { inputs, outputs, .. } = self.case.shape;
        let own = self.domain == "easel";
        let bias = if self.case.bias.is_some() { "bias" } else { "" };
        let (op_type, names) = match own {
            true => ("MatMulPanels", vec!["x", "panels", bias]),
            // It may have zero points, and an order of the columns, before the bias.
            false => ("MatMulNBits", vec!["x", "codes", "scales", "", "", bias]),
        };
        let mut node: Vec<u8> = names.iter().flat_map(|name| bytes(1, name)).collect();
        node.extend([bytes(2, "y"), bytes(4, op_type), bytes(7, self.domain)].concat());
        node.extend(self.attributes.iter().flat_map(|(name, value)| int(name, *value)));
        let mut graph = [bytes(1, node), bytes(2, "linear")].concat();
        let shape = self.case.shape;
        let mut constants: Vec<Constant> = match own {
            true => vec![("panels", 2, vec![shape.panels(), shape.panel_bytes()], self.case.panels.clone())],
            false => self.stock_constants().into(),
        };
        if self.open {
            constants.clear();
            graph.extend(value(11, "panels", 2, &[None, None]));
        }
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
            let case = Case::random(random, Shape { inputs, outputs, bits }, 40);
            let path = Path::here().next().unwrap();
            let expected = case.run(path, 40, case.shape.panels());
            for threads in [1, 2, 3] {
                for found in Written::new(&case).run(path, threads, &[40, 1, 2, 7, 33]) {
                    assert!(found == expected[..found.len()], "{:?}, {threads} threads", case.shape);
                }
            }
        }
    }
}

/// ONNX Runtime's activations have a scale for each block of the matrix as well.
#[test]
fn the_operator_gives_what_onnx_runtimes_gives() {
    let random = &mut Random(13);
    for i in 0..40 {
        let bits = [Bits::Four, Bits::Eight][i % 2];
        let shape = Shape { inputs: 32 * (1 + random.below(9)), outputs: 1 + random.below(70), bits };
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
    let case = Case::random(&mut Random(15), Shape { inputs: 64, outputs: 5, bits: Bits::Four }, 1);
    let written = Written::new(&case);
    let refused = |written: &Written<'_>, reason: &str| {
        let error = written.load(Path::here().next().unwrap(), 1).unwrap_err();
        assert!(error.contains(reason), "{error:?}, expected {reason:?}");
    };
    refused(&written.with("bits", 3), "MatMulPanels' bits: expected 4 or 8, found 3");
    refused(&written.with("K", 0), "MatMulPanels' K: expected 1 … 16777216, found 0");
    refused(&written.with("N", -1), "MatMulPanels' N: expected 1 … 16777216, found -1");
    refused(&written.with("N", i64::MAX), "MatMulPanels' N: expected 1 … 16777216");
    refused(&written.with("K", 1 << 24), "panels: expected 150994944 bytes, found 576");
    refused(&written.with("bits", 8), "panels: expected 1088 bytes, found 576");
    refused(&Written { attributes: written.attributes[1..].into(), ..written.clone() }, "has no attribute K");
    refused(&Written { open: true, ..written.clone() }, "MatMulPanels' panels: expected constants, found values");
}

#[test]
fn a_graph_with_an_operator_of_another_version_says_what_to_do() {
    let case = Case::random(&mut Random(17), Shape { inputs: 64, outputs: 5, bits: Bits::Four }, 1);
    let mut model = Written::new(&case).model();
    let name = model.windows(12).position(|bytes| bytes == b"MatMulPanels").unwrap();
    model[name..name + 12].copy_from_slice(b"MatMulOthers");
    let (runtime, options) = (Runtime::load().unwrap(), Options::default());
    let operators = Some(domain().unwrap().into());
    let loader = Loader { runtime: &runtime, file: "sampler.onnx", options: &options, operators, lean: false };
    let error = loader.session(&|builder| builder.commit_from_memory(&model)).unwrap_err().to_string();
    assert!(error.starts_with("sampler.onnx: ") && error.contains("MatMulOthers"), "{error}");
    assert!(error.ends_with("import its checkpoint again"), "{error}");
}

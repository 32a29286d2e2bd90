//! Builds one ONNX graph: values, operators, and weights in the precision asked for, in the file or beside it. The same calls give the same bytes.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use easel_package::{CUDA_CONTRACT, Device};
use half::f16;
use prost::Message as _;

use crate::{
    Error, Weights,
    blocks::Bits,
    onnx::{
        AttributeProto, AttributeType, DataType, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
        OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
        ValueInfoProto,
    },
    storage::Storage,
    tensor::Tensor,
};

/// The domain of Easel's own operators.
pub(crate) const EASEL_DOMAIN: &str = "easel";
/// The domain of ONNX Runtime's.
pub(crate) const MICROSOFT_DOMAIN: &str = "com.microsoft";

const IR_VERSION: i64 = 9;
const OPSET: i64 = 20;
/// Of both domains besides ONNX's own.
const OTHER_OPSET: i64 = 1;

/// Operators whose inputs must be of one width: where they are not, the narrow ones are widened.
const OF_ONE_WIDTH: [&str; 9] = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Concat", "Where", "LayerNormalization"];

/// The name of a value in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    name: String,
    /// It is of 16-bit floats.
    narrow: bool,
}

impl Value {
    /// An optional input that is not given.
    pub(crate) fn absent() -> Self {
        Self::wide("")
    }

    fn wide(name: impl Into<String>) -> Self {
        Self { name: name.into(), narrow: false }
    }

    fn of(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), narrow: data_type == DataType::Float16 }
    }
}

/// An axis: of a fixed length, or of a length that a call chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Axis {
    Of(usize),
    Free(&'static str),
}

/// The value of a node's attribute.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
}

/// Named attributes of a node.
pub(crate) type Attributes<'a> = &'a [(&'a str, Attribute)];

pub(crate) struct Graph {
    proto: GraphProto,
    weights: Weights,
    device: Device,
    /// What the file says beside the graph.
    notes: BTreeMap<&'static str, String>,
    storage: Storage,
    scope: String,
    /// How many values were named after each scope and operator.
    named: HashMap<String, usize>,
    /// Type, shape and digest of every constant, with its name.
    constants: HashMap<(DataType, Vec<i64>, String), String>,
    /// The constants that are stored in 16 bits, with their 32-bit values.
    widened: HashMap<String, Value>,
    /// What maps are stored in; none: in the weights' own precision.
    blocks: Option<Bits>,
}

impl Graph {
    pub(crate) fn new(name: &str, weights: Weights, storage: Storage) -> Self {
        Self {
            proto: GraphProto { name: name.into(), ..GraphProto::default() },
            weights,
            device: Device::Cpu,
            notes: BTreeMap::new(),
            storage,
            scope: String::new(),
            named: HashMap::new(),
            constants: HashMap::new(),
            widened: HashMap::new(),
            blocks: None,
        }
    }

    /// The same, for this device. What is computed for CUDA from 16-bit weights is computed in 16 bits, but for norms, streams and what else meets 32-bit numbers.
    pub(crate) fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Says something in the file's metadata.
    pub(crate) fn note(&mut self, key: &'static str, value: impl ToString) {
        self.notes.insert(key, value.to_string());
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// The type of what maps and attention compute.
    pub(crate) fn data_type(&self) -> DataType {
        let narrow = self.device == Device::Cuda && self.weights != Weights::F32;
        if narrow { DataType::Float16 } else { DataType::Float }
    }

    /// Names the values that follow after `scope`.
    pub(crate) fn scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    pub(crate) fn input(&mut self, name: &str, data_type: DataType, shape: &[Axis]) -> Value {
        self.proto.input.push(value_info(name, data_type, shape));
        Value::of(name, data_type)
    }

    /// Makes `value` an output of the graph, under `name`.
    pub(crate) fn output(&mut self, value: &Value, name: &str, data_type: DataType, shape: &[Axis]) {
        self.scope("");
        let value = if data_type == DataType::Float { self.widened(value) } else { value.clone() };
        self.output_op("Identity", &[&value], name, data_type, shape);
    }

    /// An operator whose value is, at no cost, an output of the graph.
    pub(crate) fn output_op(
        &mut self,
        op_type: &'static str,
        inputs: &[&Value],
        name: &str,
        data_type: DataType,
        shape: &[Axis],
    ) -> Value {
        let node = self.node(op_type, "", inputs, &[]);
        let output = vec![name.into()];
        self.proto.node.push(NodeProto { output, ..node });
        self.proto.output.push(value_info(name, data_type, shape));
        Value::of(name, data_type)
    }

    /// An operator with one output.
    pub(crate) fn op(&mut self, op_type: &'static str, inputs: &[&Value], attributes: Attributes<'_>) -> Value {
        let [value] = self.op_of(op_type, inputs, attributes);
        value
    }

    /// An operator with N outputs.
    pub(crate) fn op_of<const N: usize>(
        &mut self,
        op_type: &'static str,
        inputs: &[&Value],
        attributes: Attributes<'_>,
    ) -> [Value; N] {
        let floats = if op_type == "Where" { &inputs[1..] } else { inputs };
        let mixed = floats.iter().any(|v| v.narrow) && floats.iter().any(|v| !v.narrow);
        if mixed && OF_ONE_WIDTH.contains(&op_type) {
            let wide: Vec<Value> = inputs.iter().map(|v| self.widened(v)).collect();
            return self.op_of(op_type, &wide.iter().collect::<Vec<_>>(), attributes);
        }
        let narrow = inputs.iter().any(|v| v.narrow);
        let node = self.node(op_type, "", inputs, attributes);
        let name = |i| if N == 1 { node.name.clone() } else { format!("{}.{i}", node.name) };
        let values = std::array::from_fn(|i| Value { name: name(i), narrow });
        let output = values.iter().map(|v: &Value| v.name.clone()).collect();
        self.proto.node.push(NodeProto { output, ..node });
        values
    }

    /// An operator of another domain with one output, whose type ONNX Runtime infers.
    pub(crate) fn op_in(
        &mut self,
        domain: &'static str,
        op_type: &'static str,
        inputs: &[&Value],
        attributes: Attributes<'_>,
    ) -> Value {
        let node = self.node(op_type, domain, inputs, attributes);
        let value = Value { name: node.name.clone(), narrow: inputs.iter().any(|v| v.narrow) };
        self.proto.node.push(NodeProto { output: vec![value.name.clone()], ..node });
        value
    }

    /// `value` as 32-bit floats.
    pub(crate) fn widened(&mut self, value: &Value) -> Value {
        if value.narrow { self.cast(value, DataType::Float) } else { value.clone() }
    }

    /// `value`, which is of floats, as what maps and attention compute with.
    pub(crate) fn narrowed(&mut self, value: &Value) -> Value {
        match self.data_type() {
            DataType::Float16 if !value.narrow => self.cast(value, DataType::Float16),
            _ => value.clone(),
        }
    }

    /// A value of another type.
    pub(crate) fn cast(&mut self, x: &Value, to: DataType) -> Value {
        let value = self.op("Cast", &[x], &[("to", Attribute::Int(to as i64))]);
        Value::of(value.name, to)
    }

    pub(crate) fn weights(&self) -> Weights {
        self.weights
    }

    pub(crate) fn set_blocks(&mut self, bits: Bits) {
        self.blocks = Some(bits);
    }

    /// What maps are stored in; none: in the weights' own precision.
    pub(crate) fn bits(&self) -> Option<Bits> {
        self.blocks
    }

    /// An operator of Easel's own domain, whose output's type nobody else can infer.
    pub(crate) fn easel_op(
        &mut self,
        op_type: &'static str,
        inputs: &[&Value],
        attributes: Attributes<'_>,
        shape: &[Axis],
    ) -> Value {
        let node = self.node(op_type, EASEL_DOMAIN, inputs, attributes);
        let value = Value::wide(node.name.clone());
        self.proto.value_info.push(value_info(&value.name, DataType::Float, shape));
        self.proto.node.push(NodeProto { output: vec![value.name.clone()], ..node });
        value
    }

    fn node(&mut self, op_type: &str, domain: &str, inputs: &[&Value], attributes: Attributes<'_>) -> NodeProto {
        let base = if self.scope.is_empty() { op_type.to_owned() } else { format!("{}/{op_type}", self.scope) };
        let count = self.named.entry(base.clone()).or_default();
        *count += 1;
        NodeProto {
            input: inputs.iter().map(|v| v.name.clone()).collect(),
            output: vec![],
            name: if *count == 1 { base } else { format!("{base}_{count}") },
            op_type: op_type.into(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            domain: domain.into(),
        }
    }

    /// A scalar.
    pub(crate) fn float(&mut self, value: f32) -> Result<Value, Error> {
        self.constant("float", DataType::Float, &[], value.to_le_bytes().into())
    }

    /// A scalar.
    pub(crate) fn int(&mut self, value: i64) -> Result<Value, Error> {
        self.constant("int", DataType::Int64, &[], value.to_le_bytes().into())
    }

    /// A vector.
    pub(crate) fn ints(&mut self, values: &[i64]) -> Result<Value, Error> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant("ints", DataType::Int64, &[values.len()], bytes)
    }

    /// A constant in full precision, whatever the weights' is.
    pub(crate) fn exact(&mut self, tensor: &Tensor) -> Result<Value, Error> {
        let bytes = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(&tensor.name, DataType::Float, &tensor.shape, bytes)
    }

    /// A constant in the weights' precision (in 16 bits where that is of blocks), as 32-bit floats to the graph. Vectors (biases, norms) stay exact: they weigh nothing.
    pub(crate) fn weight(&mut self, tensor: &Tensor) -> Result<Value, Error> {
        if self.weights == Weights::F32 || tensor.shape.len() < 2 {
            return self.exact(tensor);
        }
        let narrow = self.stored(tensor)?;
        if let Some(wide) = self.widened.get(&narrow.name) {
            return Ok(wide.clone());
        }
        let wide = self.cast(&narrow, DataType::Float);
        self.widened.insert(narrow.name, wide.clone());
        Ok(wide)
    }

    /// A constant in what maps and attention compute with.
    pub(crate) fn computed(&mut self, tensor: &Tensor) -> Result<Value, Error> {
        if self.data_type() == DataType::Float16 { self.stored(tensor) } else { self.weight(tensor) }
    }

    /// A constant in 16 bits.
    fn stored(&mut self, tensor: &Tensor) -> Result<Value, Error> {
        within_16_bits(tensor)?;
        let bytes = tensor.values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        self.constant(&tensor.name, DataType::Float16, &tensor.shape, bytes)
    }

    /// An initialiser; one of the same type, shape and bytes is used again.
    pub(crate) fn constant(
        &mut self,
        name: &str,
        data_type: DataType,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> Result<Value, Error> {
        let dims: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let key = (data_type, dims.clone(), easel_package::sha256_hex(&bytes));
        if let Some(name) = self.constants.get(&key) {
            return Ok(Value::of(name.clone(), data_type));
        }
        let count = self.named.entry(name.into()).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_owned() } else { format!("{name}_{count}") };
        let mut tensor =
            TensorProto { dims, data_type: data_type.into(), name: name.clone(), ..TensorProto::default() };
        self.storage.put(&mut tensor, bytes)?;
        self.proto.initializer.push(tensor);
        self.constants.insert(key, name.clone());
        Ok(Value::of(name, data_type))
    }

    /// Writes the file; what lies beside it is finished too.
    pub(crate) fn write(self, path: &Path, metadata: &BTreeMap<&str, String>) -> Result<(), Error> {
        self.storage.finish()?;
        let cuda = self.device == Device::Cuda;
        let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
        let mut opset_import = vec![opset("", OPSET)];
        for domain in [EASEL_DOMAIN, MICROSOFT_DOMAIN] {
            if self.proto.node.iter().any(|n| n.domain == domain) {
                opset_import.push(opset(domain, OTHER_OPSET));
            }
        }
        let entry = |(key, value): (&&str, &String)| {
            let value = if cuda && *key == "easel.contract" { CUDA_CONTRACT } else { value };
            StringStringEntryProto { key: (*key).into(), value: value.into() }
        };
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.proto),
            opset_import,
            metadata_props: metadata.iter().chain(&self.notes).map(entry).collect(),
        };
        fs::write(path, model.encode_to_vec()).map_err(|source| Error::Io { path: path.into(), source })
    }
}

/// Refuses numbers that 16 bits do not reach.
pub(crate) fn within_16_bits(tensor: &Tensor) -> Result<(), Error> {
    match tensor.values.iter().find(|v| f16::from_f32(**v).is_infinite()) {
        Some(&value) => Err(Error::Precision { tensor: tensor.name.clone(), value }),
        None => Ok(()),
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: name.into(), ..AttributeProto::default() };
    let kind = match value {
        Attribute::Int(i) => {
            proto.i = Some(*i);
            AttributeType::Int
        }
        Attribute::Float(f) => {
            proto.f = Some(*f);
            AttributeType::Float
        }
        Attribute::Text(s) => {
            proto.s = Some(s.as_bytes().to_vec());
            AttributeType::String
        }
        Attribute::Ints(ints) => {
            proto.ints = ints.clone();
            AttributeType::Ints
        }
    };
    proto.set_type(kind);
    proto
}

fn value_info(name: &str, data_type: DataType, shape: &[Axis]) -> ValueInfoProto {
    let axis = |axis: &Axis| match axis {
        Axis::Of(n) => DimensionValue::Value(*n as i64),
        Axis::Free(name) => DimensionValue::Param((*name).into()),
    };
    let dim = shape.iter().map(|a| DimensionProto { value: Some(axis(a)) }).collect();
    let tensor_type = TensorTypeProto { elem_type: data_type.into(), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

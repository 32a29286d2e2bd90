//! The few classes and functions whose meaning is known: what makes tensors of storages, and plain containers. All others stay names.

use super::value::{Id, Node, Object, Stored, Values, View};
use crate::checkpoint::entry::Dtype;

/// Axes of a tensor.
const AXES: usize = 16;

impl Object {
    /// An object of which no more is known yet.
    pub(super) fn new(class: Id, arguments: Id) -> Self {
        Self { class, arguments, state: None, items: Vec::new(), entries: Vec::new() }
    }
}

/// What a call stands for.
pub(super) fn call(values: &mut Values, class: Id, arguments: Id) -> Result<Id, String> {
    let name = values.global(class).unwrap_or_default().to_owned();
    let given = values.list(arguments).ok_or("arguments that are no tuple")?;
    let first = given.first().copied();
    let made = match name.as_str() {
        "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" | "__builtin__.dict" => {
            let listed = if name.ends_with("defaultdict") { given.get(1) } else { given.first() };
            Node::Dict(listed.map(|list| entries(values, *list)).unwrap_or_default())
        }
        "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => tensor(values, given, None)?,
        "torch._utils._rebuild_tensor_v3" => tensor(values, given, given.get(6).copied())?,
        // What was made already, with more said of it.
        "torch._utils._rebuild_parameter"
        | "torch._utils._rebuild_parameter_with_state"
        | "torch.jit._pickle.restore_type_tag"
        | "torch.jit._pickle.build_intlist"
        | "torch.jit._pickle.build_doublelist"
        | "torch.jit._pickle.build_boollist"
        | "torch.jit._pickle.build_tensorlist"
        | "torch.Size"
        | "torch.device" => return first.ok_or_else(|| format!("{name} without arguments")),
        "builtins.list" | "builtins.tuple" | "builtins.set" | "builtins.frozenset" | "__builtin__.set" => {
            Node::List(first.and_then(|list| values.list(list)).unwrap_or_default().to_vec())
        }
        "torch._tensor._rebuild_from_type_v2" => return wrapped(values, arguments),
        "_codecs.encode" => Node::Bytes(latin(values, given)?),
        "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar" => scalar(values, class, arguments),
        "copyreg._reconstructor" | "copy_reg._reconstructor" => {
            let class = first.ok_or("an object without a class")?;
            let arguments = values.add(Node::List(Vec::new()))?;
            Node::Object(Box::new(Object::new(class, arguments)))
        }
        _ => Node::Object(Box::new(Object::new(class, arguments))),
    };
    values.add(made)
}

/// The entries of a mapping that is written as a list of pairs.
fn entries(values: &Values, list: Id) -> Vec<(Id, Id)> {
    let pair = |item: &Id| values.list(*item).and_then(|pair| <[Id; 2]>::try_from(pair).ok());
    let pairs = values.list(list).unwrap_or_default().iter().filter_map(pair);
    pairs.map(|[key, value]| (key, value)).collect()
}

/// `_rebuild_from_type_v2(function, type, arguments, state)`: what the function makes of the arguments.
fn wrapped(values: &mut Values, arguments: Id) -> Result<Id, String> {
    let given = values.list(arguments).unwrap_or_default();
    let (Some(function), Some(inner)) = (given.first().copied(), given.get(2).copied()) else {
        return Err("_rebuild_from_type_v2 with too few arguments".into());
    };
    match values.global(function) {
        Some(name) if name != "torch._tensor._rebuild_from_type_v2" => call(values, function, inner),
        _ => Err("_rebuild_from_type_v2 of no function".into()),
    }
}

/// Bytes that the old protocols write as text.
fn latin(values: &Values, given: &[Id]) -> Result<Box<[u8]>, String> {
    let text = given.first().and_then(|text| values.text(*text)).unwrap_or_default();
    if text.is_ascii() {
        return Ok(text.as_bytes().into());
    }
    let bytes: Option<Box<[u8]>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    bytes.ok_or_else(|| "bytes that are none".into())
}

/// (storage, offset, size, stride, …)
fn tensor(values: &Values, given: &[Id], dtype: Option<Id>) -> Result<Node, String> {
    let [place, offset, shape, strides, ..] = given else { return Err("a tensor with too few arguments".into()) };
    let Node::Storage(storage) = values.get(*place) else { return Err("a tensor without a storage".into()) };
    let numbers = |list: Id| -> Option<Vec<u64>> {
        let list = values.list(list).filter(|list| list.len() <= AXES)?;
        list.iter().map(|n| values.int(*n)).collect()
    };
    let (Some(offset), Some(shape), Some(strides)) = (values.int(*offset), numbers(*shape), numbers(*strides)) else {
        return Err("a tensor whose shape makes no sense".into());
    };
    let shape: Option<Vec<usize>> = shape.into_iter().map(|n| usize::try_from(n).ok()).collect();
    let shape = shape.ok_or("a tensor whose shape makes no sense")?;
    let named = dtype.and_then(|d| values.global(d)).map(|name| typed(name.strip_prefix("torch.").unwrap_or(name)));
    let dtype = match named {
        Some(dtype) => dtype,
        None => storage.dtype,
    };
    match dtype {
        Some(dtype) => Ok(Node::Tensor(Box::new(View { storage: *place, dtype, offset, shape, strides }))),
        // Complex and quantised numbers: nothing here can take them, but they may lie beside what is.
        None => Ok(Node::None),
    }
}

/// PyTorch's names of types.
fn typed(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" | "double" => Dtype::F64,
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float8_e4m3fn" => Dtype::F8E4m3,
        "float8_e5m2" => Dtype::F8E5m2,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" | "char" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" | "byte" => Dtype::U8,
        "bool" => Dtype::Bool,
        _ => return None,
    })
}

/// A reference out of the pickle: a storage, or in the old format a class with its source text.
pub(super) fn persistent(values: &mut Values, id: Id) -> Result<Id, String> {
    let given = values.list(id).unwrap_or_default().to_vec();
    match (given.first().and_then(|kind| values.text(*kind)), given.as_slice()) {
        (Some("module"), [_, class, ..]) => Ok(*class),
        (Some("storage"), [_, class, key, _, count, rest @ ..]) => {
            let class = values.global(*class).unwrap_or_default();
            let kind = class.rsplit('.').next().unwrap_or_default().strip_suffix("Storage");
            let kind = kind.ok_or_else(|| format!("a storage of the class {class:?}"))?;
            let dtype = typed(&kind.to_lowercase());
            let (Some(key), Some(count)) = (values.text(*key), values.int(*count)) else {
                return Err("a storage without a name or a size".into());
            };
            let mut stored = Stored { key: key.into(), dtype, offset: 0, count };
            if let Some([_, offset, count]) = rest.first().and_then(|view| values.list(*view)) {
                let (Some(offset), Some(count)) = (values.int(*offset), values.int(*count)) else {
                    return Err("a view of a storage that makes no sense".into());
                };
                (stored.offset, stored.count) = (offset, count);
            }
            values.add(Node::Storage(Box::new(stored)))
        }
        _ => Err("a reference to something outside that is no storage".into()),
    }
}

/// A number of NumPy's, as a plain one where its type is plain.
fn scalar(values: &Values, class: Id, arguments: Id) -> Node {
    let kind = |dtype: Id| match values.get(dtype) {
        Node::Object(dtype) => values.list(dtype.arguments).and_then(|a| values.text(*a.first()?)),
        _ => None,
    };
    let number = values.list(arguments).and_then(|given| {
        let [dtype, bytes] = given else { return None };
        let Node::Bytes(bytes) = values.get(*bytes) else { return None };
        Some(match kind(*dtype)? {
            "f8" => Node::Float(f64::from_le_bytes(bytes.as_ref().try_into().ok()?)),
            "f4" => Node::Float(f32::from_le_bytes(bytes.as_ref().try_into().ok()?).into()),
            "i8" => Node::Int(i64::from_le_bytes(bytes.as_ref().try_into().ok()?)),
            "i4" => Node::Int(i32::from_le_bytes(bytes.as_ref().try_into().ok()?).into()),
            "b1" => Node::Bool(*bytes.first()? != 0),
            _ => return None,
        })
    });
    number.unwrap_or_else(|| Node::Object(Box::new(Object::new(class, arguments))))
}

//! The operator inside ONNX Runtime.

use std::sync::{Arc, Mutex, PoisonError};

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::{DynTensorValueType, TensorElementType},
};

use super::{
    Bits,
    matrix::{Matrix, Shape},
    path::Path,
    product::Rows,
    row::Unit,
};
use crate::operator::input;

/// Multiplications of a call below which waking the other threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 18;
/// Rows from which on they are made into 8 bits on all threads.
const ROWS: usize = 4;
/// Bytes of panels of a task, about.
const TASK: usize = 1 << 15;
/// Far from where a size would overflow.
const MOST: i64 = 1 << 24;

/// `easel.MatMulPanels`.
pub(crate) struct Linear {
    path: Path,
    memory: Memory,
}

/// The rows of a call in 8 bits. A session's nodes run one after another, so that they share it.
type Memory = Arc<Mutex<Vec<Unit>>>;

impl Linear {
    /// By the best instructions that the machine has.
    pub(crate) fn new() -> Self {
        Self::on(Path::here().next().expect("one is there on every machine"))
    }

    pub(super) fn on(path: Path) -> Self {
        Self { path, memory: Memory::default() }
    }
}

impl Operator for Linear {
    type Kernel<'a> = Node;

    fn name(&self) -> &str {
        "MatMulPanels"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let (float, byte) = (TensorElementType::Float32, TensorElementType::Uint8);
        [OperatorInput::required(float), OperatorInput::required(byte), OperatorInput::optional(float)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<Node> {
        let shape = shape(context).map_err(ort::Error::new)?;
        let Ok(panels) = context.constant_input::<DynTensorValueType>(1) else {
            return Err(ort::Error::new("MatMulPanels' panels: expected constants, found values"));
        };
        // What is optional is held against the shape when it is used, as these are again.
        Matrix { shape, panels: panels.try_extract_tensor()?.1, bias: None }.check().map_err(ort::Error::new)?;
        Ok(Node { shape, path: self.path, memory: self.memory.clone() })
    }
}

/// What the attributes say.
fn shape(context: &KernelContext<'_>) -> Result<Shape, String> {
    let number = |name: &str| context.get::<i64>(name).ok_or(format!("MatMulPanels has no attribute {name}"));
    let size = |name: &str| match number(name)? {
        found @ 1..=MOST => Ok(found as usize),
        found => Err(format!("MatMulPanels' {name}: expected 1 … {MOST}, found {found}")),
    };
    let bits = match number("bits")? {
        4 => Bits::Four,
        8 => Bits::Eight,
        found => return Err(format!("MatMulPanels' bits: expected 4 or 8, found {found}")),
    };
    Ok(Shape { inputs: size("K")?, outputs: size("N")?, bits })
}

/// A node.
pub(crate) struct Node {
    shape: Shape,
    path: Path,
    memory: Memory,
}

impl Kernel for Node {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let Shape { inputs, outputs, .. } = self.shape;
        let (x, panels, bias) = (input(context, 0)?, input(context, 1)?, context.input(2)?);
        let matrix = Matrix {
            shape: self.shape,
            panels: panels.try_extract_tensor()?.1,
            bias: bias.as_ref().map(|bias| bias.try_extract_tensor().map(|(_, bias)| bias)).transpose()?,
        };
        let matrix = matrix.check().map_err(ort::Error::new)?;
        let (shape, x) = x.try_extract_tensor::<f32>()?;
        let Some((&width, before)) = shape.split_last().filter(|(width, _)| **width == inputs as i64) else {
            return Err(ort::Error::new(format!("MatMulPanels' x: expected [..., {inputs}], found {shape:?}")));
        };
        debug_assert_eq!(width as usize, inputs, "it was compared");
        let shape: Vec<i64> = before.iter().copied().chain([outputs as i64]).collect();
        let mut y = context.output(0, shape)?.ok_or_else(|| ort::Error::new("MatMulPanels has no output"))?;
        self.multiply(context, &matrix, x, y.try_extract_tensor_mut::<f32>()?.1)
    }
}

impl Node {
    /// `y` \[rows, outputs\] of `x` \[rows, inputs\].
    fn multiply(&self, context: &ComputeContext, matrix: &Matrix<'_>, x: &[f32], y: &mut [f32]) -> ort::Result<()> {
        let Shape { inputs, outputs, bits, .. } = self.shape;
        let (path, across, count) = (self.path, self.shape.units(), x.len() / inputs);
        let parallel = count * inputs * outputs >= PARALLEL_FROM;
        let each = |tasks: usize, parallel: bool, task: &(dyn Fn(usize) + Sync)| {
            if parallel {
                return context.par_for(tasks, 0, task);
            }
            (0..tasks).for_each(task);
            Ok(())
        };
        let mut units = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (room, there) = (path.rows(count) * across, units.len());
        units.resize(room.max(there), Unit::ZERO);
        units[count * across..room].fill(Unit::ZERO);
        let shared = Shared(units.as_mut_ptr());
        each(count, parallel && count >= ROWS, &|row| {
            // SAFETY: there are so many, and each task has its own.
            let units = unsafe { shared.part(row * across, across) };
            path.quantize(bits, &x[row * inputs..][..inputs], units);
        })?;
        let rows = Rows { units: &units[..room], across, count };
        let (panels, piece) = (self.shape.panels(), (TASK / self.shape.panel_bytes()).max(1));
        let results = Shared(y.as_mut_ptr());
        each(panels.div_ceil(piece), parallel, &|i| {
            let some = (i * piece, panels.min((i + 1) * piece));
            path.multiply(matrix, rows, some, |row, output, numbers: &[f32]| {
                // SAFETY: every row has so many outputs, and each task has its own.
                let place = unsafe { results.part(row * outputs + output, numbers.len()) };
                place.copy_from_slice(numbers);
            });
        })
    }
}

/// Memory that tasks on several threads fill part by part.
struct Shared<T>(*mut T);

// SAFETY: it gives out parts of plain numbers, each to one task.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// The memory has the part, and nobody else holds any of it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

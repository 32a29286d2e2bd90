//! The operator `easel.Shift`: part of every token is taken from its neighbours (dalle-pytorch, `PreShiftToken`).
//!
//! Inputs `x` f32 \[n, width\], `slots`, `positions`; output as `x`; attribute `shift` (an integer, which of the pool's shifts it is). With 2q the numbers that the
//! manifest says are shifted: an image row takes numbers 0 … q − 1 from the token above and q … 2q − 1 from the one to the left, zeros beyond the
//! grid's edge; a text row takes both from the token before it, zeros at the start. The rest of a row is its own.

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{Geometry, Pool, Shared, SharedPool, Tokens, input};

pub(super) struct Shift(pub(super) Shared);

impl Operator for Shift {
    type Kernel<'a> = Node;

    fn name(&self) -> &str {
        "Shift"
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [TensorElementType::Float32, TensorElementType::Int64, TensorElementType::Int64].map(OperatorInput::required)
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'a>(&self, context: &KernelContext<'a>) -> ort::Result<Node> {
        let geometry = self.0.geometry();
        let shift = context.get::<i64>("shift").ok_or_else(|| ort::Error::new("shift has no attribute shift"))?;
        let index = usize::try_from(shift).ok().filter(|&shift| shift < geometry.shifts).ok_or_else(|| {
            ort::Error::new(format!("shift's shift: expected less than {}, found {shift}", geometry.shifts))
        })?;
        self.0.nodes().shift[index] += 1;
        Ok(Node { pool: self.0.pool.clone(), geometry, index })
    }
}

pub(super) struct Node {
    pool: SharedPool,
    geometry: Geometry,
    index: usize,
}

impl Kernel for Node {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let (x, slots, positions) = (input(context, 0)?, input(context, 1)?, input(context, 2)?);
        let tokens = Tokens { slots: slots.try_extract_tensor()?.1, positions: positions.try_extract_tensor()?.1 };
        let mut pool = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tokens.check(&pool)?;
        let (_, x) = x.try_extract_tensor::<f32>()?;
        let width = x.len() / tokens.len().max(1);
        let x = tokens.numbers("x", x, width)?;
        if width < self.geometry.shift_width {
            let expected = format!("at least {}", self.geometry.shift_width);
            return Err(ort::Error::new(format!("shift's x: expected width {expected}, found {width}")));
        }
        let mut output = context.output(0, [tokens.len(), width])?;
        let output = output.as_mut().ok_or_else(|| ort::Error::new("shift has no output"))?;
        let (_, out) = output.try_extract_tensor_mut::<f32>()?;
        out.copy_from_slice(x);
        if width == 0 {
            return Ok(());
        }
        // Row by row, since the pool keeps no more of an image than the rows that come next need.
        for (row, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let (slot, position) = tokens.at(row);
            pool.write_shifted(slot, self.index, position, &x[..self.geometry.shift_width]);
            self.take(&pool, (slot, position), &mut out[..self.geometry.shift_width]);
        }
        Ok(())
    }
}

impl Node {
    /// Overwrites what a row takes from others.
    fn take(&self, pool: &Pool, (slot, position): (usize, usize), out: &mut [f32]) {
        let Geometry { text_length, columns, shift_width, .. } = self.geometry;
        let before = || position.checked_sub(1).filter(|&before| before >= pool.first(slot));
        let [above, left] = match position.checked_sub(text_length) {
            None => [before(), before()],
            Some(q) => [(q >= columns).then(|| position - columns), (q % columns > 0).then(|| position - 1)],
        };
        let (first, second) = out.split_at_mut(shift_width / 2);
        for (out, from, start) in [(first, above, 0), (second, left, shift_width / 2)] {
            match from {
                Some(from) => out.copy_from_slice(&pool.shifted(slot, self.index, from)[start..start + out.len()]),
                None => out.fill(0.0),
            }
        }
    }
}

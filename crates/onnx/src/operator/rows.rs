//! What comes into an operator and what goes out.

use ort::{
    operator::ComputeContext,
    value::{ValueRef, ValueRefMut},
};

use crate::pool::Pool;

pub(super) fn output<'a>(context: &'a ComputeContext, shape: [usize; 2]) -> ort::Result<ValueRefMut<'a>> {
    context.output(0, shape)?.ok_or_else(|| ort::Error::new("the operator has no output"))
}

pub(crate) fn input<'a>(context: &'a ComputeContext, i: usize) -> ort::Result<ValueRef<'a>> {
    context.input(i)?.ok_or_else(|| ort::Error::new(format!("the operator has no input {i}")))
}

/// Which token every row is.
pub(super) struct Tokens<'a> {
    pub(super) slots: &'a [i64],
    pub(super) positions: &'a [i64],
}

impl Tokens<'_> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Slot and position.
    pub(super) fn at(&self, row: usize) -> (usize, usize) {
        (self.slots[row] as usize, self.positions[row] as usize)
    }

    /// The engine gives good ones, but the graph lies between.
    pub(super) fn check(&self, pool: &Pool) -> ort::Result<()> {
        let good = |(&slot, &position): (&i64, &i64)| pool.holds(slot, position);
        if self.slots.len() == self.positions.len() && self.slots.iter().zip(self.positions).all(good) {
            return Ok(());
        }
        Err(ort::Error::new("the operator's slots and positions are not those of the pool"))
    }

    /// `numbers`, if they are so many for each row.
    pub(super) fn numbers<'a>(&self, name: &str, numbers: &'a [f32], width: usize) -> ort::Result<&'a [f32]> {
        if numbers.len() == self.len() * width {
            return Ok(numbers);
        }
        let shape = format!("{} numbers for {} rows", numbers.len(), self.len());
        Err(ort::Error::new(format!("the operator's {name}: expected width {width}, found {shape}")))
    }
}

/// A buffer that tasks on several threads fill chunk by chunk.
pub(super) struct Chunks {
    pub(super) start: *mut f32,
    pub(super) width: usize,
}

// SAFETY: it gives out chunks of a buffer of plain numbers, each to one task.
unsafe impl Sync for Chunks {}
// SAFETY: as above.
unsafe impl Send for Chunks {}

impl Chunks {
    /// # Safety
    /// The buffer has chunk `i`, and nobody else holds it.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn chunk(&self, i: usize) -> &mut [f32] {
        // SAFETY: the caller's promise; chunks do not overlap.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.width), self.width) }
    }
}

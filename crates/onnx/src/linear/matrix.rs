//! A matrix in panels, where ONNX Runtime keeps it.
//!
//! A panel is sixteen rows of the matrix, which give sixteen outputs. Its units, each of 32 inputs, follow one another; of a unit there are first the codes of inputs
//! 0 … 3 of all outputs, output by output, then those of inputs 4 … 7, and so on: what a register multiplies at once lies side by side. Codes of 8 bits are bytes; of 4
//! bits, a byte has the code of inputs 0 … 15 in its lower half, and of the same place in inputs 16 … 31 in its upper one. Behind all codes come the scales, the upper
//! 16 bits of 32-bit floats, unit by unit one of each output. A number is (code − 2^(bits − 1)) · scale. Rows and inputs that the last ones lack are zeros.

use super::{Bits, OUTPUTS, UNIT};

/// Sizes and kind of a matrix \[outputs, inputs\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bits: Bits,
}

impl Shape {
    pub(super) fn units(self) -> usize {
        self.inputs.div_ceil(UNIT)
    }

    pub(super) fn panels(self) -> usize {
        self.outputs.div_ceil(OUTPUTS)
    }

    /// Bytes of a unit's codes.
    const fn codes_bytes(self) -> usize {
        OUTPUTS * UNIT * self.bits.count() / 8
    }

    pub(super) fn panel_bytes(self) -> usize {
        self.units() * (self.codes_bytes() + size_of::<Scales>())
    }
}

/// The upper halves of the scales of a unit, little-endian.
pub(super) type Scales = [[u8; 2]; OUTPUTS];

#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) shape: Shape,
    /// \[panels, bytes of a panel\]
    pub(super) panels: &'a [u8],
    /// \[outputs\]
    pub(super) bias: Option<&'a [f32]>,
}

impl<'a> Matrix<'a> {
    /// Fails unless everything is as large as the shape has it.
    pub(super) fn check(self) -> Result<Self, String> {
        let expected = self.shape.panels().saturating_mul(self.shape.panel_bytes());
        if self.panels.len() != expected {
            return Err(format!("panels: expected {expected} bytes, found {}", self.panels.len()));
        }
        match self.bias {
            Some(bias) if bias.len() != self.shape.outputs => {
                Err(format!("bias: expected {} numbers, found {}", self.shape.outputs, bias.len()))
            }
            _ => Ok(self),
        }
    }

    pub(super) fn panel(&self, i: usize) -> Panel<'a> {
        let bytes = self.shape.panel_bytes();
        let (codes, scales) = self.panels[i * bytes..][..bytes].split_at(self.shape.units() * self.shape.codes_bytes());
        Panel { codes, scales: scales.as_chunks().0.as_chunks().0 }
    }
}

/// Sixteen rows of the matrix.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// Of all units.
    pub(super) codes: &'a [u8],
    /// Unit by unit.
    pub(super) scales: &'a [Scales],
}

//! A matrix in blocks, where ONNX Runtime keeps it.

use super::{Bits, CHUNK, LANES, UNIT, UNITS};

/// Sizes and kind of a matrix \[outputs, inputs\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bits: Bits,
    /// Numbers that share a scale: a multiple of [`UNIT`].
    pub(super) block: usize,
}

impl Shape {
    /// Blocks of a row; the last may be filled up.
    pub(super) fn blocks(self) -> usize {
        self.inputs.div_ceil(self.block)
    }

    /// Bytes of a row's codes.
    pub(super) fn row_bytes(self) -> usize {
        self.blocks() * self.block * self.bits.count() / 8
    }

    /// Bytes of a row's zero points.
    pub(super) fn zero_bytes(self) -> usize {
        (self.blocks() * self.bits.count()).div_ceil(8)
    }

    /// Chunks of a row of activations.
    pub(super) fn chunks(self) -> usize {
        self.inputs.div_ceil(CHUNK)
    }
}

/// The numbers of a matrix: (code − zero point) · scale of its block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) shape: Shape,
    /// \[outputs, bytes of a row\]
    pub(super) codes: &'a [u8],
    /// \[outputs, blocks\]
    pub(super) scales: &'a [f32],
    /// \[outputs, bytes of a row's zero points\], two in a byte of 4-bit codes, the lower bits first.
    pub(super) zeros: Option<&'a [u8]>,
    pub(super) bias: Option<&'a [f32]>,
}

impl<'a> Matrix<'a> {
    /// Fails unless everything is as large as the shape has it.
    pub(super) fn check(self) -> Result<Self, String> {
        let Shape { outputs, .. } = self.shape;
        let fits = |name, found: usize, each: usize| match outputs.checked_mul(each) {
            Some(expected) if expected == found => Ok(()),
            expected => Err(format!("{name}: expected {} numbers, found {found}", expected.unwrap_or(usize::MAX))),
        };
        fits("codes", self.codes.len(), self.shape.row_bytes())?;
        fits("scales", self.scales.len(), self.shape.blocks())?;
        self.zeros.map_or(Ok(()), |zeros| fits("zero_points", zeros.len(), self.shape.zero_bytes()))?;
        self.bias.map_or(Ok(()), |bias| fits("bias", bias.len(), 1))?;
        Ok(self)
    }

    /// The codes of an output.
    #[inline(always)]
    pub(super) fn codes(&self, output: usize) -> &'a [u8] {
        let bytes = self.shape.row_bytes();
        &self.codes[output * bytes..][..bytes]
    }

    /// The scales of an output's chunk; zeros behind the last.
    #[inline(always)]
    pub(super) fn scales(&self, output: usize, chunk: usize) -> [f32; UNITS] {
        let start = output * self.shape.blocks() + chunk * UNITS;
        match self.scales.get(start..start + UNITS) {
            Some(&[a, b, c, d]) if self.shape.block == UNIT && (chunk + 1) * CHUNK <= self.shape.inputs => [a, b, c, d],
            _ => self.spread_scales(output, chunk),
        }
    }

    /// Where blocks are larger than units, or the chunk is not whole.
    #[inline(never)]
    fn spread_scales(&self, output: usize, chunk: usize) -> [f32; UNITS] {
        let blocks = self.shape.blocks();
        let scales = &self.scales[output * blocks..][..blocks];
        let of = |unit: usize| scales.get((chunk * UNITS + unit) * UNIT / self.shape.block);
        std::array::from_fn(|unit| of(unit).copied().unwrap_or(0.0))
    }

    /// Zero points of some outputs' chunk less the usual one: of unit u and output n at 4u + n.
    #[inline(never)]
    pub(super) fn zeros(&self, zeros: &[u8], outputs: [usize; 4], chunk: usize) -> [i32; LANES] {
        let bytes = self.shape.zero_bytes();
        let of = |lane: usize| {
            let block = (chunk * UNITS + lane / 4) * UNIT / self.shape.block;
            let zeros = &zeros[outputs[lane % 4] * bytes..][..bytes];
            let zero = match self.shape.bits {
                Bits::Four => zeros.get(block / 2).map(|byte| byte >> (block % 2 * 4) & 15),
                Bits::Eight => zeros.get(block).copied(),
            };
            zero.map_or(0, |zero| i32::from(zero) - self.shape.bits.zero())
        };
        std::array::from_fn(of)
    }
}

//! Products of rows of activations with rows of a matrix, in registers of the machine or wherever the compiler puts them.
//!
//! Whatever computes it, a number of the result is this: of every unit the sum of the products of codes, less its zero point's part, as a whole number; that as a float times
//! the weights' scale; and that times the activations' scale, added to the sum over the units before it with one rounding; in the end the bias. Whole numbers are exact in any
//! order, and nothing else has another order anywhere: so all ways give the same bits.

use super::{
    Bits, FOURS, OUTPUTS,
    matrix::{Matrix, Panel},
    row::Unit,
};

/// How far ahead of what is read memory is asked for.
const AHEAD: usize = 4096;
const LINE: usize = 64;

/// Rows of activations, so many units each.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) units: &'a [Unit],
    pub(super) across: usize,
    /// How many there are. Behind them there may be more that only fill a tile up.
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    /// Units of row `i` and all behind it.
    pub(super) fn from(&self, i: usize) -> &'a [Unit] {
        &self.units[i * self.across..]
    }
}

/// Registers of some kind.
pub(super) trait Machine {
    /// Rows that are computed together at most, for their sums and a unit's codes to fit into the registers.
    const ROWS: usize;

    /// The sums of a panel and the first `ROWS` rows of `rows`, each of `across` units. `ahead` is called before each unit of the panel.
    fn sums<const BITS: usize, const ROWS: usize>(
        panel: Panel<'_>,
        rows: &[Unit],
        across: usize,
        ahead: impl Fn(usize),
    ) -> [[f32; OUTPUTS]; ROWS];

    /// Asks for memory that will be read soon, if it is there.
    fn prefetch(address: *const u8);
}

/// Where results go: `put(row, output, numbers)`, some neighbouring outputs of a row.
pub(super) trait Put: Fn(usize, usize, &[f32]) {}

impl<F: Fn(usize, usize, &[f32])> Put for F {}

/// All rows by panels `first` … `last` − 1. All rows meet a panel before the next one, so that it is fetched from memory once.
#[inline(always)]
pub(super) fn multiply<M: Machine>(matrix: &Matrix<'_>, rows: Rows<'_>, panels: (usize, usize), put: impl Put) {
    match matrix.shape.bits {
        Bits::Four => with_bits::<M, 4>(matrix, rows, panels, put),
        Bits::Eight => with_bits::<M, 8>(matrix, rows, panels, put),
    }
}

#[inline(always)]
fn with_bits<M: Machine, const BITS: usize>(
    matrix: &Matrix<'_>,
    rows: Rows<'_>,
    (first, last): (usize, usize),
    put: impl Put,
) {
    for panel in first..last {
        let mut row = 0;
        while row < rows.count {
            row += match M::ROWS.min(rows.count - row) {
                1 => some::<M, BITS, 1>(matrix, rows, row, panel, &put),
                2 => some::<M, BITS, 2>(matrix, rows, row, panel, &put),
                3 => some::<M, BITS, 3>(matrix, rows, row, panel, &put),
                4 => some::<M, BITS, 4>(matrix, rows, row, panel, &put),
                5 => some::<M, BITS, 5>(matrix, rows, row, panel, &put),
                6 => some::<M, BITS, 6>(matrix, rows, row, panel, &put),
                7 => some::<M, BITS, 7>(matrix, rows, row, panel, &put),
                _ => some::<M, BITS, 8>(matrix, rows, row, panel, &put),
            };
        }
    }
}

/// Rows `row` … `row` + ROWS − 1 by a panel.
#[inline(always)]
fn some<M: Machine, const BITS: usize, const ROWS: usize>(
    matrix: &Matrix<'_>,
    rows: Rows<'_>,
    row: usize,
    i: usize,
    put: &impl Put,
) -> usize {
    let panel = matrix.panel(i);
    // The first rows ask for what follows: panels lie behind one another, and so do units, each of the same number of bytes.
    let (start, each) = (panel.codes.as_ptr(), matrix.shape.panel_bytes() / rows.across);
    let ahead = |unit: usize| {
        if row == 0 {
            for line in (unit * each..(unit + 1) * each).step_by(LINE) {
                M::prefetch(start.wrapping_add(AHEAD + line));
            }
        }
    };
    let sums = M::sums::<BITS, ROWS>(panel, rows.from(row), rows.across, ahead);
    for (r, mut numbers) in sums.into_iter().enumerate() {
        finish(matrix, row + r, i, &mut numbers, put);
    }
    ROWS
}

/// Adds the bias to a row's sums of panel `i`, and puts them where they go.
#[inline(always)]
pub(super) fn finish(matrix: &Matrix<'_>, row: usize, i: usize, numbers: &mut [f32; OUTPUTS], put: &impl Put) {
    let output = i * OUTPUTS;
    if let Some(bias) = matrix.bias {
        numbers.iter_mut().zip(&bias[output..]).for_each(|(number, bias)| *number += bias);
    }
    put(row, output, &numbers[..OUTPUTS.min(matrix.shape.outputs - output)]);
}

/// No registers.
pub(super) struct Arrays;

impl Machine for Arrays {
    const ROWS: usize = 4;

    #[inline(always)]
    fn sums<const BITS: usize, const ROWS: usize>(
        panel: Panel<'_>,
        rows: &[Unit],
        across: usize,
        _: impl Fn(usize),
    ) -> [[f32; OUTPUTS]; ROWS] {
        let mut sums = [[0.0; OUTPUTS]; ROWS];
        let bytes = panel.codes.len() / across;
        for (i, (codes, scales)) in panel.codes.chunks_exact(bytes).zip(panel.scales).enumerate() {
            let mut weights = [[[0; 4]; OUTPUTS]; FOURS];
            for (four, weights) in weights.iter_mut().enumerate() {
                for (weight, code) in weights.as_flattened_mut().iter_mut().zip(&codes[four * 64 % bytes..]) {
                    *weight = if BITS == 8 { *code } else { *code >> (four / 4 * 4) & 15 };
                }
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let unit = &rows[r * across + i];
                for (output, sum) in sums.iter_mut().enumerate() {
                    let of = |(weights, codes): (&[[u8; 4]; OUTPUTS], &[i8; 4])| -> i32 {
                        weights[output]
                            .iter()
                            .zip(codes)
                            .map(|(weight, code)| i32::from(*weight) * i32::from(*code))
                            .sum()
                    };
                    let total = unit.correction + weights.iter().zip(&unit.codes).map(of).sum::<i32>();
                    let scale = f32::from_bits(u32::from(u16::from_le_bytes(scales[output])) << 16);
                    *sum = (total as f32 * scale).mul_add(unit.scale, *sum);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}
}
